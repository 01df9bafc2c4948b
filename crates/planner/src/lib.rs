//! The judgement of Muster: what to do next, and why not.
//!
//! [`plan`] looks at what is wanted ([`State`]) and at what is ([`Observed`]) and answers with
//! steps, all of which may be taken at once, and with what every service that is not where it
//! should be waits for. It is pure and total: it never fails, it explains. It is level-triggered:
//! it does not ask what happened, so planning twice changes nothing, and adopting a plan leaves
//! nothing to plan until something else is observed.
//!
//! One mechanism moves instances, whatever the cause. An instance that should not stay (another
//! revision is wanted, it is unhealthy, its node is being drained, there are too many) is
//! *outgoing*; `service` replaces outgoing instances within the budget that `rolling` computes.
//! `room` finds nodes, `order` lets services wait for each other, `routes` says who gets traffic,
//! `foresight` plays a plan through to its end, `agenda` plans only what can have changed.

mod agenda;
mod foresight;
mod order;
pub mod rolling;
mod room;
mod routes;
mod service;

use std::collections::BTreeSet;

use model::{NodeId, Observed, Service, ServiceId, State, Step, Timestamp, Wait};

pub use agenda::Agenda;
pub use foresight::{Foresight, foresee};
pub use room::Room;
pub use routes::{routes, table_route};

/// What to do now, and what is waited for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Steps, in the order in which they are to be applied.
    pub steps: Vec<Step>,
    /// What services that are not where they should be wait for.
    pub waits: Vec<(ServiceId, Wait)>,
    /// When to plan again even if nothing else is observed until then.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    pub(crate) fn wait(&mut self, service: &ServiceId, wait: Wait) {
        self.waits.push((service.clone(), wait));
    }
}

/// What a plan is made from, with what every service would otherwise work out again.
pub(crate) struct View<'a> {
    pub(crate) state: &'a State,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
    /// Nodes that have been silent for too long.
    pub(crate) lost: BTreeSet<NodeId>,
    /// Nodes that are being drained.
    pub(crate) draining: BTreeSet<NodeId>,
    /// Services that gateways send requests to, if any gateway is there to send them.
    pub(crate) routed: BTreeSet<ServiceId>,
    /// The gateways whose word is waited for before an instance is stopped.
    pub(crate) gateways: Vec<NodeId>,
}

impl<'a> View<'a> {
    pub(crate) fn new(state: &'a State, observed: &'a Observed, now: Timestamp) -> Self {
        let mut view = View {
            state,
            observed,
            now,
            lost: BTreeSet::new(),
            draining: BTreeSet::new(),
            routed: BTreeSet::new(),
            gateways: Vec::new(),
        };
        for node in state.nodes() {
            if node.capacity.is_some() && observed.is_lost(&node.id, now) {
                view.lost.insert(node.id.clone());
            }
            if node.availability == model::Availability::Draining {
                view.draining.insert(node.id.clone());
            }
            if node.gateway && observed.gateway_answers(&node.id, now) {
                view.gateways.push(node.id.clone());
            }
        }
        if !view.gateways.is_empty() {
            let routes = state.gateways().flat_map(|gateway| &gateway.routes);
            view.routed = routes.map(|route| route.to.service.clone()).collect();
        }
        view
    }
}

/// Plans for every service.
pub fn plan(state: &State, observed: &Observed, now: Timestamp) -> Plan {
    plan_for(state, observed, now, state.services().map(AsRef::as_ref))
}

/// Plans for some services, given in the order of their paths.
pub(crate) fn plan_for<'a>(
    state: &State,
    observed: &Observed,
    now: Timestamp,
    services: impl Iterator<Item = &'a Service>,
) -> Plan {
    let mut plan = Plan::default();
    if !observed.is_settled(state, now) {
        // Acting on half the truth would replace what runs well. Until every agent has spoken or
        // is overdue, instances and routes stay as they are.
        plan.wake(observed.since.after(observed.lost_after));
        return plan;
    }
    let view = View::new(state, observed, now);
    let mut room = Room::new(state, &view.lost);
    for service in services {
        service::plan(&view, service, &mut room, &mut plan);
    }
    plan.wake_before_loss(&view);
    plan
}

impl Plan {
    /// The next time a node that runs instances would count as lost.
    fn wake_before_loss(&mut self, view: &View<'_>) {
        for (node, agent) in &view.observed.agents {
            if !view.lost.contains(node) && view.state.is_used(node) {
                self.wake(agent.seen_at.after(view.observed.lost_after));
            }
        }
    }
}
