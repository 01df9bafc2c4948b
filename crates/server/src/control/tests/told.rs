//! One history each for what has gone wrong, or could.

use std::collections::BTreeSet;

use api::{GatewayReport, Report};
use model::{
    Command, Deployment, Millis, NodeId, Refusal, Registration, SILENT_AFTER, Stage, Status, Steer,
    Timestamp,
};

use super::super::record::Record;
use super::super::{Answer, Effect, Event, Trouble};
use super::world::World;
use super::{gateway, service, spec};
use crate::control::EVENTS_KEPT;

const ALL: (&str, &str) = ("100%", "100%");

fn settled() -> World {
    let mut world = World::new(3, 2);
    world.request(Command::Apply(vec![spec("/a", 2, 1, ALL), gateway("/a")]));
    world.arrive();
    world
}

fn newest(world: &World) -> &Deployment {
    world.core.durable.deployments().next_back().unwrap()
}

#[test]
fn what_cannot_be_stored_has_not_happened() {
    let mut world = settled();
    let (before, told) = (world.disk.objects.clone(), world.told);
    let scale = |instances| Command::Scale { service: service("/a"), instances };
    let first = world.request(scale(5));
    let second = world.request(scale(6));
    assert!(world.waiting.contains(&first) && world.waiting.contains(&second));
    world.store(false);
    // The one that came while the first was under way is tried by itself.
    assert!(matches!(world.outcomes[&first], Err(Trouble::Storage(_))));
    assert!(world.waiting.contains(&second));
    world.store(false);
    assert!(matches!(world.outcomes[&second], Err(Trouble::Storage(_))));
    assert_eq!((before, told), (world.disk.objects.clone(), world.told));

    let third = world.request(scale(7));
    world.arrive();
    assert!(world.outcomes[&third].is_ok());
    assert_eq!(world.core.durable.service(&service("/a")).unwrap().placements.len(), 7);
}

#[test]
fn a_start_reported_by_a_clock_that_is_ahead_counts_from_when_it_was_heard_of() {
    let mut world = settled();
    let agent = world.agents.iter().position(|agent| !agent.instances.is_empty()).unwrap();
    let (instance, local) = world.agents[agent].instances.iter().next().unwrap();
    let (instance, mut status) = (instance.clone(), local.status.clone());
    status.run += 1;
    status.started_at = Some(world.at().after(Millis::secs(3600)));
    let heard_at = world.at();
    for _ in 0..2 {
        let report = Report {
            node: world.agents[agent].node.clone(),
            life: 0,
            number: 0,
            generation: 0,
            whole: false,
            instances: vec![(instance.clone(), status.clone())],
        };
        let ticket = world.ticket();
        world.tell(Event::Report { ticket, report });
        let observed = world.core.observed.status(&instance.service, instance.replica).unwrap();
        assert_eq!(observed.started_at, Some(heard_at));
        world.now += 5;
    }
}

#[test]
fn a_deployment_does_not_fail_by_time_in_which_nobody_watched() {
    for stood_still in [true, false] {
        let mut world = settled();
        world.request(Command::Apply(vec![spec("/a", 2, 2, ALL)]));
        world.store(true);
        // Its deadline passes while the server stands still, or is away.
        world.now += 600_000;
        match stood_still {
            true => world.bring(Event::Absent { span: Millis::secs(600) }),
            false => world.kill(false),
        }
        world.arrive();
        assert!(
            matches!(newest(&world).stage, Stage::Succeeded { .. }),
            "{:?}",
            newest(&world).stage
        );
    }
}

#[test]
fn a_full_disk_is_not_asked_again_and_again() {
    let mut world = settled();
    let agent = world.agents.iter().position(|agent| !agent.instances.is_empty()).unwrap();
    world.hurt(agent, 0, false);
    world.report(agent);
    let mut tries = 0;
    for _ in 0..40 {
        tries += usize::from(world.storing.is_some());
        world.store(false);
        world.pass(100);
    }
    assert!((3..=5).contains(&tries), "{tries} tries in four seconds");
    world.arrive();
}

#[test]
fn routes_follow_what_is_observed_while_the_disk_is_slow() {
    let mut world = settled();
    let table = world.routes.as_ref().unwrap().generation;
    world.request(Command::Scale { service: service("/a"), instances: 3 });
    assert!(world.storing.is_some());
    let agent = world.agents.iter().position(|agent| !agent.instances.is_empty()).unwrap();
    world.hurt(agent, 0, false);
    world.report(agent);
    assert!(world.storing.is_some());
    assert!(world.routes.as_ref().unwrap().generation > table);
}

#[test]
fn what_is_published_after_the_lead_was_taken_anew_is_of_its_epoch() {
    let mut world = settled();
    let (table, epoch) = (world.routes.clone().unwrap(), world.core.durable.meta().epoch);
    world.request(Command::Lead);
    world.store(true);
    assert_eq!(world.core.durable.meta().epoch, epoch + 1);
    assert_eq!(world.routes, Some(table), "nothing has changed for those who follow");
    world.request(Command::Scale { service: service("/a"), instances: 3 });
    world.arrive();
    assert_eq!(world.routes.as_ref().unwrap().generation >> 32, epoch + 1);
}

#[test]
fn a_sign_of_life_costs_nothing() {
    let mut world = settled();
    let node: NodeId = world.agents[0].node.clone();
    let report =
        Report { node, life: 0, number: 0, generation: 0, whole: false, instances: Vec::new() };
    let mut effects = world.core.handle(Event::Report { ticket: 1, report }, world.at());
    effects.extend(world.core.handle(Event::Turn, world.at()));
    let costs = |effect: &Effect| !matches!(effect, Effect::Answer { .. } | Effect::WakeAt(_));
    assert!(!effects.iter().any(costs), "{effects:?}");
}

#[test]
fn strangers_leave_nothing_behind() {
    let mut world = settled();
    let node: NodeId = "stranger".parse().unwrap();
    let report = Report {
        node: node.clone(),
        life: 0,
        number: 0,
        generation: 0,
        whole: true,
        instances: Vec::new(),
    };
    let generation = u64::MAX;
    let of_gateway =
        GatewayReport { node: node.clone(), generation, busy: [].into(), failed: Vec::new() };
    let mut effects = world.core.handle(Event::Report { ticket: 1, report }, world.at());
    let event = Event::GatewayReport { ticket: 2, report: of_gateway };
    effects.extend(world.core.handle(event, world.at()));
    let is_refused = |effect: &Effect| {
        matches!(effect, Effect::Answer { answer: Answer::Report(Err(Trouble::Refused(_))), .. })
    };
    assert!(effects.len() == 2 && effects.iter().all(is_refused), "{effects:?}");
    assert!(!world.core.observed.agents.contains_key(&node));
    assert!(!world.core.observed.gateways.contains_key(&node));

    // Nor does a node that was removed.
    let node = world.gateways[1].node.clone();
    world.gateways[1].reachable = false;
    world.request(Command::RemoveNode(node.clone()));
    world.store(true);
    assert!(!world.core.observed.gateways.contains_key(&node));
}

#[test]
fn changed_checks_reach_agents_also_when_a_rollout_goes_back() {
    let mut world = settled();
    // The same instances, checked otherwise.
    let model::Document::Service(mut changed) = spec("/a", 2, 1, ALL) else { unreachable!() };
    changed.health.clear();
    changed.instances = 3;
    world.request(Command::Apply(vec![model::Document::Service(changed)]));
    world.store(true);
    let generations = |world: &World| world.assignments.clone();
    let before = generations(&world);
    let deployment = newest(&world).id;
    world.request(Command::Steer { deployment, how: Steer::Abort });
    world.store(true);
    let service = world.core.durable.service(&service("/a")).unwrap().clone();
    assert_eq!(service.spec().health.len(), 1);
    for placement in service.placements.values() {
        assert!(world.assignments[&placement.node] > before[&placement.node]);
    }
}

#[test]
fn numbers_of_events_rise_over_kills_that_left_nothing() {
    let mut world = settled();
    for _ in 0..5 {
        world.hurt(0, 0, false);
        // Observed, told, and not stored when the server is killed: `check_told` watches.
        world.report(0);
        world.kill(false);
    }
    world.arrive();
}

#[test]
fn old_events_are_forgotten_and_only_they() {
    let mut record = Record::new([]);
    let mut stored = BTreeSet::new();
    let event = || model::Event {
        at: Timestamp(0),
        about: model::About::Instance("/a~0.1".parse().unwrap()),
        what: model::What::Running { run: 1 },
    };
    let mut effects = Vec::new();
    for round in 0..30 {
        // While nothing can be stored, no more is told than a restart leaves room for.
        (0..2_000).for_each(|_| record.notice(event(), Timestamp(0), &mut effects));
        assert!(record.told() - stored.last().copied().unwrap_or(0) <= 1_000);
        let (brought_about, batched, forgotten) = record.store((0..100).map(|_| event()).collect());
        record.notice(event(), Timestamp(0), &mut effects);
        if round % 3 == 0 {
            record.not_stored(Timestamp(0), &mut effects);
            continue;
        }
        for number in &forgotten {
            assert!(stored.remove(number), "{number} is forgotten twice");
        }
        stored.extend(batched.iter().map(|event| event.number));
        record.stored(brought_about, Timestamp(0), &mut effects);
    }
    let told = effects.iter().map(|effect| match effect {
        Effect::Tell(event) => event.number,
        other => panic!("{other:?}"),
    });
    assert!(told.is_sorted_by(|a, b| a < b));
    assert!(record.told() > EVENTS_KEPT as u64 + 1_000);
    assert_eq!(stored.len(), EVENTS_KEPT);
}

#[test]
fn a_gateway_that_has_just_registered_is_waited_for() {
    let mut world = settled();
    // It was away for so long that nobody waits for its word.
    world.gateways[0].reachable = false;
    world.pass(60_000);
    world.request(Command::Scale { service: service("/a"), instances: 1 });
    world.gateways[0].reachable = true;
    let node = world.gateways[0].node.clone();
    world.request(Command::Register(Registration { node, address: "h".into(), agent: None }));
    // It follows at once, and has the instance that leaves in its table.
    world.switch(0, false);
    world.store(true);
    world.arrive();
}

#[test]
fn a_report_that_was_overtaken_on_its_way_is_not_believed() {
    let mut world = settled();
    let agent = world.agents.iter().position(|agent| !agent.instances.is_empty()).unwrap();
    let (instance, local) = world.agents[agent].instances.iter().next().unwrap();
    let (instance, status) = (instance.clone(), local.status.clone());
    let node = world.agents[agent].node.clone();
    let mut tell = |life: u64, number: u64, whole: bool, run: u32| {
        let status = Status { run, ..status.clone() };
        let instances = vec![(instance.clone(), status)];
        let report = Report { node: node.clone(), life, number, generation: 0, whole, instances };
        let ticket = world.ticket();
        let at = world.at();
        let mut effects = world.core.handle(Event::Report { ticket, report }, at);
        let reply = effects.pop();
        let Some(Effect::Answer { answer: Answer::Report(Ok(reply)), .. }) = reply else {
            panic!("a report is answered: {reply:?}");
        };
        let known = world.core.observed.status(&instance.service, instance.replica);
        (known.map(|status| status.run), reply.resync)
    };
    assert_eq!(tell(7, 1, true, 5), (Some(5), false));
    assert_eq!(tell(7, 3, false, 6), (Some(6), false));
    assert_eq!(tell(7, 2, false, 5), (Some(6), false), "it comes late");
    assert_eq!(tell(7, 3, false, 5), (Some(6), false), "it comes twice");
    assert!(tell(8, 1, false, 7).1, "what another life did not tell is not known");
    assert_eq!(tell(8, 2, true, 7), (Some(7), false));
}

#[test]
fn a_second_agent_of_a_node_is_refused_while_the_first_is_alive() {
    let mut world = settled();
    let node = world.agents[0].node.clone();
    let all = world.registrations().into_iter();
    let own = all.filter(|r| r.node == node).find(|r| r.agent.is_some()).unwrap();
    let register = |world: &mut World, id: &str| {
        let mut registration = own.clone();
        registration.agent.as_mut().unwrap().id = id.into();
        let ticket = world.request(Command::Register(registration));
        while world.storing.is_some() {
            world.store(true);
        }
        world.outcomes.remove(&ticket).unwrap()
    };
    assert!(register(&mut world, "first").is_ok());
    let refused = register(&mut world, "second");
    let Err(Trouble::Refused(Refusal::Conflict { message })) = refused else {
        panic!("{refused:?}")
    };
    assert!(message.starts_with("another agent calls itself"), "{message}");
    // The same one may say as often as it likes who it is.
    assert!(register(&mut world, "first").is_ok());
    world.agents[0].reachable = false;
    world.pass(SILENT_AFTER.0);
    assert!(register(&mut world, "second").is_ok(), "the first is gone");
}
