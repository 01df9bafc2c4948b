//! Reaps terminated instances before anything is placed: the capacity and ports they held are free
//! for all services in the same plan.

use std::collections::{BTreeMap, BTreeSet};

use model::{Goal, InstanceId, Placement, ReplicaId, Service, Slot, Step, StopReason, Timestamp};

use crate::Plan;
use crate::instance::ServiceView;
use crate::packer::Packer;
use crate::view::View;

/// The terminated instances of a service.
#[derive(Default)]
pub(crate) struct Terminated {
    /// The replicas that the plan's first steps remove.
    pub(crate) reaped: BTreeSet<ReplicaId>,
    /// The slots with a failure in this plan, as the model will store them after it is adopted.
    failed: BTreeMap<u32, Slot>,
}

impl Terminated {
    /// Counts an instance that is replaced as unhealthy, as the model will when the step is
    /// adopted.
    pub(crate) fn fail(
        &mut self,
        service: &Service,
        replica: ReplicaId,
        placement: &Placement,
        now: Timestamp,
    ) {
        if service.is_current(placement.revision) {
            let slot =
                self.failed.entry(replica.slot).or_insert_with(|| service.slot(replica.slot));
            slot.fail(placement.placed_at, now, &service.spec().restart);
        }
    }

    /// When the next instance may be placed in a slot.
    pub(crate) fn placeable_at(&self, service: &Service, slot: u32) -> Timestamp {
        let failed = self.failed.get(&slot).copied();
        failed.unwrap_or_else(|| service.slot(slot)).placeable_at(&service.spec().restart)
    }
}

/// Appends to `plan` the steps that remove the terminated instances of a service.
pub(crate) fn reap(
    view: &View<'_>,
    service_view: ServiceView<'_>,
    packer: &mut Packer,
    plan: &mut Plan,
) -> Terminated {
    let service = service_view.service;
    let mut terminated = Terminated::default();
    let is_frozen = view.state.is_frozen(service);
    for (replica, placement, status) in service_view.instances() {
        if is_frozen && placement.is_wanted() {
            continue;
        }
        let instance = InstanceId { service: service.id.clone(), replica };
        let is_lost = view.lost.contains(&placement.node);
        let why = if is_lost && may_come_back(view, service, placement) {
            continue;
        } else if is_lost {
            StopReason::Lost
        } else if status.is_some_and(|status| status.phase.is_over()) {
            match placement.goal {
                Goal::Drain { why, .. } | Goal::Stop { why } => why,
                Goal::Run => {
                    // It terminated by itself and is not restarted in place.
                    let (instance, why) = (instance.clone(), StopReason::Unhealthy);
                    plan.steps.push(Step::Stop { instance, why });
                    terminated.fail(service, replica, placement, view.now);
                    why
                }
            }
        } else {
            continue;
        };
        if let Some(revision) = service.revisions.get(&placement.revision) {
            packer.release(instance.clone(), placement, &revision.spec);
        }
        plan.steps.push(Step::Forget { instance, why });
        terminated.reaped.insert(replica);
    }
    terminated
}

/// Whether an instance on a lost node would stay if the node reported again. With constraints that
/// count instances, its replacement could not be placed while it counts.
fn may_come_back(view: &View<'_>, service: &Service, placement: &Placement) -> bool {
    let counted = service.spec().constraints.iter().any(|constraint| constraint.operator.counts());
    placement.is_wanted()
        && service.is_current(placement.revision)
        && !service.is_leaving()
        && (!counted || view.given_up_at(service, placement).is_none_or(|at| at > view.now))
}
