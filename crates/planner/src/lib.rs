//! The scheduler of Muster: the next steps, and the reason for every step that is not taken.
//!
//! [`plan`] compares the desired state ([`State`]) with the observed state ([`Observed`]) and
//! returns steps, all of which may be adopted at once, and the reason why each service that has not
//! arrived at its target waits. It is pure and total: it never fails, it explains. It is
//! level-triggered: it does not depend on what changed, so planning twice gives the same plan.
//! After a plan is adopted there is nothing to plan until another observation, except for what an
//! adopted step enables: a service that arrives lets others start, a deployment that fails rolls
//! back. A caller must therefore plan again until a plan has no steps; that takes a few rounds and
//! terminates.
//!
//! One mechanism replaces instances, independent of the cause. An instance that must not stay (of
//! another revision, unhealthy, on a draining node, or surplus) is *outgoing*; `service` replaces
//! outgoing instances within the budget that `rolling` computes. `view` has the inputs that all
//! services share, `packer` selects nodes, `order` makes services wait for their dependencies,
//! `routes` computes route tables, `dry_run` simulates a plan until it completes, and `work_queue`
//! plans only services whose plan can have changed.

mod dry_run;
mod instance;
mod order;
mod packer;
pub mod rolling;
mod routes;
pub mod scenario;
mod service;
mod surplus;
mod terminated;
mod view;
mod work_queue;

use std::collections::BTreeSet;

use model::{Observed, Service, ServiceId, State, Step, Timestamp, Wait};

pub use dry_run::{DryRun, dry_run};
pub use packer::Packer;
pub use routes::{routes, table_route};
pub use work_queue::WorkQueue;

use instance::ServiceView;
use view::View;

/// The next steps, and the reasons why services wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Steps, in the order in which they must be applied.
    pub steps: Vec<Step>,
    /// Why services that have not arrived at their target wait.
    pub waits: Vec<(ServiceId, Wait)>,
    /// When to plan again even if nothing is observed until then.
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

/// Plans for every service.
pub fn plan(state: &State, observed: &Observed, now: Timestamp) -> Plan {
    let view = View::new(state, observed, now);
    // Services and their statuses are both in the order of their paths.
    let mut reported = observed.instances.iter().peekable();
    let services = state.services().map(|service| {
        while reported.next_if(|(id, _)| **id < service.id).is_some() {}
        let statuses = reported.next_if(|(id, _)| **id == service.id);
        ServiceView { service, statuses: statuses.map(|(_, statuses)| statuses.as_ref()) }
    });
    plan_for(&view, services, |_, _| {})
}

/// Plans for some services, in the order of their paths. Calls `due` with the time at which a
/// service needs planning again.
pub(crate) fn plan_for<'a>(
    view: &View<'a>,
    services: impl Iterator<Item = ServiceView<'a>>,
    mut due: impl FnMut(&'a Service, Timestamp),
) -> Plan {
    let mut plan = Plan::default();
    if let Some(at) = view.awaited_until {
        // A plan from incomplete observations would replace healthy instances. Instances and routes
        // stay as they are until every agent has reported or is overdue.
        plan.wake(at);
        return plan;
    }
    let unsettled: Vec<_> = services.filter(|service| !service.is_settled(view)).collect();
    let mut packer = Packer::new(view.state, &view.lost, &view.unreported, &view.observed.unknown);
    // Terminated instances of any service free capacity for all services, so they come first.
    let terminated: Vec<_> = unsettled
        .iter()
        .map(|service| terminated::reap(view, *service, &mut packer, &mut plan))
        .collect();
    let mut failed = BTreeSet::new();
    let mut wake_at = view.loss_at;
    for (service_view, terminated) in unsettled.into_iter().zip(terminated) {
        service::plan(view, service_view, terminated, &mut packer, &mut plan, &mut failed);
        if let Some(at) = plan.wake_at.take() {
            due(service_view.service, at);
            wake_at = Some(wake_at.map_or(at, |known| known.min(at)));
        }
    }
    plan.wake_at = wake_at;
    plan
}
