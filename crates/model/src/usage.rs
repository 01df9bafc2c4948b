//! The usage of a node by its instances, and the one feasibility rule: [`NodeUsage::rejection`].

use std::collections::BTreeSet;

use crate::id::InstanceId;
use crate::node::{Availability, Node};
use crate::reason::Reason;
use crate::requirements::Requirements;
use crate::service::Placement;
use crate::spec::{Protocol, Resources, Spec};
use crate::unit::{Bytes, Cpu};

/// A node and its usage by instances.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeUsage {
    /// The node.
    pub node: Node,
    /// The sum of the resources of its instances.
    pub used: Resources,
    /// The ports that its instances hold.
    pub ports: BTreeSet<(u16, Protocol)>,
    /// The instances placed on it.
    pub instances: BTreeSet<InstanceId>,
}

impl NodeUsage {
    /// A node without instances.
    pub fn new(node: Node) -> Self {
        Self { node, used: Resources::NONE, ports: BTreeSet::new(), instances: BTreeSet::new() }
    }

    /// Adds an instance to the usage.
    pub fn allocate(&mut self, id: InstanceId, placement: &Placement, spec: &Spec) {
        let resources = spec.total_resources();
        self.used.cpu.0 += resources.cpu.0;
        self.used.memory.0 += resources.memory.0;
        self.ports.extend(held_ports(placement, spec));
        self.instances.insert(id);
    }

    /// Removes an instance from the usage.
    pub fn release(&mut self, id: &InstanceId, placement: &Placement, spec: &Spec) {
        let resources = spec.total_resources();
        self.used.cpu.0 -= resources.cpu.0;
        self.used.memory.0 -= resources.memory.0;
        for port in held_ports(placement, spec) {
            self.ports.remove(&port);
        }
        self.instances.remove(id);
    }

    /// The one feasibility rule: why this node cannot take one more such instance. An exact fit is
    /// accepted.
    pub fn rejection(&self, need: &Requirements) -> Option<Reason> {
        let Some(capacity) = self.node.capacity else { return Some(Reason::NoAgent) };
        match self.node.availability {
            Availability::Active => {}
            Availability::Cordoned => return Some(Reason::Cordoned),
            Availability::Draining => return Some(Reason::Draining),
        }
        let software = &self.node.software;
        if let Some(reason) = need.features.iter().find_map(|feature| software.lacks(feature)) {
            return Some(reason);
        }
        if let Some(missing) = need.requires.iter().find(|c| !self.node.capabilities.contains(*c)) {
            return Some(Reason::Capability { missing: missing.clone() });
        }
        let role = self.node.role();
        if !need.roles.is_empty() && !need.roles.iter().any(|accepted| accepted == role) {
            return Some(Reason::Role { role: role.into() });
        }
        if let Some(rule) = need.rules.iter().find(|rule| !rule.allows(&self.node)) {
            return Some(Reason::Constraint { constraint: rule.constraint().to_string() });
        }
        let free = Cpu(capacity.cpu.0.saturating_sub(self.used.cpu.0));
        if free < need.resources.cpu {
            return Some(Reason::Cpu { free, needed: need.resources.cpu });
        }
        let free = Bytes(capacity.memory.0.saturating_sub(self.used.memory.0));
        if free < need.resources.memory {
            return Some(Reason::Memory { free, needed: need.resources.memory });
        }
        if let Some((port, _)) = need.fixed.iter().find(|port| self.ports.contains(port)) {
            return Some(Reason::Port { port: *port, holder: None });
        }
        self.lacks_ports(need).then_some(Reason::Ports)
    }

    /// Whether an instance of `spec` can have these ports: the fixed ones must match, the others
    /// must be in the node's range, and all must be free.
    pub(crate) fn ports_available(&self, ports: &[u16], spec: &Spec) -> bool {
        let (first, last) = self.node.ports;
        let mut own = BTreeSet::new();
        ports.len() == spec.all_ports().count()
            && spec.all_ports().zip(ports).all(|(wanted, port)| {
                let fits = match wanted.port {
                    0 => (first..=last).contains(port),
                    fixed => fixed == *port,
                };
                let held = (*port, wanted.protocol);
                fits && !self.ports.contains(&held) && own.insert(held)
            })
    }

    /// Whether the node's range has too few free ports. A port held for one protocol is not
    /// assigned for the other.
    fn lacks_ports(&self, need: &Requirements) -> bool {
        let (first, last) = self.node.ports;
        let all = usize::from(last.saturating_sub(first)) + 1;
        if self.ports.len() + need.fixed.len() + need.assigned <= all {
            return false;
        }
        let held = self.ports.iter().chain(&need.fixed).map(|(port, _)| *port);
        let held: BTreeSet<u16> = held.filter(|port| (first..=last).contains(port)).collect();
        held.len() + need.assigned > all
    }
}

fn held_ports(placement: &Placement, spec: &Spec) -> Vec<(u16, Protocol)> {
    let protocols = spec.all_ports().map(|port| port.protocol);
    placement.given.ports.iter().copied().zip(protocols).collect()
}
