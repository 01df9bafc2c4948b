//! The ports of instances.

use std::collections::BTreeSet;

use model::{AgentRegistration, Bytes, Cpu, Resources, Step};
use muster_planner::scenario::{World, execute};

/// The port range of the nodes in these tests.
const RANGE: (u16, u16) = (20_000, 20_003);

fn world() -> World {
    let mut world = World::new();
    let agent = AgentRegistration {
        id: String::new(),
        port: 4041,
        capacity: Resources { cpu: Cpu(64_000), memory: Bytes::mib(65_536) },
        labels: Default::default(),
        capabilities: Default::default(),
        ports: RANGE,
        software: model::Software::current(),
    };
    world.join(&"n1".parse().unwrap(), agent).unwrap();
    world
}

/// The ports of all instances of a service that are placed in the first plan.
fn placed(world: &mut World, service: &str) -> Vec<Vec<u16>> {
    execute(world, &format!("apply {service}")).unwrap();
    let plan = world.plan();
    assert_eq!(world.adopt(&plan), []);
    let ports = plan.steps.into_iter().filter_map(|step| match step {
        Step::Place { given, .. } => Some(given.ports),
        _ => None,
    });
    ports.collect()
}

fn whole_range() -> BTreeSet<u16> {
    (RANGE.0..=RANGE.1).collect()
}

/// The search for free ports starts at a port that depends on the name, so each rule is checked for
/// several names.
fn for_many_names(check: impl Fn(&str)) {
    ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"].into_iter().for_each(check);
}

#[test]
fn every_port_of_the_range_is_assigned_once() {
    for_many_names(|name| {
        let ports = placed(&mut world(), &format!("{name} instances=5"));
        assert_eq!(ports.len(), 4, "{name}");
        assert_eq!(ports.concat().into_iter().collect::<BTreeSet<_>>(), whole_range(), "{name}");
        let ports = placed(&mut world(), &format!("{name} instances=2 ports=[{{}},{{}}]"));
        assert_eq!(ports.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2], "{name}");
        assert_eq!(ports.concat().into_iter().collect::<BTreeSet<_>>(), whole_range(), "{name}");
    });
}

#[test]
fn a_requested_port_is_assigned_to_no_other_port_of_the_instance() {
    for_many_names(|name| {
        for wanted in RANGE.0..=RANGE.1 {
            let service = format!("{name} ports=[{{}},{{\"port\":{wanted}}},{{}},{{}}]");
            let ports = placed(&mut world(), &service).concat();
            assert_eq!(ports[1], wanted, "{service}");
            assert_eq!(ports.into_iter().collect::<BTreeSet<_>>(), whole_range(), "{service}");
        }
        let outside = placed(&mut world(), &format!("{name} ports=[{{\"port\":80}}]"));
        assert_eq!(outside, [[80]], "{name}");
    });
}

/// A list of ports does not show their protocols.
#[test]
fn a_port_is_assigned_for_one_protocol_only() {
    for_many_names(|name| {
        for (first, second) in [("udp", "tcp"), ("tcp", "udp")] {
            let mut world = world();
            let of = |name, protocol| {
                format!("{name} instances=2 ports=[{{\"protocol\":\"{protocol}\"}}]")
            };
            let mut ports = placed(&mut world, &of("/first", first));
            ports.extend(placed(&mut world, &of(name, second)));
            let given: BTreeSet<u16> = ports.concat().into_iter().collect();
            assert_eq!(given, whole_range(), "{name}: {first}, then {second}");
        }
    });
}
