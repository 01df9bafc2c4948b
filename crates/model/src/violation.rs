//! The invariants of the state, as data. Tests and simulations check them after each apply.

use std::collections::BTreeSet;

use crate::deployment::MoveState;
use crate::id::{DeploymentId, InstanceId, NodeId, RevisionNumber, ServiceId};
use crate::spec::Resources;
use crate::state::State;
use crate::usage::NodeUsage;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A node's instances use more than it has.
    OverCapacity(NodeId),
    /// The stored usage of a node differs from the sum over its instances.
    Miscounted(NodeId),
    /// Two instances of a node use the same port.
    PortTwice(NodeId, u16),
    /// The node index differs from the nodes.
    NodeIndex,
    /// The counts of a service's constraints differ from its instances.
    RuleCounts(ServiceId),
    /// An instance is placed on a node that does not exist.
    NoNode(InstanceId),
    /// A reference to a revision that does not exist.
    NoRevision(ServiceId, RevisionNumber),
    /// An instance's attempt is above the count of its slot's attempts.
    AttemptAhead(InstanceId),
    /// The deployment of a service does not exist, is over, or does not move the service.
    NotMoved(ServiceId),
    /// A deployment moves a service that refers to another deployment or to none.
    MovesNothing(DeploymentId, ServiceId),
}

impl State {
    /// The invariants that do not hold. Empty after every apply.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.node_index() != self.build_node_index() {
            found.push(Violation::NodeIndex);
        }
        for node in self.nodes.values() {
            self.node_violations(node, &mut found);
        }
        for service in self.services.values() {
            let id = &service.id;
            if service.revisions.contains_key(&service.target)
                && *service.rules != self.count_rules(service, &BTreeSet::new())
            {
                found.push(Violation::RuleCounts(id.clone()));
            }
            let referred = [Some(service.target), service.settled];
            let placed = service.placements.values().map(|placement| placement.revision);
            for number in referred.into_iter().flatten().chain(placed) {
                if !service.revisions.contains_key(&number) {
                    found.push(Violation::NoRevision(id.clone(), number));
                }
            }
            for (replica, placement) in &service.placements {
                let instance = || InstanceId { service: id.clone(), replica: *replica };
                if !self
                    .nodes
                    .get(&placement.node)
                    .is_some_and(|n| n.instances.contains(&instance()))
                {
                    found.push(Violation::NoNode(instance()));
                }
                if replica.attempt > service.slot(replica.slot).attempts {
                    found.push(Violation::AttemptAhead(instance()));
                }
            }
            let moved = match service.deployment {
                None => true,
                Some(_) => self.deployment_of(service).is_some_and(|deployment| {
                    !deployment.stage.is_over() && deployment.moving(id).is_some()
                }),
            };
            if !moved || (service.removing && service.deployment.is_none()) {
                found.push(Violation::NotMoved(id.clone()));
            }
        }
        for deployment in self.deployments.values() {
            for m in deployment.moves.iter().filter(|m| m.state == MoveState::Moving) {
                let service = self.services.get(&m.service);
                if service.is_none_or(|service| service.deployment != Some(deployment.id)) {
                    found.push(Violation::MovesNothing(deployment.id, m.service.clone()));
                }
            }
        }
        found
    }

    fn node_violations(&self, node: &NodeUsage, found: &mut Vec<Violation>) {
        let id = &node.node.id;
        let mut used = Resources::NONE;
        let mut ports = BTreeSet::new();
        let mut placed = 0;
        for instance in &node.instances {
            let placement = self.placement(instance).filter(|placement| placement.node == *id);
            let service = self.services.get(&instance.service);
            let revision = placement
                .zip(service)
                .and_then(|(placement, service)| service.revisions.get(&placement.revision));
            let Some((placement, revision)) = placement.zip(revision) else { continue };
            placed += 1;
            let resources = revision.spec.total_resources();
            used.cpu.0 += resources.cpu.0;
            used.memory.0 += resources.memory.0;
            for (port, spec) in placement.given.ports.iter().zip(revision.spec.all_ports()) {
                if !ports.insert((*port, spec.protocol)) {
                    found.push(Violation::PortTwice(id.clone(), *port));
                }
            }
        }
        if placed != node.instances.len() || used != node.used || ports != node.ports {
            found.push(Violation::Miscounted(id.clone()));
        }
        let capacity = node.node.capacity.unwrap_or(Resources::NONE);
        if used.cpu > capacity.cpu || used.memory > capacity.memory {
            found.push(Violation::OverCapacity(id.clone()));
        }
    }
}

/// Each test breaks an invariant on purpose, and also comes as close as the invariant allows.
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::deployment::{Deployment, Stage};
    use crate::document::Document;
    use crate::id::ReplicaId;
    use crate::node::Node;
    use crate::proposal::{Command, Proposal};
    use crate::registration::{AgentRegistration, Registration};
    use crate::service::{Given, Placement, Service};
    use crate::spec::Protocol;
    use crate::step::Step;
    use crate::unit::{Bytes, Cpu, Timestamp};

    const REPLICAS: [ReplicaId; 2] =
        [ReplicaId { slot: 0, attempt: 1 }, ReplicaId { slot: 1, attempt: 1 }];

    fn name(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn web() -> ServiceId {
        "/web".parse().unwrap()
    }

    fn instance(slot: u32) -> InstanceId {
        InstanceId { service: web(), replica: REPLICAS[slot as usize] }
    }

    /// `d-1` moves `/web`, which has two instances on `n1` and fills it; `n2` is empty.
    fn valid_state() -> State {
        let mut state = State::new();
        let mut apply =
            |command| drop(state.apply(Proposal::usual(command), Timestamp(1)).unwrap());
        for node in ["n1", "n2"] {
            apply(Command::Register(Registration {
                node: name(node),
                address: node.into(),
                agent: Some(AgentRegistration {
                    id: String::new(),
                    port: 4041,
                    capacity: Resources { cpu: Cpu(2_000), memory: Bytes::mib(512) },
                    labels: Default::default(),
                    capabilities: Default::default(),
                    ports: crate::PORTS,
                    software: crate::software::Software::current(),
                }),
            }));
        }
        let spec = r#"{"service": "/web", "instances": 2, "process": {"command": "serve"},
            "resources": {"cpu": 1, "memory": "256MiB"},
            "ports": [{"name": "http"}, {"name": "dns", "protocol": "udp"}]}"#;
        let spec = serde_json::from_str(spec).unwrap();
        apply(Command::Apply(vec![Document::service(spec)]));
        for (slot, port) in [(0, 20_000), (1, 20_001)] {
            // The same number for two protocols is two ports.
            let given = Given { ports: vec![port, port] };
            let instance = instance(slot);
            apply(Command::Adopt(Step::Place { instance, revision: 1, node: name("n1"), given }));
        }
        state
    }

    /// The violations after `change`, applied to a valid state.
    fn violations_after(change: impl FnOnce(&mut State)) -> Vec<Violation> {
        let mut state = valid_state();
        assert_eq!(state.violations(), []);
        change(&mut state);
        state.violations()
    }

    fn node<'a>(state: &'a mut State, id: &str) -> &'a mut NodeUsage {
        Arc::make_mut(state.nodes.get_mut(&name(id)).unwrap())
    }

    fn service(state: &mut State) -> &mut Service {
        Arc::make_mut(state.services.get_mut(&web()).unwrap())
    }

    fn placement(state: &mut State, slot: usize) -> &mut Placement {
        service(state).placements.get_mut(&REPLICAS[slot]).unwrap()
    }

    fn deployment(state: &mut State) -> &mut Deployment {
        Arc::make_mut(state.deployments.get_mut(&DeploymentId(1)).unwrap())
    }

    #[test]
    fn constraints_count_the_instances_of_their_service() {
        let mut state = valid_state();
        let spec = r#"{"service": "/spread", "instances": 2, "process": {"command": "serve"},
            "resources": {"cpu": 0.1, "memory": "1MiB"},
            "constraints": [["hostname", "MAX_PER", "1"]]}"#;
        let spec = serde_json::from_str(spec).unwrap();
        let documents = vec![Document::service(spec)];
        let spread = || "/spread".parse::<ServiceId>().unwrap();
        let place = Step::Place {
            instance: InstanceId::new(spread(), 0, 1),
            revision: 1,
            node: name("n2"),
            given: Default::default(),
        };
        for command in [Command::Apply(documents), Command::Adopt(place)] {
            state.apply(Proposal::usual(command), Timestamp(2)).unwrap();
        }
        assert_eq!(state.violations(), []);
        let service = Arc::make_mut(state.services.get_mut(&spread()).unwrap());
        let node = Node::new(name("n2"));
        Arc::make_mut(&mut service.rules)[0].count(&node);
        assert_eq!(state.violations(), [Violation::RuleCounts(spread())]);
    }

    #[test]
    fn no_node_is_overcommitted() {
        let with = |cpu: u32, memory: u64| {
            violations_after(|state| {
                let memory = Bytes(Bytes::mib(512).0 - memory);
                node(state, "n1").node.capacity = Some(Resources { cpu: Cpu(2_000 - cpu), memory });
            })
        };
        let over = [Violation::OverCapacity(name("n1"))];
        assert_eq!(with(0, 0), [], "it is full");
        assert_eq!(with(1, 0), over);
        assert_eq!(with(0, 1), over);
        let never_reported = violations_after(|state| {
            node(state, "n1").node.capacity = None;
            state.refresh(&name("n1"));
        });
        assert_eq!(never_reported, over);
    }

    #[test]
    fn the_usage_of_a_node_is_the_sum_over_its_instances() {
        let changes: [fn(&mut NodeUsage); 6] = [
            |node| node.used.cpu.0 -= 1,
            |node| node.used.memory.0 += 1,
            |node| assert!(node.ports.insert((20_002, Protocol::Tcp))),
            |node| assert!(node.ports.remove(&(20_001, Protocol::Udp))),
            |node| assert!(node.instances.insert("/web~2.1".parse().unwrap())),
            |node| assert!(node.instances.insert("/db~0.1".parse().unwrap())),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let found = violations_after(|state| change(node(state, "n1")));
            assert_eq!(found, [Violation::Miscounted(name("n1"))], "change {i}");
        }
    }

    #[test]
    fn an_instance_counts_only_on_its_own_node() {
        let on_both = violations_after(|state| {
            let (placement, spec) = (placement(state, 0).clone(), service(state).spec().clone());
            node(state, "n2").allocate(instance(0), &placement, &spec);
        });
        assert_eq!(on_both, [Violation::Miscounted(name("n2"))]);
        let on_none = violations_after(|state| {
            let (placement, spec) = (placement(state, 0).clone(), service(state).spec().clone());
            node(state, "n1").release(&instance(0), &placement, &spec);
        });
        assert_eq!(on_none, [Violation::NoNode(instance(0))]);
        let on_a_node_that_is_gone = violations_after(|state| {
            state.nodes.remove_mut(&name("n1"));
            state.refresh(&name("n1"));
        });
        assert_eq!(on_a_node_that_is_gone, [0, 1].map(|slot| Violation::NoNode(instance(slot))));
    }

    #[test]
    fn no_two_instances_of_a_node_hold_the_same_port() {
        let found = violations_after(|state| {
            placement(state, 1).given.ports = vec![20_001, 20_000];
            node(state, "n1").ports.remove(&(20_001, Protocol::Udp));
        });
        assert_eq!(found, [Violation::PortTwice(name("n1"), 20_000)]);
    }

    #[test]
    fn the_node_index_agrees_with_the_nodes() {
        let cordoned =
            violations_after(|s| node(s, "n2").node.availability = crate::Availability::Cordoned);
        assert_eq!(cordoned, [], "it says who is drained");
        let drained =
            violations_after(|s| node(s, "n2").node.availability = crate::Availability::Draining);
        assert_eq!(drained, [Violation::NodeIndex]);
        assert_eq!(
            violations_after(|s| assert!(s.nodes.remove_mut(&name("n2")))),
            [Violation::NodeIndex]
        );
    }

    #[test]
    fn every_referenced_revision_exists() {
        let missing = || Violation::NoRevision(web(), 2);
        assert_eq!(violations_after(|s| service(s).settled = Some(1)), []);
        assert_eq!(violations_after(|s| service(s).settled = Some(2)), [missing()]);
        assert_eq!(violations_after(|s| service(s).target = 2), [missing()]);
        let placed = violations_after(|s| placement(s, 0).revision = 2);
        assert_eq!(placed, [Violation::Miscounted(name("n1")), missing()]);
    }

    #[test]
    fn no_instance_has_a_later_attempt_than_its_slot() {
        let ahead = |slot| Violation::AttemptAhead(instance(slot));
        assert_eq!(violations_after(|s| service(s).slots[1].attempts = 2), []);
        assert_eq!(violations_after(|s| service(s).slots[1].attempts = 0), [ahead(1)]);
        assert_eq!(violations_after(|s| service(s).slots.clear()), [ahead(0), ahead(1)]);
        let of_an_earlier_service = violations_after(|s| {
            service(s).slots.clear();
            service(s).attempts_before = 1;
        });
        assert_eq!(of_an_earlier_service, []);
    }

    #[test]
    fn a_service_is_moved_by_its_deployment() {
        let not_moved = [Violation::NotMoved(web())];
        let at = Timestamp(2);
        assert_eq!(violations_after(|s| deployment(s).stage = Stage::Paused), []);
        assert_eq!(violations_after(|s| deployment(s).stage = Stage::Succeeded { at }), not_moved);
        assert_eq!(violations_after(|s| deployment(s).moves[0].state = MoveState::Done), not_moved);
        assert_eq!(violations_after(|s| deployment(s).moves.clear()), not_moved);
        assert_eq!(
            violations_after(|s| assert!(s.deployments.remove_mut(&DeploymentId(1)))),
            not_moved
        );
    }

    #[test]
    fn a_service_being_removed_is_moved_by_a_deployment() {
        let settle = |state: &mut State| {
            deployment(state).moves[0].state = MoveState::Done;
            service(state).deployment = None;
        };
        assert_eq!(violations_after(|state| service(state).removing = true), []);
        assert_eq!(violations_after(settle), [], "nothing moves it, and it stays");
        let stuck = violations_after(|state| {
            settle(state);
            service(state).removing = true;
        });
        assert_eq!(stuck, [Violation::NotMoved(web())]);
    }

    #[test]
    fn every_move_of_a_deployment_refers_back_to_it() {
        let nothing = [Violation::MovesNothing(DeploymentId(1), web())];
        assert_eq!(violations_after(|s| service(s).deployment = None), nothing);
        let gone = |state: &mut State| {
            (0..2).for_each(|slot| drop(state.release(&instance(slot)).unwrap()));
            assert!(state.services.remove_mut(&web()));
        };
        assert_eq!(violations_after(gone), nothing);
        for over in [MoveState::Done, MoveState::Superseded] {
            let found = violations_after(|state| {
                gone(state);
                deployment(state).moves[0].state = over;
            });
            assert_eq!(found, [], "a service that was moved may be gone: {over:?}");
        }
        let by_another = violations_after(|state| {
            let other = Deployment { id: DeploymentId(2), ..deployment(state).clone() };
            state.deployments.insert_mut(DeploymentId(2), Arc::new(other));
            service(state).deployment = Some(DeploymentId(2));
        });
        assert_eq!(by_another, nothing);
    }
}
