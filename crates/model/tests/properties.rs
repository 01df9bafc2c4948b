//! The invariants of the state, checked on histories of commands of every kind, valid or not.
//! `PROPTEST_CASES` sets the number of histories.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod generate;

use std::collections::BTreeMap;

use muster_model as model;

use model::{
    Command, Document, Given, Goal, Key, Object, Placement, Proposal, Stage, State, Steer, Step,
    Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// All objects that must be stored.
fn objects(state: &State) -> BTreeMap<Key, Object> {
    let mut keys = vec![Key::Meta];
    keys.extend(state.cluster().map(|_| Key::Cluster));
    keys.extend(state.nodes().map(|node| Key::Node(node.id.clone())));
    keys.extend(state.deployments().map(|deployment| Key::Deployment(deployment.id)));
    keys.extend(state.gateways().map(|gateway| Key::Gateway(gateway.gateway.clone())));
    keys.extend(
        state
            .objects()
            .map(|(key, _)| key)
            .filter(|key| matches!(key, Key::Bundle(..) | Key::Request(_))),
    );
    for service in state.services() {
        let id = &service.id;
        keys.push(Key::Service(id.clone()));
        keys.extend(service.revisions.keys().map(|number| Key::Revision(id.clone(), *number)));
        let replicas = service.placements.keys();
        keys.extend(replicas.map(|replica| {
            Key::Instance(model::InstanceId { service: id.clone(), replica: *replica })
        }));
    }
    keys.into_iter().map(|key| (key.clone(), state.object(&key).unwrap())).collect()
}

fn placements(state: &State) -> BTreeMap<model::InstanceId, Placement> {
    let services = state.services();
    let placed = services.flat_map(|service| {
        service.placements.iter().map(|(replica, placement)| {
            let instance = model::InstanceId { service: service.id.clone(), replica: *replica };
            (instance, placement.clone())
        })
    });
    placed.collect()
}

proptest! {
    #[test]
    fn every_command_preserves_the_invariants(history in vec((generate::proposal(), 0u64..30_000), 1..60)) {
        let mut state = State::new();
        let mut now = Timestamp(1_000_000);
        // A store that receives only the reported changes.
        let mut stored = objects(&state);
        for (proposal, later) in history {
            now.0 += later;
            let before = objects(&state);
            let goals = placements(&state);
            let shown = format!("{proposal:?}");
            match state.apply(proposal, now) {
                Err(_) => prop_assert_eq!(&before, &objects(&state), "{} was refused", shown),
                Ok(applied) => {
                    for key in applied.changed {
                        match state.object(&key) {
                            Some(object) => drop(stored.insert(key, object)),
                            None => drop(stored.remove(&key)),
                        }
                    }
                }
            }
            prop_assert_eq!(state.violations(), vec![], "after {}", shown);
            let all = objects(&state);
            prop_assert_eq!(&stored, &all, "not all changes are reported for {}", shown);
            for (instance, placement) in placements(&state) {
                let earlier = goals.get(&instance).map(|earlier| &earlier.goal);
                let forward = match (earlier, &placement.goal) {
                    (Some(Goal::Drain { .. }), Goal::Run) => false,
                    (Some(Goal::Stop { .. }), goal) => matches!(goal, Goal::Stop { .. }),
                    _ => true,
                };
                prop_assert!(forward, "{}: {:?} after {}", instance, placement.goal, shown);
            }
        }
        prop_assert_eq!(&state.objects().collect::<BTreeMap<_, _>>(), &stored);
        // In an order in which every object precedes those it depends on.
        let loaded = State::load(stored.clone().into_iter().rev());
        prop_assert_eq!(objects(&loaded), stored);
        prop_assert_eq!(loaded.violations(), vec![]);
        let uses = |state: &State| state.node_usages().map(|node| (**node).clone()).collect::<Vec<_>>();
        prop_assert_eq!(uses(&loaded), uses(&state));
    }

    /// From every state that a deployment can be in, a user can end it.
    #[test]
    fn every_deployment_can_be_aborted(history in vec((generate::proposal(), 0u64..30_000), 1..60)) {
        let mut state = State::new();
        let mut now = Timestamp(1_000_000);
        for (proposal, later) in history {
            now.0 += later;
            drop(state.apply(proposal, now));
        }
        let ids: Vec<_> = state.deployments().map(|deployment| deployment.id).collect();
        for deployment in ids {
            // The first abort rolls it back, the second one ends the rollback.
            for _ in 0..2 {
                if state.deployment(deployment).is_none_or(|known| known.stage.is_over()) {
                    break;
                }
                let abort = Command::Steer { deployment, how: Steer::Abort };
                let outcome = state.apply(Proposal::operator(abort), now);
                prop_assert!(outcome.is_ok(), "{:?}", outcome);
                prop_assert_eq!(state.violations(), vec![]);
            }
            let stage = state.deployment(deployment).map(|known| known.stage.clone());
            prop_assert!(stage.as_ref().is_none_or(Stage::is_over), "{:?}", stage);
        }
    }

    #[test]
    fn written_objects_read_back(history in vec(generate::proposal(), 1..40)) {
        let mut state = State::new();
        for proposal in history {
            drop(state.apply(proposal, Timestamp(5)));
        }
        for (key, object) in objects(&state) {
            let parsed: Key = key.to_string().parse().unwrap();
            prop_assert_eq!(&parsed, &key);
            let text = serde_json::to_vec(&object).unwrap();
            prop_assert_eq!(Object::read(&key, &text).unwrap(), object);
        }
    }

    #[test]
    fn applying_the_same_documents_again_changes_nothing(spec in generate::spec()) {
        let mut state = State::new();
        let apply = || Command::Apply(vec![Document::service(spec.clone())]);
        if state.apply(Proposal::usual(apply()), Timestamp(1)).is_ok() {
            let before = objects(&state);
            let applied = state.apply(Proposal::usual(apply()), Timestamp(2)).unwrap();
            prop_assert!(applied.changed.is_empty());
            prop_assert_eq!(before, objects(&state));
        }
    }
}

/// The wanted number of instances limits the number of slots, regardless of the step.
#[test]
fn a_slot_beyond_the_number_of_instances_is_not_placed() {
    let mut state = State::new();
    let service: model::ServiceId = "/a".parse().unwrap();
    let text = r#"{"service": "/a", "process": {"command": "serve"}}"#;
    let spec = serde_json::from_str(text).unwrap();
    state
        .apply(Proposal::operator(Command::Apply(vec![Document::service(spec)])), Timestamp(1))
        .unwrap();
    let instance = model::InstanceId::new(service, u32::MAX, 1);
    let node = "n0".parse().unwrap();
    let step = Step::Place { instance, revision: 1, node, given: Given::default() };
    assert!(state.apply(Proposal::step(step), Timestamp(2)).is_err());
}
