//! Every invariant of the state, as data. Run after each apply in tests and in simulations.

use std::collections::BTreeSet;

use crate::deployment::MoveState;
use crate::id::{DeploymentId, InstanceId, NodeId, RevisionNumber, ServiceId};
use crate::spec::Resources;
use crate::state::{NodeUse, State};

/// A law that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A node's instances hold more than it has.
    OverCapacity(NodeId),
    /// What is counted as used of a node is not what its instances use.
    Miscounted(NodeId),
    /// Two instances of a node hold the same port.
    PortTwice(NodeId, u16),
    /// The nodes in short are not what the nodes are.
    Roster,
    /// An instance is placed on a node that is not there.
    NoNode(InstanceId),
    /// Something refers to a revision that is not there.
    NoRevision(ServiceId, RevisionNumber),
    /// An instance's attempt is above the count of its slot's attempts.
    AttemptAhead(InstanceId),
    /// A service is moved by a deployment that is not there, is over, or does not move it.
    NotMoved(ServiceId),
    /// A deployment moves a service that is not moved by it.
    MovesNothing(DeploymentId, ServiceId),
}

impl State {
    /// The laws that do not hold. Empty after every apply.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.roster() != self.called_up() {
            found.push(Violation::Roster);
        }
        for node in self.nodes.values() {
            self.node_violations(node, &mut found);
        }
        for service in self.services.values() {
            let id = &service.id;
            let referred = [Some(service.target), service.settled];
            let placed = service.placements.values().map(|placement| placement.revision);
            for number in referred.into_iter().flatten().chain(placed) {
                if !service.revisions.contains_key(&number) {
                    found.push(Violation::NoRevision(id.clone(), number));
                }
            }
            for (seat, placement) in &service.placements {
                let instance = || InstanceId { service: id.clone(), seat: *seat };
                if !self
                    .nodes
                    .get(&placement.node)
                    .is_some_and(|n| n.instances.contains(&instance()))
                {
                    found.push(Violation::NoNode(instance()));
                }
                if seat.attempt > service.slot(seat.slot).attempts {
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

    fn node_violations(&self, node: &NodeUse, found: &mut Vec<Violation>) {
        let id = &node.node.id;
        let mut used = Resources::NONE;
        let mut ports = BTreeSet::new();
        for instance in &node.instances {
            let placement = self.placement(instance);
            let service = self.services.get(&instance.service);
            let revision = placement
                .zip(service)
                .and_then(|(placement, service)| service.revisions.get(&placement.revision));
            let Some((placement, revision)) = placement.zip(revision) else {
                found.push(Violation::Miscounted(id.clone()));
                continue;
            };
            used.cpu.0 += revision.spec.resources.cpu.0;
            used.memory.0 += revision.spec.resources.memory.0;
            for (port, spec) in placement.ports.iter().zip(&revision.spec.ports) {
                if !ports.insert((*port, spec.protocol)) {
                    found.push(Violation::PortTwice(id.clone(), *port));
                }
            }
        }
        if used != node.used || ports != node.ports {
            found.push(Violation::Miscounted(id.clone()));
        }
        let capacity = node.node.capacity.unwrap_or(Resources::NONE);
        if used.cpu > capacity.cpu || used.memory > capacity.memory {
            found.push(Violation::OverCapacity(id.clone()));
        }
    }
}
