//! Queries of the desired state of a cluster.
//!
//! A `State` is a value: readers keep a clone for as long as they need it, and only
//! [`State::apply`](crate::apply) changes one. `object` declares its fields.

use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;

use crate::bundle::Bundle;
use crate::deployment::Deployment;
use crate::gateway::Gateway;
use crate::id::{
    DeploymentId, GatewayId, InstanceId, NodeId, ReplicaId, RevisionNumber, ServiceId,
};
use crate::node::Node;
use crate::object::Meta;
pub use crate::object::State;
use crate::reason::Reason;
use crate::requirements::Requirements;
use crate::service::{Placement, Service};
use crate::usage::NodeUsage;

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
    pub fn with_conflict(&self, id: &NodeId, reason: Reason) -> Reason {
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

    /// Whether nothing is done to a service automatically: it is frozen, and no forced deployment
    /// moves it.
    pub fn is_frozen(&self, service: &Service) -> bool {
        service.frozen && !self.deployment_of(service).is_some_and(|deployment| deployment.forced)
    }

    /// The gateway documents, by name.
    pub fn gateways(&self) -> impl Iterator<Item = &Arc<Gateway>> {
        self.gateways.values()
    }

    /// A gateway document.
    pub fn gateway(&self, id: &GatewayId) -> Option<&Arc<Gateway>> {
        self.gateways.get(id)
    }

    /// The newest revision of each bundle, by path.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        let mut revisions = self.bundles.values().peekable();
        iter::from_fn(move || {
            let path = &revisions.peek()?.spec.path;
            iter::from_fn(|| revisions.next_if(|bundle| bundle.spec.path == *path)).last()
        })
    }

    /// The revisions of a bundle, oldest first.
    pub fn bundle_revisions(
        &self,
        path: &ServiceId,
    ) -> impl DoubleEndedIterator<Item = &Arc<Bundle>> {
        let all = (path.clone(), RevisionNumber::MIN)..=(path.clone(), RevisionNumber::MAX);
        self.bundles.range(all).map(|(_, bundle)| bundle)
    }

    /// The newest revision of a bundle.
    pub fn bundle(&self, path: &ServiceId) -> Option<&Arc<Bundle>> {
        self.bundle_revisions(path).next_back()
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
