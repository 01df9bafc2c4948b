//! Which instances leave a service that has too many: those that are not ready, then the youngest or
//! the oldest, as the user asked.

use std::cmp::Reverse;

use model::{Availability, Goal, Operator, ReplicaId, Service, State, StopReason, Timestamp};
use server::control::Snapshot;

use crate::documents::SCALE_DOWN;
use crate::violation::Violation;

/// The order in which an instance leaves: the first has the lowest rank.
type Rank = (bool, Option<Reverse<(Timestamp, ReplicaId)>>, (Timestamp, ReplicaId));

/// Surplus instances leave before those that stay. Services whose instances are spread over groups
/// are not judged: their instances leave the largest group first.
pub(crate) fn leave(before: &Snapshot, after: &State, now: Timestamp) -> Option<Violation> {
    after.services().find_map(|service| {
        let was = before.state.service(&service.id)?;
        let is_spread = |service: &Service| {
            service.spec().constraints.iter().any(|one| one.operator == Operator::GroupBy)
        };
        if std::sync::Arc::ptr_eq(was, service) || is_spread(service) {
            return None;
        }
        let judged = Judged { before, was, after, service, now };
        let leaves = service.placements.keys().filter(|replica| judged.leaves(**replica));
        let stays = service.placements.keys().filter(|replica| judged.stays(**replica));
        let last = leaves.max_by_key(|replica| judged.rank(**replica))?;
        let first = stays.min_by_key(|replica| judged.rank(**replica))?;
        (judged.rank(*last) > judged.rank(*first)).then(|| {
            let name = |replica: &ReplicaId| format!("{}.{}", replica.slot, replica.attempt);
            let detail = format!("{}: {} leaves, {} stays", service.id, name(last), name(first));
            Violation::new("surplus instances leave in the order of scale_down", detail)
        })
    })
}

struct Judged<'a> {
    before: &'a Snapshot,
    was: &'a Service,
    after: &'a State,
    service: &'a Service,
    now: Timestamp,
}

impl Judged<'_> {
    fn was_wanted(&self, replica: ReplicaId) -> bool {
        self.was.placements.get(&replica).is_some_and(|placement| placement.goal == Goal::Run)
    }

    fn leaves(&self, replica: ReplicaId) -> bool {
        let goal = &self.service.placements[&replica].goal;
        let is_surplus = matches!(
            goal,
            Goal::Drain { why: StopReason::Surplus, .. } | Goal::Stop { why: StopReason::Surplus }
        );
        is_surplus && self.was_wanted(replica)
    }

    /// Whether it stays although it could have left as surplus: it has no other reason to leave.
    fn stays(&self, replica: ReplicaId) -> bool {
        let placement = &self.service.placements[&replica];
        let status = self.before.observed.status(&self.service.id, replica);
        let spec = self.service.running_spec(placement.revision);
        let node = self.after.node(&placement.node);
        placement.goal == Goal::Run
            && self.was_wanted(replica)
            && self.service.is_current(placement.revision)
            && !status.is_some_and(|status| status.is_unhealthy(spec))
            && !self.before.observed.is_lost(&placement.node, self.now)
            && node.is_some_and(|node| node.node.availability != Availability::Draining)
    }

    fn rank(&self, replica: ReplicaId) -> Rank {
        let placement = &self.service.placements[&replica];
        let status = self.before.observed.status(&self.service.id, replica);
        let spec = self.service.running_spec(placement.revision);
        let ready_at = status.and_then(|status| status.ready_at(spec));
        let is_ready = ready_at.is_some_and(|at| at <= self.now);
        let age = (placement.placed_at, replica);
        let youngest_first =
            self.service.spec().labels.get(SCALE_DOWN).is_none_or(|asked| asked == "youngest");
        (is_ready, youngest_first.then_some(Reverse(age)), age)
    }
}
