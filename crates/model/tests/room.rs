//! The one feasibility rule: which node can take one more instance, and why others cannot.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_model as model;

use model::{
    AgentRegistration, Availability, Bytes, Command, Cpu, Document, Given, Goal, InstanceId, Node,
    NodeId, NodeUsage, Placement, Proposal, Protocol, Reason, Registration, ReplicaId,
    Requirements, Resources, ServiceId, Software, Spec, State, Step, StopReason, Timestamp,
};

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;

fn resources(cpu: u32, memory: u64) -> Resources {
    Resources { cpu: Cpu(cpu), memory: Bytes::mib(memory) }
}

/// A service `/web` that runs a process; `more` adds fields to the spec.
fn spec(more: &str) -> Spec {
    let text = format!(r#"{{"service": "/web", "process": {{"command": "serve"}}, {more}}}"#);
    serde_json::from_str(&text).unwrap()
}

/// A node with four ports to assign and plenty of everything else.
fn wide() -> NodeUsage {
    let mut node = Node::new("n1".parse().unwrap());
    node.capacity = Some(resources(8_000, 8_192));
    node.ports = (20_000, 20_003);
    NodeUsage::new(node)
}

#[test]
fn the_most_lasting_reason_is_reported() {
    let text = r#""requires": ["gpu"], "roles": ["public"], "constraints": [["rack", "IS", "a"]],
        "resources": {"cpu": 2, "memory": "2GiB"}, "ports": [{"port": 8080}, {"port": 8081}, {}]"#;
    let spec = spec(text);
    let mut need = Requirements::of(&spec);
    need.features = vec!["stack"];
    need.rules = Arc::new(spec.constraints.iter().map(|constraint| constraint.compile()).collect());
    let mut node = NodeUsage::new(Node::new("n1".parse().unwrap()));
    node.node.availability = Availability::Draining;
    node.node.ports = (20_000, 20_000);
    node.ports = [(8_080, TCP), (20_000, UDP)].into();
    node.used = resources(500, 512);
    type Fix = fn(&mut NodeUsage);
    let (none, gib) = (Cpu(0), |count: u64| Bytes::mib(count * 1_024));
    let reasons: [(Reason, Fix); 11] = [
        (Reason::NoAgent, |node| node.node.capacity = Some(resources(400, 256))),
        (Reason::Draining, |node| node.node.availability = Availability::Cordoned),
        (Reason::Cordoned, |node| node.node.availability = Availability::Active),
        (Reason::AgentTooOld { needs: "stack".into(), version: String::new() }, |node| {
            node.node.software = Software::current();
        }),
        (Reason::Capability { missing: "gpu".into() }, |node| {
            node.node.capabilities.insert("gpu".into());
        }),
        (Reason::Role { role: "*".into() }, |node| {
            node.node.labels.insert("role".into(), "public".into());
        }),
        (Reason::Constraint { constraint: "rack IS a".into() }, |node| {
            node.node.labels.insert("rack".into(), "a".into());
        }),
        (Reason::Cpu { free: none, needed: Cpu(2_000) }, |node| {
            node.node.capacity = Some(resources(2_500, 1_536));
        }),
        (Reason::Memory { free: gib(1), needed: gib(2) }, |node| {
            node.node.capacity = Some(resources(2_500, 2_560));
        }),
        (Reason::Port { port: 8_080, holder: None }, |node| {
            node.ports.remove(&(8_080, TCP));
        }),
        (Reason::Ports, |node| node.node.ports = (20_000, 20_001)),
    ];
    for (reason, mend) in reasons {
        assert_eq!(node.rejection(&need), Some(reason));
        mend(&mut node);
    }
    assert_eq!(node.rejection(&need), None);
}

#[test]
fn an_exact_fit_fits() {
    let mut node = wide();
    let first = spec(r#""resources": {"cpu": 1, "memory": "1GiB"}, "ports": [{}]"#);
    let placement = Placement {
        revision: 1,
        node: node.node.id.clone(),
        given: Given { ports: vec![20_001] },
        goal: Goal::Run,
        pause: None,
        placed_at: Timestamp(1),
    };
    let empty = node.clone();
    let id: InstanceId = "/web~0.1".parse().unwrap();
    node.allocate(id.clone(), &placement, &first);
    let refusal = |cpu, memory, assigned| {
        let resources = resources(cpu, memory);
        let need =
            Requirements { resources, assigned, ..Requirements::of(&spec(r#""instances": 1"#)) };
        node.rejection(&need)
    };
    assert_eq!(refusal(7_000, 7_168, 3), None);
    let (free, needed) = (Cpu(7_000), Cpu(7_001));
    assert_eq!(refusal(7_001, 7_168, 3), Some(Reason::Cpu { free, needed }));
    let (free, needed) = (Bytes::mib(7_168), Bytes::mib(7_169));
    assert_eq!(refusal(7_000, 7_169, 3), Some(Reason::Memory { free, needed }));
    assert_eq!(refusal(7_000, 7_168, 4), Some(Reason::Ports));
    node.release(&id, &placement, &first);
    assert_eq!(node, empty, "what leaves gives all back");
}

#[test]
fn an_assigned_port_is_free_for_both_protocols() {
    let full = Some(Reason::Ports);
    let taken = |port| Some(Reason::Port { port, holder: None });
    type Ports = &'static [(u16, Protocol)];
    let cases: [(Ports, Ports, usize, Option<Reason>); 17] = [
        (&[], &[], 4, None),
        (&[], &[], 5, full.clone()),
        (&[(20_000, TCP)], &[], 3, None),
        (&[(20_000, TCP)], &[], 4, full.clone()),
        (&[(20_000, TCP), (20_000, UDP)], &[], 3, None),
        (&[(20_000, TCP), (20_000, UDP)], &[], 4, full.clone()),
        (&[(19_999, TCP), (20_004, TCP)], &[], 4, None),
        (&[(20_000, TCP), (20_003, TCP)], &[], 2, None),
        (&[(20_000, TCP), (20_003, TCP)], &[], 3, full.clone()),
        (&[(20_000, TCP)], &[(20_001, TCP)], 2, None),
        (&[(20_000, TCP)], &[(20_001, TCP)], 3, full.clone()),
        (&[], &[(8_080, TCP)], 4, None),
        (&[], &[(8_080, TCP)], 5, full.clone()),
        (&[(8_080, TCP)], &[(8_080, TCP)], 0, taken(8_080)),
        (&[(8_080, UDP)], &[(8_080, TCP)], 0, None),
        (&[(1, TCP), (2, TCP), (3, TCP), (4, TCP)], &[(5, TCP)], 0, None),
        (&[(1, TCP), (2, TCP), (3, TCP), (20_000, TCP)], &[(5, TCP)], 4, full),
    ];
    for (held, fixed, assigned, refusal) in cases {
        let mut node = wide();
        node.ports = held.iter().copied().collect();
        let fixed = fixed.to_vec();
        let need = Requirements { fixed, assigned, ..Requirements::of(&spec(r#""instances": 1"#)) };
        assert_eq!(node.rejection(&need), refusal, "{held:?} are held; {need:?}");
    }
}

#[test]
fn a_node_without_a_role_has_the_role_of_all() {
    let cases = [
        (None, r#"[]"#, true),
        (None, r#"["*"]"#, true),
        (None, r#"["public"]"#, false),
        (None, r#"["public", "*"]"#, true),
        (Some("public"), r#"[]"#, true),
        (Some("public"), r#"["public"]"#, true),
        (Some("public"), r#"["*"]"#, false),
    ];
    for (role, accepted, fits) in cases {
        let mut node = wide();
        node.node.labels.extend(role.map(|role| ("role".to_string(), role.to_string())));
        let need = Requirements::of(&spec(&format!(r#""roles": {accepted}"#)));
        let refusal = (!fits).then(|| Reason::Role { role: role.unwrap_or("*").into() });
        assert_eq!(node.rejection(&need), refusal, "{role:?} for {accepted}");
    }
}

#[test]
fn a_container_needs_docker() {
    let mut node = wide();
    let text = r#"{"service": "/web", "container": {"image": "nginx"}, "requires": ["ssd"]}"#;
    let need = Requirements::of(&serde_json::from_str(text).unwrap());
    let lacks = |missing: &str| Some(Reason::Capability { missing: missing.into() });
    assert_eq!(node.rejection(&need), lacks("docker"));
    node.node.capabilities.insert("docker".into());
    assert_eq!(node.rejection(&need), lacks("ssd"));
    node.node.capabilities.insert("ssd".into());
    assert_eq!(node.rejection(&need), None);
}

fn web() -> ServiceId {
    "/web".parse().unwrap()
}

fn name(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn apply(state: &mut State, command: Command) {
    state.apply(Proposal::usual(command), Timestamp(1)).unwrap();
}

/// `/web` in a cluster of two nodes in one rack.
fn cluster(spec: Spec) -> State {
    let mut state = State::new();
    for node in ["n1", "n2"] {
        let agent = AgentRegistration {
            id: String::new(),
            port: 4041,
            capacity: resources(8_000, 8_192),
            labels: [("rack".into(), "a".into())].into(),
            capabilities: Default::default(),
            ports: (20_000, 20_003),
            software: muster_model::Software::current(),
        };
        let registration =
            Registration { node: name(node), address: node.into(), agent: Some(agent) };
        apply(&mut state, Command::Register(registration));
    }
    apply(&mut state, Command::Apply(vec![Document::service(spec)]));
    state
}

fn place(slot: u32, node: &str, ports: &[u16]) -> Command {
    let instance = InstanceId::new(web(), slot, 1);
    Command::Adopt(Step::Place {
        instance,
        revision: 1,
        node: name(node),
        given: Given { ports: ports.to_vec() },
    })
}

#[test]
fn an_instance_is_placed_with_the_ports_of_its_spec() {
    let ports = r#""ports": [{}, {"port": 8080}, {"protocol": "udp"}, {}]"#;
    let state = cluster(spec(ports));
    let cases: [(&[u16], bool); 9] = [
        (&[20_000, 8_080, 20_001, 20_003], true),
        (&[20_000, 8_080, 20_001, 20_000], false),
        (&[20_000, 8_080, 20_001], false),
        (&[20_000, 8_080, 20_001, 20_002, 20_003], false),
        (&[19_999, 8_080, 20_001, 20_002], false),
        (&[20_000, 8_080, 20_001, 20_004], false),
        (&[20_000, 8_081, 20_001, 20_002], false),
        (&[20_000, 20_003, 20_001, 20_002], false),
        (&[], false),
    ];
    for (ports, fits) in cases {
        let placed = state.clone().apply(Proposal::usual(place(0, "n1", ports)), Timestamp(1));
        assert_eq!(placed.is_ok(), fits, "{ports:?}");
    }
}

#[test]
fn a_held_port_is_not_assigned_again() {
    let mut state = cluster(spec(r#""instances": 2, "ports": [{}]"#));
    apply(&mut state, place(0, "n1", &[20_000]));
    assert!(state.clone().apply(Proposal::usual(place(1, "n1", &[20_000])), Timestamp(1)).is_err());
    assert!(state.clone().apply(Proposal::usual(place(1, "n1", &[20_001])), Timestamp(1)).is_ok());
    assert!(state.clone().apply(Proposal::usual(place(1, "n2", &[20_000])), Timestamp(1)).is_ok());
}

#[test]
fn the_rejection_of_a_port_names_its_holder() {
    let mut state = cluster(spec(r#""instances": 2, "ports": [{"port": 8080}]"#));
    apply(&mut state, place(0, "n1", &[8_080]));
    let need = state.requirements(state.service(&web()).unwrap());
    let refusal = state.rejection(&name("n1"), &need).unwrap();
    let holder = Some(InstanceId::new(web(), 0, 1));
    let named = Reason::Port { port: 8_080, holder };
    assert_eq!(state.with_conflict(&name("n1"), refusal), named);
    assert_eq!(state.with_conflict(&name("n2"), named.clone()), named);
    assert_eq!(state.with_conflict(&name("n1"), Reason::Ports), Reason::Ports);
    assert_eq!(state.rejection(&name("n2"), &need), None);
    assert_eq!(state.rejection(&name("n3"), &need), Some(Reason::NoAgent), "nobody knows it");
}

#[test]
fn constraints_count_only_remaining_instances_of_the_current_template() {
    let mut state = cluster(spec(r#""instances": 2, "constraints": [["rack", "UNIQUE"]]"#));
    apply(&mut state, place(0, "n1", &[]));
    let instance = InstanceId::new(web(), 0, 1);
    let none = BTreeSet::new();
    let fits = |state: &State, gone: &BTreeSet<ReplicaId>| {
        let need = state.requirements_without(state.service(&web()).unwrap(), gone);
        state.rejection(&name("n2"), &need).is_none()
    };
    assert!(!fits(&state, &none), "one is in the rack");
    assert!(fits(&state, &[instance.replica].into()), "it is forgotten");
    assert!(!fits(&state, &[ReplicaId { slot: 1, attempt: 1 }].into()), "another one is forgotten");
    let set = |availability| Command::SetAvailability { node: name("n1"), availability };
    let stop = Step::Stop { instance, why: StopReason::Requested };
    let cases = [
        ("it leaves", Command::Adopt(stop), true),
        ("it is of an earlier template", Command::Restart { service: web() }, true),
        ("it is up to date", Command::Scale { service: web(), instances: 3 }, false),
        ("it has to leave its node", set(Availability::Draining), true),
        ("it stays on its node", set(Availability::Cordoned), false),
    ];
    for (why, command, expected) in cases {
        let mut state = state.clone();
        apply(&mut state, command);
        assert_eq!(fits(&state, &none), expected, "{why}");
    }
}
