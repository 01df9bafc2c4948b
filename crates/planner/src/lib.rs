//! The judgement of Muster: what to do next, and why not.
//!
//! [`plan`] looks at what is wanted ([`State`]) and at what is ([`Observed`]) and answers with
//! steps, all of which may be taken at once, and with what every service that is not where it
//! should be waits for. It is pure and total: it never fails, it explains. It is level-triggered:
//! it does not ask what happened, so planning twice changes nothing, and adopting a plan leaves
//! nothing to plan until something else is observed, but for what an adopted step has opened up:
//! a service that arrives lets others start, a deployment that fails turns back. So whoever adopts
//! a plan plans again, until there are no steps; that takes a few rounds, and ends.
//!
//! One mechanism moves instances, whatever the cause. An instance that should not stay (another
//! revision is wanted, it is unhealthy, its node is being drained, there are too many) is
//! *outgoing*; `service` replaces outgoing instances within the budget that `rolling` computes.
//! `view` is what all of it looks at, `room` finds nodes, `order` lets services wait for each other, `routes` says who gets traffic,
//! `dry_run` plays a plan through to its end, `work_queue` plans only what can have changed.

mod dry_run;
mod ended;
mod instance;
mod order;
pub mod rolling;
mod room;
mod routes;
pub mod scenario;
mod service;
mod surplus;
mod view;
mod work_queue;

use std::collections::BTreeSet;

use model::{Observed, Service, ServiceId, State, Step, Timestamp, Wait};

pub use dry_run::{DryRun, dry_run};
pub use room::Room;
pub use routes::{routes, table_route};
pub use work_queue::WorkQueue;

use instance::Subject;
use view::View;

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

/// Plans for every service.
pub fn plan(state: &State, observed: &Observed, now: Timestamp) -> Plan {
    let view = View::new(state, observed, now);
    // Services and what is reported of them are both in the order of their paths.
    let mut told = observed.instances.iter().peekable();
    let subjects = state.services().map(|service| {
        while told.next_if(|(id, _)| **id < service.id).is_some() {}
        let statuses = told.next_if(|(id, _)| **id == service.id);
        Subject { service, statuses: statuses.map(|(_, statuses)| statuses.as_ref()) }
    });
    plan_for(&view, subjects, |_, _| {})
}

/// Plans for some services, given in the order of their paths. Tells each time at which one of
/// them needs planning again.
pub(crate) fn plan_for<'a>(
    view: &View<'a>,
    subjects: impl Iterator<Item = Subject<'a>>,
    mut due: impl FnMut(&'a Service, Timestamp),
) -> Plan {
    let mut plan = Plan::default();
    if let Some(at) = view.awaited_until {
        // Acting on half the truth would replace what runs well. Until every agent has spoken or
        // is overdue, instances and routes stay as they are.
        plan.wake(at);
        return plan;
    }
    let restless: Vec<_> = subjects.filter(|subject| !subject.rests(view)).collect();
    let mut room = Room::new(view.state, &view.lost);
    // What has ended makes room for all the others, wherever they stand in the order.
    let ended: Vec<_> = restless
        .iter()
        .map(|subject| ended::forget(view, *subject, &mut room, &mut plan))
        .collect();
    let mut failed = BTreeSet::new();
    let mut wake_at = view.loss_at;
    for (subject, ended) in restless.into_iter().zip(ended) {
        service::plan(view, subject, ended, &mut room, &mut plan, &mut failed);
        if let Some(at) = plan.wake_at.take() {
            due(subject.service, at);
            wake_at = Some(wake_at.map_or(at, |known| known.min(at)));
        }
    }
    plan.wake_at = wake_at;
    plan
}
