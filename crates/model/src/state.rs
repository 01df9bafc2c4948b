//! Queries of the desired state of a cluster, and the usage of each node.
//!
//! A `State` is a value: readers keep a clone for as long as they need it, and only
//! [`State::apply`](crate::apply) changes one. `object` declares its fields.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::constraint::Rule;
use crate::deployment::Deployment;
use crate::gateway::Gateway;
use crate::group::Group;
use crate::id::{DeploymentId, GatewayId, InstanceId, NodeId, ReplicaId, ServiceId};
use crate::node::{Availability, Node};
use crate::object::Meta;
pub use crate::object::State;
use crate::reason::Reason;
use crate::service::{Placement, Service};
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

/// The requirements of one more instance: the input of [`NodeUsage::rejection`].
#[derive(Debug, Clone)]
pub struct Requirements {
    /// Processor time and memory.
    pub resources: Resources,
    /// The fixed ports.
    pub fixed: Vec<(u16, Protocol)>,
    /// The number of ports to be assigned.
    pub assigned: usize,
    /// Features that the agent must have.
    pub features: Vec<&'static str>,
    /// Capabilities that the node must have.
    pub requires: Vec<String>,
    /// Roles of which the node must have one; any role fits if there are none.
    pub roles: Vec<String>,
    /// Constraints, with the existing instances counted.
    pub rules: Arc<Vec<Rule>>,
}

impl Requirements {
    /// The requirements of an instance of `spec`, except constraints.
    pub fn of(spec: &Spec) -> Requirements {
        let fixed = spec.all_ports().filter(|port| port.port != 0);
        let docker = spec.has_container().then(|| "docker".to_string());
        Requirements {
            resources: spec.total_resources(),
            fixed: fixed.map(|port| (port.port, port.protocol)).collect(),
            assigned: spec.all_ports().filter(|port| port.port == 0).count(),
            features: spec.features(),
            requires: docker.into_iter().chain(spec.requires.iter().cloned()).collect(),
            roles: spec.roles.iter().cloned().collect(),
            rules: Arc::default(),
        }
    }
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
        if let Some(needs) = need.features.iter().find(|f| !software.features.contains(**f)) {
            let (needs, version) = (needs.to_string(), software.version.clone());
            return Some(Reason::AgentTooOld { needs, version });
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

impl State {
    /// A state of no nodes and no services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counters of the cluster.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|node| &node.node)
    }

    /// The nodes with their usage, by name.
    pub fn node_usages(&self) -> impl Iterator<Item = &Arc<NodeUsage>> {
        self.nodes.values()
    }

    /// A node with its usage.
    pub fn node(&self, id: &NodeId) -> Option<&Arc<NodeUsage>> {
        self.nodes.get(id)
    }

    /// Adds to the reason of a rejection the instance that conflicts.
    pub fn in_full(&self, id: &NodeId, reason: Reason) -> Reason {
        let Reason::Port { port, holder: None } = reason else { return reason };
        let holds = |instance: &&InstanceId| {
            self.placement(instance).is_some_and(|placement| placement.given.ports.contains(&port))
        };
        let holder = self.node(id).and_then(|node| node.instances.iter().find(holds)).cloned();
        Reason::Port { port, holder }
    }

    /// Whether instances are placed on the node.
    pub fn is_used(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| !node.instances.is_empty())
    }

    /// The services, by path.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// A service.
    pub fn service(&self, id: &ServiceId) -> Option<&Arc<Service>> {
        self.services.get(id)
    }

    /// The placement of an instance.
    pub fn placement(&self, id: &InstanceId) -> Option<&Placement> {
        self.services.get(&id.service)?.placements.get(&id.replica)
    }

    /// The deployments, oldest first.
    pub fn deployments(&self) -> impl DoubleEndedIterator<Item = &Arc<Deployment>> {
        self.deployments.values()
    }

    /// A deployment.
    pub fn deployment(&self, id: DeploymentId) -> Option<&Arc<Deployment>> {
        self.deployments.get(&id)
    }

    /// The deployment that moves a service, if one does.
    pub fn deployment_of(&self, service: &Service) -> Option<&Arc<Deployment>> {
        service.deployment.and_then(|id| self.deployment(id))
    }

    /// The gateway documents, by name.
    pub fn gateways(&self) -> impl Iterator<Item = &Arc<Gateway>> {
        self.gateways.values()
    }

    /// A gateway document.
    pub fn gateway(&self, id: &GatewayId) -> Option<&Arc<Gateway>> {
        self.gateways.get(id)
    }

    /// The stored groups, by path.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// A stored group.
    pub fn group(&self, path: &ServiceId) -> Option<&Arc<Group>> {
        self.groups.get(path)
    }

    /// Why `node` cannot take one more instance that needs `need`; `None` if it can.
    pub fn rejection(&self, node: &NodeId, need: &Requirements) -> Option<Reason> {
        self.nodes.get(node).map_or(Some(Reason::NoAgent), |node| node.rejection(need))
    }

    /// The requirements of one more instance of the service at its target, constraints included.
    pub fn requirements(&self, service: &Service) -> Requirements {
        Requirements { rules: Arc::clone(&service.rules), ..Requirements::of(service.spec()) }
    }

    /// The same with the instances in `gone` left out.
    pub fn requirements_without(
        &self,
        service: &Service,
        gone: &BTreeSet<ReplicaId>,
    ) -> Requirements {
        let mut need = self.requirements(service);
        if !need.rules.is_empty() && gone.iter().any(|gone| service.placements.contains_key(gone)) {
            need.rules = Arc::new(self.count_rules(service, gone));
        }
        need
    }

    /// Adds a placement to its service and to the usage of its node. Returns the service.
    pub(crate) fn allocate(
        &mut self,
        id: InstanceId,
        placement: Placement,
    ) -> Option<&mut Service> {
        let service = Arc::make_mut(self.services.get_mut(&id.service)?);
        let spec = Arc::clone(&service.revisions.get(&placement.revision)?.spec);
        let node = self.nodes.get_mut(&placement.node)?;
        // Share the path of the service: a path decoded with the placement would be a copy per
        // instance.
        let id = InstanceId { service: service.id.clone(), replica: id.replica };
        let placement = Placement { node: node.node.id.clone(), ..placement };
        Arc::make_mut(node).allocate(id.clone(), &placement, &spec);
        service.placements.insert(id.replica, placement);
        Some(service)
    }

    /// Removes a placement from its service and from the usage of its node.
    pub(crate) fn release(&mut self, id: &InstanceId) -> Option<Placement> {
        let service = Arc::make_mut(self.services.get_mut(&id.service)?);
        let placement = service.placements.remove(&id.replica)?;
        let spec = Arc::clone(&service.revisions.get(&placement.revision)?.spec);
        if let Some(node) = self.nodes.get_mut(&placement.node) {
            Arc::make_mut(node).release(id, &placement, &spec);
        }
        Some(placement)
    }
}
