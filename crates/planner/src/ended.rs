//! What has ended is forgotten first: what it held is free for all the others in the same plan.

use std::collections::{BTreeMap, BTreeSet};

use model::{Goal, InstanceId, Placement, ReplicaId, Service, Slot, Step, StopReason, Timestamp};

use crate::Plan;
use crate::instance::Subject;
use crate::room::Room;
use crate::view::View;

/// What has ended of a service.
#[derive(Default)]
pub(crate) struct Ended {
    /// The replicas that are free once the plan's first steps are adopted.
    pub(crate) gone: BTreeSet<ReplicaId>,
    /// Slots whose instance is given up by this plan, as they will be remembered.
    failed: BTreeMap<u32, Slot>,
}

impl Ended {
    /// Counts an instance that is given up as unhealthy, as the model will once that is adopted.
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

    /// When the next placement in a slot may be made.
    pub(crate) fn placeable_at(&self, service: &Service, slot: u32) -> Timestamp {
        let failed = self.failed.get(&slot).copied();
        failed.unwrap_or_else(|| service.slot(slot)).placeable_at(&service.spec().restart)
    }
}

/// Appends to `plan` that what has ended of a service is forgotten.
pub(crate) fn forget(
    view: &View<'_>,
    subject: Subject<'_>,
    room: &mut Room,
    plan: &mut Plan,
) -> Ended {
    let service = subject.service;
    let mut ended = Ended::default();
    for (replica, placement, status) in subject.instances() {
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
                    // It ended for good by itself.
                    let (instance, why) = (instance.clone(), StopReason::Unhealthy);
                    plan.steps.push(Step::Stop { instance, why });
                    ended.fail(service, replica, placement, view.now);
                    why
                }
            }
        } else {
            continue;
        };
        if let Some(revision) = service.revisions.get(&placement.revision) {
            room.release(instance.clone(), placement, &revision.spec);
        }
        plan.steps.push(Step::Forget { instance, why });
        ended.gone.insert(replica);
    }
    ended
}

/// Whether an instance on a node that is lost would stay if the node called again. Where instances
/// of a service are counted by place, its replacement could not be placed while it counts.
fn may_come_back(view: &View<'_>, service: &Service, placement: &Placement) -> bool {
    let counted = service.spec().constraints.iter().any(|constraint| constraint.operator.counts());
    placement.is_wanted()
        && service.is_current(placement.revision)
        && !service.removing
        && (!counted || view.given_up_at(service, placement).is_none_or(|at| at > view.now))
}
