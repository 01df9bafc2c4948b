//! Commands on nodes: they register, are drained, shrink, and are removed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model::{
    AgentRegistration, Availability, Bytes, Command, Cpu, Guard, PORTS, Proposal, Reason, Refusal,
    Registration, Resources,
};
use serde_json::json;
use support::*;

fn set(node: &str, availability: Availability) -> Command {
    Command::SetAvailability { node: node_id(node), availability }
}

#[test]
fn a_node_joins_once_and_emits_further_events_only_on_change() {
    let mut cluster = Cluster::of(&[]);
    let applied = cluster.run(register("n1", Some(agent()))).unwrap();
    assert_eq!(
        (emitted(&applied), change_summaries(&applied)),
        (vec!["node-joined n1".to_string()], vec!["node n1 created".to_string()],)
    );
    let applied = cluster.run(register("n1", Some(agent()))).unwrap();
    assert_eq!((emitted(&applied), change_summaries(&applied)), (vec![], vec![]));
    let labels = [("rack".to_string(), "a".to_string())].into();
    let changed = AgentRegistration { labels, ports: (21_000, 21_000), ..agent() };
    let applied = cluster.run(register("n1", Some(changed.clone()))).unwrap();
    assert_eq!(
        (emitted(&applied), change_summaries(&applied)),
        (vec![], vec!["node n1 updated".into()])
    );
    let node = &cluster.node("n1").node;
    assert_eq!((&node.labels, node.ports), (&changed.labels, changed.ports));
}

#[test]
fn a_gateway_registration_keeps_the_capacity_of_its_node() {
    let mut cluster = Cluster::of(&[]);
    cluster.run(register("n1", None)).unwrap();
    let node = &cluster.node("n1").node;
    assert_eq!((node.gateway, node.capacity, node.ports), (true, None, PORTS));
    cluster.run(register("n1", Some(agent()))).unwrap();
    cluster.run(register("n1", None)).unwrap();
    let node = &cluster.node("n1").node;
    assert_eq!((node.gateway, node.capacity), (true, Some(agent().capacity)));
}

#[test]
fn only_the_agent_sets_the_address_of_its_instances() {
    let at = |address: &str, agent| {
        let address = address.into();
        Command::Register(Registration { node: node_id("n1"), address, agent })
    };
    let mut cluster = Cluster::of(&[]);
    for (registration, address) in [
        (at("10.0.0.1", None), "10.0.0.1"),
        (at("10.0.0.2", Some(agent())), "10.0.0.2"),
        (at("127.0.0.1", None), "10.0.0.2"),
        (at("10.0.0.3", Some(agent())), "10.0.0.3"),
    ] {
        cluster.run(registration).unwrap();
        assert_eq!(cluster.node("n1").node.address, address);
    }
}

#[test]
fn a_node_that_shrinks_keeps_the_capacity_in_use() {
    let mut cluster = Cluster::of(&["n1"]);
    let large = json!({"instances": 2, "resources": {"cpu": "2", "memory": "2GiB"}});
    cluster.apply([service("/large", large)]);
    cluster.place("/large~0.1", "n1");
    let small = Resources { cpu: Cpu(1000), memory: Bytes::mib(3000) };
    cluster.run(register("n1", Some(AgentRegistration { capacity: small, ..agent() }))).unwrap();
    let kept = Resources { cpu: Cpu(2000), memory: Bytes::mib(3000) };
    assert_eq!(cluster.node("n1").node.capacity, Some(kept));
    let need = cluster.state.requirements(&cluster.service("/large"));
    let refusal = cluster.state.rejection(&node_id("n1"), &need);
    assert!(matches!(refusal, Some(Reason::Cpu { free: Cpu(0), .. })), "{refusal:?}");
}

/// The fields of a registration are used in routes and in sums.
#[test]
fn an_invalid_registration_is_rejected() {
    let mut cluster = Cluster::of(&[]);
    for (address, ports, invalid) in [
        ("n1", (1, 65_535), None),
        ("n-1.rack_2.example", (20_000, 20_000), None),
        ("[::1]", PORTS, Some("address")),
        ("fe80::1", PORTS, None),
        ("", PORTS, Some("address")),
        ("n1 n2", PORTS, Some("address")),
        ("n1", (0, 0), Some("agent.ports")),
        ("n1", (0, 65_535), Some("agent.ports")),
        ("n1", (20_001, 20_000), Some("agent.ports")),
    ] {
        let agent = Some(AgentRegistration { ports, ..agent() });
        let registration = Registration { node: node_id("n1"), address: address.into(), agent };
        let invalid: Vec<String> = invalid.into_iter().map(String::from).collect();
        let problems = registration.problems();
        let keys: Vec<String> = problems.into_iter().map(|problem| problem.key).collect();
        assert_eq!(keys, invalid, "`{address}` {ports:?}");
        let outcome = cluster.run(Command::Register(registration));
        assert_eq!(outcome.is_err(), !invalid.is_empty(), "`{address}` {ports:?}");
    }
}

#[test]
fn users_set_the_availability_of_a_node() {
    let mut cluster = Cluster::of(&["n1"]);
    for (availability, kind) in [
        (Availability::Cordoned, "node-cordoned"),
        (Availability::Draining, "node-draining"),
        (Availability::Active, "node-active"),
    ] {
        let applied = cluster.run(set("n1", availability)).unwrap();
        assert_eq!(emitted(&applied), [format!("{kind} n1")]);
        assert_eq!(change_summaries(&applied), ["node n1 updated"]);
        assert_eq!(cluster.node("n1").node.availability, availability);
        let applied = cluster.run(set("n1", availability)).unwrap();
        assert_eq!(
            (emitted(&applied), change_summaries(&applied)),
            (vec![], vec!["node n1 unchanged".into()])
        );
    }
}

#[test]
fn a_node_is_removed_only_without_instances() {
    let mut cluster = Cluster::of(&["n1", "n2"]);
    cluster.apply([service("/web", json!({}))]);
    cluster.place("/web~0.1", "n1");
    let refusal = cluster.run(Command::RemoveNode(node_id("n1"))).unwrap_err();
    assert!(matches!(refusal, Refusal::Conflict { .. }), "{refusal}");
    let applied = cluster.run(Command::RemoveNode(node_id("n2"))).unwrap();
    assert_eq!(emitted(&applied), ["node-removed n2"]);
    assert_eq!(change_summaries(&applied), ["node n2 removed"]);
    assert_eq!(cluster.state.nodes().count(), 1);
}

#[test]
fn a_gateway_document_is_removed() {
    let mut cluster = Cluster::of(&[]);
    cluster.apply([service("/web", json!({"ports": [{}]})), gateway("public", "8080", &["/web"])]);
    let applied = cluster.run(Command::RemoveGateway("public".parse().unwrap())).unwrap();
    assert_eq!(emitted(&applied), ["gateway-removed public"]);
    assert_eq!(change_summaries(&applied), ["gateway public removed"]);
    assert_eq!(cluster.state.gateways().count(), 0);
}

#[test]
fn unknown_names_are_rejected_with_a_suggestion() {
    let mut cluster = Cluster::of(&["rack-1"]);
    cluster.apply([service("/web", json!({"ports": [{}]})), gateway("public", "8080", &["/web"])]);
    for (command, kind, name, nearest) in [
        (set("rack-2", Availability::Active), "node", "rack-2", "rack-1"),
        (Command::RemoveNode(node_id("rack-2")), "node", "rack-2", "rack-1"),
        (Command::RemoveGateway("publik".parse().unwrap()), "gateway", "publik", "public"),
    ] {
        let refusal = cluster.run(command).unwrap_err();
        let (name, nearest) = (name.into(), Some(nearest.into()));
        assert_eq!(refusal, Refusal::Unknown { kind: kind.into(), name, nearest });
    }
}

#[test]
fn the_node_index_has_the_daemons_and_draining_of_each_node() {
    let mut cluster = Cluster::of(&["n2", "n1"]);
    cluster.run(register("n3", None)).unwrap();
    cluster.run(set("n2", Availability::Draining)).unwrap();
    cluster.run(set("n1", Availability::Cordoned)).unwrap();
    let short = |cluster: &Cluster| {
        let node_index = cluster.state.node_index().iter();
        let one =
            |m: &muster_model::NodeSummary| (m.id.to_string(), m.agent, m.gateway, m.draining);
        node_index.map(one).collect::<Vec<_>>()
    };
    let (n1, n2) = (("n1".into(), true, false, false), ("n2".into(), true, false, true));
    let n3 = ("n3".into(), false, true, false);
    assert_eq!(short(&cluster), [n1, n2.clone(), n3.clone()]);
    cluster.run(Command::RemoveNode(node_id("n1"))).unwrap();
    assert_eq!(short(&cluster), [n2, n3]);
}

/// All plans read the node index: a change to other fields must not copy it.
#[test]
fn the_node_index_is_shared_while_it_is_unchanged() {
    let mut cluster = Cluster::of(&["n1", "n2"]);
    let reader = cluster.state.clone();
    cluster.run(set("n1", Availability::Cordoned)).unwrap();
    assert!(std::ptr::eq(reader.node_index(), cluster.state.node_index()));
    cluster.run(set("n1", Availability::Draining)).unwrap();
    assert!(!std::ptr::eq(reader.node_index(), cluster.state.node_index()));
}

/// A node that was gone for good stayed while one of its instances found no other place.
#[test]
fn a_forced_removal_gives_up_the_instances_of_a_node() {
    let mut cluster = settled();
    let remove = || Proposal::operator(Command::RemoveNode(node_id("n1")));
    let message = conflict(cluster.propose(remove()));
    assert!(message.contains("--force"), "{message}");
    let guard = Guard { force: true, ..Guard::default() };
    let applied = cluster.propose(Proposal { guard, ..remove() }).unwrap();
    assert_eq!(emitted(&applied), ["lost /web~0.1", "node-removed n1"]);
    assert!(!cluster.is_placed("/web~0.1"));
}
