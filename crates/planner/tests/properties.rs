//! Properties of plans after any history of commands, reports, crashes, silence and restarts in a
//! small cluster. `PROPTEST_CASES` sets the number of histories.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../model/tests/generate/mod.rs"]
mod generate;
mod history;
mod oracle;

pub(crate) use ::model;

use history::{Event, Run, event};
use model::{Command, Document, Key, Proposal, State, Step, Timestamp};
use muster_planner::scenario::World;
use muster_planner::{dry_run, plan};
use proptest::collection::vec;
use proptest::prelude::*;

/// A history that begins with nodes and services.
fn histories() -> impl Strategy<Value = Vec<Event>> {
    let beginning = vec(history::join(), 1..4);
    let user_commands = vec(generate::user_command().prop_map(Event::UserCommand), 1..4);
    (beginning, user_commands, vec(event(), 0..60)).prop_map(|(mut all, user_commands, rest)| {
        all.extend(user_commands);
        all.extend(rest);
        all
    })
}

proptest! {
    /// `oracle` has the properties that are checked after each event.
    #[test]
    fn plans_preserve_the_invariants(history in histories()) {
        let mut run = Run::new();
        for event in history {
            run.apply_event(event)?;
        }
    }

    #[test]
    fn every_history_settles_once_faults_stop(history in histories()) {
        let mut run = Run::new();
        for event in history {
            run.apply_event_unchecked(event);
        }
        run.heal();
        oracle::has_settled(&run.world)?;
    }

    /// Each deployment ends by itself or waits for a user, even if no fault is repaired.
    #[test]
    fn every_deployment_ends_or_waits_for_a_user(history in histories()) {
        let mut run = Run::new();
        for event in history {
            run.apply_event_unchecked(event);
        }
        run.pass_deadlines();
        oracle::no_deployment_goes_on(&run.world)?;
    }

    #[test]
    fn a_settled_service_makes_no_moves(history in histories(), idle in vec(history::idle(), 1..20)) {
        let mut run = Run::new();
        for event in history {
            run.apply_event_unchecked(event);
        }
        run.heal();
        for event in idle {
            let shown = format!("{event:?}");
            let before = run.world.state.meta();
            run.idle(event);
            prop_assert_eq!(before, run.world.state.meta());
            prop_assert_eq!(run.world.plan().steps, vec![], "after {}", shown);
        }
    }

    #[test]
    fn the_steps_of_a_dry_run_can_be_applied(history in histories()) {
        let mut run = Run::new();
        for event in history {
            run.apply_event_unchecked(event);
        }
        let World { mut state, observed, now, .. } = run.world;
        let dry_run = dry_run(state.clone(), observed, now);
        for step in dry_run.waves.into_iter().flatten() {
            let shown = format!("{step:?}");
            let outcome = state.apply(Proposal::step(step), now);
            prop_assert!(outcome.is_ok(), "{}: {:?}", shown, outcome);
        }
        for service in state.services() {
            let waits = dry_run.waits.iter().any(|(id, _)| *id == service.id);
            let full = service.placements.len() == service.wanted() as usize;
            let arrived = service.deployment.is_none() && full;
            prop_assert!(waits || arrived, "{:?}\n{:?}", service, dry_run.waits);
        }
    }

    #[test]
    fn the_order_of_insertion_does_not_matter(
        nodes in vec(history::join(), 1..4),
        specs in vec(generate::spec(), 1..5),
        shuffle in any::<u64>(),
    ) {
        let place = |reverse: bool| {
            let mut world = World::new();
            let (mut nodes, mut specs) = (nodes.clone(), specs.clone());
            // Of several documents for one service, or joins of one node, the last one counts.
            nodes.sort_by_key(|event| format!("{event:?}"));
            specs.sort_by(|a, b| a.service.cmp(&b.service));
            specs.dedup_by(|a, b| a.service == b.service);
            if reverse {
                let by = shuffle as usize % specs.len();
                specs.rotate_left(by);
            }
            for event in nodes {
                if let Event::Join(node, agent) = event {
                    drop(world.join(&node, agent));
                }
            }
            let documents = specs.into_iter().map(Document::service);
            drop(world.apply(Command::Apply(documents.collect())));
            world.plan()
        };
        prop_assert_eq!(place(false), place(true));
    }

    #[test]
    fn a_reloaded_state_has_the_same_plan(history in histories()) {
        let mut run = Run::new();
        for event in history {
            run.apply_event_unchecked(event);
        }
        let World { state, observed, now, .. } = &run.world;
        let loaded = reload(state);
        prop_assert_eq!(plan(&loaded, observed, *now), plan(state, observed, *now));
    }
}

fn reload(state: &State) -> State {
    let mut keys = vec![Key::Meta];
    keys.extend(state.cluster().map(|_| Key::Cluster));
    keys.extend(state.nodes().map(|node| Key::Node(node.id.clone())));
    keys.extend(state.deployments().map(|deployment| Key::Deployment(deployment.id)));
    keys.extend(state.gateways().map(|gateway| Key::Gateway(gateway.gateway.clone())));
    for service in state.services() {
        let id = &service.id;
        keys.push(Key::Service(id.clone()));
        keys.extend(service.revisions.keys().map(|number| Key::Revision(id.clone(), *number)));
        let replicas = service.placements.keys();
        keys.extend(replicas.map(|replica| {
            Key::Instance(model::InstanceId { service: id.clone(), replica: *replica })
        }));
    }
    State::load(keys.into_iter().rev().map(|key| (key.clone(), state.object(&key).unwrap())))
}

/// A wake-up in the past would make the server plan in an endless loop.
#[test]
fn a_slow_agent_never_causes_a_wake_time_in_the_past() {
    let mut world = World::new();
    let spec = r#"{"service": "/a", "process": {"command": "serve"}}"#;
    let spec = serde_json::from_str(spec).unwrap();
    drop(world.join(&"n1".parse().unwrap(), history::big_agent()));
    drop(world.apply(Command::Apply(vec![Document::service(spec)])));
    let steps = world.plan().steps;
    assert!(matches!(steps[..], [Step::Progress { .. }, Step::Place { .. }]));
    drop(world.adopt(&world.plan()));
    world.drop_observations();
    // Long after the server started, the agent registers but has not sent a complete report yet.
    world.now = Timestamp(world.now.0 + 29_000);
    let agent = model::Agent { seen_at: world.now, synced: false };
    world.observed.agents.insert("n1".parse().unwrap(), agent);
    world.now = Timestamp(world.now.0 + 20_000);
    let plan = world.plan();
    assert!(plan.steps.is_empty());
    assert!(plan.wake_at.is_some_and(|at| at > world.now), "{:?}", plan.wake_at);
}
