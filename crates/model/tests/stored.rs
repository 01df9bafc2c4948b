//! The stored form of a state: every object by its key, read back in any order.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use muster_model as model;

use model::{
    Command, Document, Given, InstanceId, Key, Object, Proposal, ServiceId, State, Step, Timestamp,
    object,
};
use support::{agent, node_id, register};

fn web() -> ServiceId {
    "/web".parse().unwrap()
}

/// One of each kind of object.
fn cluster() -> State {
    let spec = r#"{"service": "/web", "process": {"command": "serve"}, "ports": [{}]}"#;
    let gateway = r#"{"gateway": "public", "listen": 8080, "routes": [{"to": "/web"}]}"#;
    let bundle = r#"{"path": "/shop"}"#;
    let documents = vec![
        Document::service(serde_json::from_str(spec).unwrap()),
        Document::Gateway(serde_json::from_str(gateway).unwrap()),
        Document::Bundle(serde_json::from_str(bundle).unwrap()),
    ];
    let place = Step::Place {
        instance: InstanceId::new(web(), 0, 1),
        revision: 1,
        node: node_id("n1"),
        given: Given { ports: vec![20_000] },
    };
    let mut state = State::new();
    let commands = [
        Command::BecomeLeader,
        register("n1", Some(agent())),
        Command::Apply(documents),
        Command::Adopt(place),
    ];
    for command in commands {
        state.apply(Proposal::usual(command), Timestamp(1)).unwrap();
    }
    state
}

#[test]
fn objects_are_found_by_their_ids() {
    let state = cluster();
    let (id, first) = (web(), InstanceId::new(web(), 0, 1));
    assert_eq!(state.service(&id), state.services().next());
    assert_eq!(state.service(&id).unwrap().id, id);
    assert_eq!(state.node(&node_id("n1")), state.node_usages().next());
    assert_eq!(state.node(&node_id("n1")).map(|node| &node.node), state.nodes().next());
    assert_eq!(state.nodes().count(), 1);
    assert_eq!(state.node(&node_id("n2")), None);
    assert_eq!(state.placement(&first).unwrap().node, node_id("n1"));
    assert_eq!(state.placement(&InstanceId::new(web(), 0, 2)), None);
    let deployment = state.deployments().next().unwrap();
    assert_eq!(state.deployment(deployment.id), Some(deployment));
    assert_eq!(state.deployment_of(state.service(&id).unwrap()), Some(deployment));
    assert_eq!(state.gateway(&"public".parse().unwrap()), state.gateways().next());
    assert_eq!(state.gateways().count(), 1);
    assert_eq!(state.bundle(&"/shop".parse().unwrap()), state.bundles().next());
    assert_eq!(state.bundles().count(), 1);
    assert_eq!((state.meta().epoch, state.meta().deployments), (1, 1));
}

#[test]
fn a_node_is_used_while_instances_are_placed_on_it() {
    let mut state = cluster();
    assert!(state.is_used(&node_id("n1")) && !state.is_used(&node_id("n2")));
    let (instance, why) = (InstanceId::new(web(), 0, 1), model::StopReason::Lost);
    state.apply(Proposal::step(Step::Forget { instance, why }), Timestamp(2)).unwrap();
    assert!(!state.is_used(&node_id("n1")));
}

/// A state that is too large for one transaction of a store may be deleted in parts.
#[test]
fn objects_with_dangling_references_are_dropped_on_load() {
    let state = cluster();
    let instance = Key::Instance(InstanceId::new(web(), 0, 1));
    let revision = Key::Revision(web(), 1);
    let cases = [
        (Key::Service(web()), vec![&revision, &instance]),
        (revision.clone(), vec![&instance]),
        (Key::Node(node_id("n1")), vec![&instance]),
        (instance.clone(), vec![]),
        (Key::Deployment(model::DeploymentId(1)), vec![]),
        (Key::Gateway("public".parse().unwrap()), vec![]),
        (Key::Bundle("/shop".parse().unwrap(), 1), vec![]),
    ];
    for (gone, hang) in cases {
        let mut expected: BTreeMap<_, _> = state.objects().collect();
        assert!(expected.remove(&gone).is_some(), "{gone}");
        let loaded = State::load(expected.clone());
        expected.retain(|key, _| !hang.contains(&key));
        assert_eq!(loaded.objects().collect::<BTreeMap<_, _>>(), expected, "without {gone}");
    }
}

/// There are many instances and few names.
#[test]
fn a_loaded_state_shares_equal_names() {
    let strings: Vec<_> = cluster()
        .objects()
        .map(|(key, object)| (key.to_string(), serde_json::to_vec(&object).unwrap()))
        .collect();
    let read = strings.iter().map(|(key, value)| {
        let key: Key = key.parse().unwrap();
        let object = Object::read(&key, value).unwrap();
        (key, object)
    });
    let state = State::load(read);
    let same = |a: &str, b: &str| std::ptr::eq(a, b);
    let (node, service) = (state.node(&node_id("n1")).unwrap(), state.service(&web()).unwrap());
    let instance = node.instances.first().unwrap();
    let placement = state.placement(instance).unwrap();
    assert!(same(placement.node.as_str(), node.node.id.as_str()));
    assert!(same(instance.service.as_str(), service.id.as_str()));
}

#[test]
fn malformed_keys_and_objects_are_rejected() {
    for key in ["", "nodes", "nodes/", "nodes/a/b", "services/", "instances/web", "revisions/web"] {
        assert!(matches!(key.parse::<Key>(), Err(object::Error::Key { .. })), "{key}");
    }
    for (key, _) in cluster().objects() {
        let read = Object::read(&key, b"7");
        assert!(
            matches!(read, Err(object::Error::Value { key: reported, .. }) if reported == key.to_string())
        );
    }
}
