//! A service: its revisions, its target, and its placed instances.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::constraint::Rule;
use crate::failure::Failure;
use crate::id::{DeploymentId, NodeId, ReplicaId, ResourceId, RevisionNumber, ServiceId};
use crate::pause::Pause;
use crate::revision::{Revision, RevisionOutcome};
use crate::run::Run;
use crate::spec::{Restart, Spec, is_default};
use crate::unit::{Millis, Timestamp};

/// A service with its revisions and placements, each of which is an object of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// The part that is stored as the service's own object. `Service` dereferences to it.
    pub head: ServiceHead,
    /// Its revisions, by number.
    pub revisions: BTreeMap<RevisionNumber, Arc<Revision>>,
    /// Its instances.
    pub placements: BTreeMap<ReplicaId, Placement>,
    /// The constraints of the target with its instances counted. Derived; see `rule_counts`.
    pub(crate) rules: Arc<Vec<Rule>>,
}

/// The part of a service that is stored as its own object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceHead {
    /// Its path.
    pub id: ServiceId,
    /// The revision that its instances are moved to.
    pub target: RevisionNumber,
    /// The last revision whose deployment succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<RevisionNumber>,
    /// The deployment that moves it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// The revision that failed, and why. Cleared by the next revision.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "latch")]
    pub failed: Option<FailedRevision>,
    /// Whether the service is removed once its last instance has stopped.
    #[serde(default)]
    pub removing: bool,
    /// Whether its instances run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub run: Run,
    /// Whether nothing is done to it automatically; see [`State::is_frozen`](crate::State).
    #[serde(default, skip_serializing_if = "is_default")]
    pub frozen: bool,
    /// The resources that are not restarted once they have ended, while the service as a whole is
    /// not frozen.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub frozen_resources: BTreeSet<ResourceId>,
    /// The history of each slot, by slot number.
    #[serde(default)]
    pub slots: Vec<Slot>,
    /// A lower bound for the attempts of each slot: ids of instances up to it may belong to a
    /// removed service of this path, and ids are never reused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts_before: u32,
    /// The number of times that a user cancelled the back-off. When it changes, agents start
    /// waiting instances.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
}

impl ServiceHead {
    /// A service without revisions. Instances of a removed service of this path may have had up to
    /// `attempts_before` attempts.
    pub fn new(id: ServiceId, attempts_before: u32) -> Self {
        Self {
            id,
            target: 0,
            settled: None,
            deployment: None,
            failed: None,
            removing: false,
            run: Run::default(),
            frozen: false,
            frozen_resources: BTreeSet::new(),
            slots: Vec::new(),
            attempts_before,
            retries: 0,
        }
    }
}

impl From<ServiceHead> for Service {
    fn from(head: ServiceHead) -> Self {
        Service {
            head,
            revisions: BTreeMap::new(),
            placements: BTreeMap::new(),
            rules: Arc::default(),
        }
    }
}

impl Deref for Service {
    type Target = ServiceHead;

    #[inline]
    fn deref(&self) -> &ServiceHead {
        &self.head
    }
}

impl DerefMut for Service {
    #[inline]
    fn deref_mut(&mut self) -> &mut ServiceHead {
        &mut self.head
    }
}

/// A revision that failed, so that the target is an earlier one or the service is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRevision {
    /// The revision that failed.
    pub revision: RevisionNumber,
    /// Why its deployment failed.
    pub reason: Arc<Failure>,
    /// When it failed.
    pub at: Timestamp,
}

/// The history of a slot, which outlives its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slot {
    /// The number of placements so far.
    pub attempts: u32,
    /// Consecutive placements that were given up as unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// When the last of them was given up.
    #[serde(default, skip_serializing_if = "is_epoch")]
    pub failed_at: Timestamp,
}

impl Slot {
    /// Counts a placement, made at `placed_at`, that is given up as unhealthy. If it lasted for
    /// `reset_after`, the count of consecutive failures starts again.
    pub fn fail(&mut self, placed_at: Timestamp, at: Timestamp, restart: &Restart) {
        let row_has_ended = at.since(placed_at) >= restart.reset_after;
        self.failures = if row_has_ended { 1 } else { self.failures.saturating_add(1) };
        self.failed_at = at;
    }

    /// When the next placement may be made: repeated failures delay it.
    pub fn placeable_at(&self, restart: &Restart) -> Timestamp {
        match self.failures {
            0 => Timestamp(0),
            failures => self.failed_at.after(restart.delay(failures)),
        }
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_epoch(time: &Timestamp) -> bool {
    time.0 == 0
}

/// The node of an instance, and its goal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The revision that it was started from.
    pub revision: RevisionNumber,
    /// The node.
    pub node: NodeId,
    /// The allocation of the node. Its fields are stored as fields of the placement.
    #[serde(flatten)]
    pub given: Given,
    /// The goal.
    pub goal: Goal,
    /// The pause of an instance whose goal is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// When it was placed.
    pub placed_at: Timestamp,
}

/// The allocation of an instance on its node. Stored, and sent to agents, as fields of the
/// enclosing object. `ports` is always written, because older agents require it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Given {
    /// Ports of the node, in the order of [`Spec::all_ports`].
    #[serde(default)]
    pub ports: Vec<u16>,
}

/// The goal of an instance. Goals only go forward.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum Goal {
    /// It should run, and may get traffic unless it is paused.
    Run,
    /// It runs but receives no new requests, until those in flight are done or the deadline passes.
    Drain {
        /// The deadline, when it is stopped in any case.
        until: Timestamp,
        /// Why it leaves.
        why: StopReason,
    },
    /// It should stop.
    Stop {
        /// Why it leaves.
        why: StopReason,
    },
}

/// Why an instance leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// Another revision takes its place.
    Replaced,
    /// There are more instances than wanted.
    Surplus,
    /// It failed its health check.
    Unhealthy,
    /// Its node is being drained.
    Draining,
    /// Its node is unreachable.
    Lost,
    /// Its service is being removed.
    Removed,
    /// Its service is stopped.
    Stopped,
    /// A user killed it.
    #[serde(alias = "asked")]
    Requested,
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            StopReason::Replaced => "replaced by another revision",
            StopReason::Surplus => "more instances than wanted",
            StopReason::Unhealthy => "unhealthy",
            StopReason::Draining => "its node is being drained",
            StopReason::Lost => "its node is lost",
            StopReason::Removed => "its service is being removed",
            StopReason::Stopped => "its service is stopped",
            StopReason::Requested => "a user asked for it",
        })
    }
}

impl Placement {
    /// Whether it should run: it does not terminate.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        matches!(self.goal, Goal::Run)
    }

    /// Whether it may receive traffic.
    #[inline]
    pub fn may_serve(&self) -> bool {
        self.is_wanted() && self.pause.is_none()
    }

    /// Whether its processes should be suspended.
    #[inline]
    pub fn is_suspended(&self) -> bool {
        self.pause == Some(Pause::Suspend)
    }
}

impl Service {
    /// The target revision.
    #[inline]
    pub fn target(&self) -> &Arc<Revision> {
        &self.revisions[&self.target]
    }

    /// The spec of the target.
    #[inline]
    pub fn spec(&self) -> &Arc<Spec> {
        &self.target().spec
    }

    /// The number of instances that should run now.
    #[inline]
    pub fn wanted(&self) -> u32 {
        if self.is_leaving() { 0 } else { self.spec().instances }
    }

    /// Whether all its instances terminate: it is removed or stopped.
    #[inline]
    pub fn is_leaving(&self) -> bool {
        self.removing || self.run == Run::Stopped
    }

    /// Whether all its instances are suspended, and none is added or replaced.
    #[inline]
    pub fn is_paused(&self) -> bool {
        !self.removing && self.run == Run::Paused
    }

    /// The template of a revision. A revision that was dropped is its own template.
    #[inline]
    pub fn template(&self, revision: RevisionNumber) -> RevisionNumber {
        self.revisions.get(&revision).map_or(revision, |revision| revision.template)
    }

    /// Whether instances of `revision` reach the target without a restart.
    #[inline]
    pub fn is_current(&self, revision: RevisionNumber) -> bool {
        self.template(revision) == self.target().template
    }

    /// The spec in effect for instances of `revision`: the target's, if that needs no restart, so
    /// that changed checks take effect in place.
    pub fn running_spec(&self, revision: RevisionNumber) -> &Arc<Spec> {
        match self.revisions.get(&revision) {
            Some(own) if !self.is_current(revision) => &own.spec,
            _ => self.spec(),
        }
    }

    /// The history of a slot.
    pub fn slot(&self, slot: u32) -> Slot {
        let fresh = Slot { attempts: self.attempts_before, ..Slot::default() };
        self.slots.get(slot as usize).copied().unwrap_or(fresh)
    }

    /// The revision to which an undo returns: the last one before the target that succeeded with
    /// another template. Without any, the last one whose template is not known to have failed: earlier
    /// versions of this program did not record outcomes.
    pub fn last_success(&self) -> Option<&Arc<Revision>> {
        let target = self.target();
        let earlier = self.revisions.range(..target.number).rev().map(|(_, revision)| revision);
        let earlier = earlier.filter(|revision| revision.template != target.template);
        let has_succeeded = |revision: &&Arc<Revision>| {
            revision.has_succeeded() || self.settled == Some(revision.number)
        };
        let has_failed = |template: RevisionNumber| {
            let mut of_template = self.revisions.values().filter(|one| one.template == template);
            of_template.any(|one| matches!(one.outcome, Some(RevisionOutcome::Failed { .. })))
        };
        let is_unknown = |revision: &&Arc<Revision>| {
            revision.outcome.is_none() && !has_failed(revision.template)
        };
        let succeeded = earlier.clone().find(has_succeeded);
        succeeded.or_else(|| earlier.clone().find(is_unknown))
    }

    /// The timeout for finishing requests of instances of `revision`.
    pub fn drain(&self, revision: RevisionNumber) -> Millis {
        self.running_spec(revision).stop.drain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_of_a_slot_grows_with_consecutive_failures() {
        let restart = Restart::default();
        let mut slot = Slot::default();
        assert_eq!(slot.placeable_at(&restart), Timestamp(0));
        let mut at = Timestamp(1_000_000);
        for (lasted, failures, delay) in [
            (Millis(0), 1, 0),
            (Millis(1), 2, 1000),
            (Millis(29_999), 3, 1150),
            (Millis::secs(30), 1, 0),
            (Millis(5000), 2, 1000),
        ] {
            let placed_at = at;
            at = at.after(lasted);
            slot.fail(placed_at, at, &restart);
            assert_eq!((slot.failures, slot.failed_at), (failures, at), "after {lasted}");
            assert_eq!(slot.placeable_at(&restart), at.after(Millis(delay)), "after {lasted}");
        }
    }

    /// Events give no more than this about why an instance left.
    #[test]
    fn each_stop_reason_has_a_distinct_message() {
        use StopReason::*;
        let all = [Replaced, Surplus, Unhealthy, Draining, Lost, Removed, Stopped, Requested];
        let mut words: Vec<_> = all.iter().map(StopReason::to_string).collect();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), all.len());
    }

    #[test]
    fn zero_fields_are_not_stored() {
        let slot = Slot { attempts: 3, ..Slot::default() };
        let text = |slot: &Slot| serde_json::to_string(slot).expect("it is written");
        assert_eq!(text(&slot), r#"{"attempts":3}"#);
        let failed = Slot { failures: 1, failed_at: Timestamp(5), ..slot };
        let read: Slot = serde_json::from_str(&text(&failed)).expect("it reads back");
        assert_eq!(read, failed);
    }
}
