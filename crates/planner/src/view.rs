//! The inputs of a plan, with values derived from them that all services share.
//!
//! Computed for each plan in one pass over the nodes; values that few services need are computed on
//! first use.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    GATEWAY_SILENCE_MAX, NodeId, Observed, Placement, Service, ServiceId, State, Timestamp,
};

pub(crate) struct View<'a> {
    pub(crate) state: &'a State,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
    /// Set while too few agents have reported to act: when they are overdue.
    pub(crate) awaited_until: Option<Timestamp>,
    /// Nodes whose agent has been silent for too long.
    pub(crate) lost: BTreeSet<NodeId>,
    /// When the next node becomes lost.
    pub(crate) loss_at: Option<Timestamp>,
    /// Nodes whose agent has not reported since observation began. They get no instances; those
    /// they have become lost like others, counted from when observation began.
    pub(crate) unreported: BTreeSet<NodeId>,
    /// Nodes that are being drained.
    pub(crate) draining: BTreeSet<NodeId>,
    /// The gateways that must report an instance as drained before it is stopped.
    pub(crate) gateways: Vec<NodeId>,
    /// When the next of these counts as silent.
    pub(crate) gateway_silent_at: Option<Timestamp>,
    dependents: OnceCell<BTreeMap<ServiceId, Vec<ServiceId>>>,
}

fn earlier(known: &mut Option<Timestamp>, at: Timestamp) {
    *known = Some(known.map_or(at, |known| known.min(at)));
}

impl<'a> View<'a> {
    pub(crate) fn new(state: &'a State, observed: &'a Observed, now: Timestamp) -> Self {
        let mut view = View {
            state,
            observed,
            now,
            awaited_until: None,
            lost: BTreeSet::new(),
            loss_at: None,
            unreported: BTreeSet::new(),
            draining: BTreeSet::new(),
            gateways: Vec::new(),
            gateway_silent_at: None,
            dependents: OnceCell::new(),
        };
        // Nodes and agents are both in the order of their names: one pass over both.
        let mut agents = observed.agents.iter().peekable();
        for member in state.node_index() {
            let id = &member.id;
            while agents.next_if(|(other, _)| *other < id).is_some() {}
            let agent = agents.next_if(|(other, _)| *other == id).map(|(_, agent)| agent);
            if let Some(at) = observed.awaited_until(state, member, agent).filter(|at| *at > now) {
                earlier(&mut view.awaited_until, at);
            }
            if member.agent {
                match observed.lost_at(agent) {
                    at if at <= now => drop(view.lost.insert(id.clone())),
                    at => earlier(&mut view.loss_at, at),
                }
                if agent.is_none() {
                    view.unreported.insert(id.clone());
                }
            }
            if member.draining {
                view.draining.insert(id.clone());
            }
            if member.gateway && observed.gateway_responds(id, now) {
                let seen_at = observed.gateways.get(id).map_or(observed.since, |g| g.seen_at);
                earlier(&mut view.gateway_silent_at, seen_at.after(GATEWAY_SILENCE_MAX));
                view.gateways.push(id.clone());
            }
        }
        view
    }

    /// When an instance on a lost node is replaced; `None` if never.
    pub(crate) fn given_up_at(
        &self,
        service: &Service,
        placement: &Placement,
    ) -> Option<Timestamp> {
        let lost = &service.spec().lost;
        let lost_at = || self.observed.lost_at(self.observed.agents.get(&placement.node));
        lost.replace.then(|| lost_at().after(lost.after))
    }

    /// The services that depend on `service` and are being removed, stopped or paused.
    pub(crate) fn dependents(&self, service: &ServiceId) -> &[ServiceId] {
        let dependents = self.dependents.get_or_init(|| {
            let mut dependents = BTreeMap::<_, Vec<_>>::new();
            let leaves = |service: &&Arc<Service>| {
                service.removing
                    || (service.is_leaving() && !service.placements.is_empty())
                    // Its deployment ends once all its instances are suspended.
                    || (service.is_paused() && service.deployment.is_some())
            };
            for service in self.state.services().filter(leaves) {
                for dependency in &service.spec().depends_on {
                    let of_one = dependents.entry(dependency.clone()).or_default();
                    of_one.push(service.id.clone());
                }
            }
            dependents
        });
        dependents.get(service).map_or(&[], Vec::as_slice)
    }
}
