//! When the server is told what: what has changed at once (one report is under way at a time, so
//! what happens meanwhile goes together in the next), everything when a connection is new or the
//! server asks for it, and a sign of life otherwise.

use std::collections::BTreeSet;

use model::{InstanceId, Millis, Status, Timestamp};

/// A sign of life is sent this long after the report before.
pub(super) const HEARTBEAT: Millis = Millis::secs(2);
/// A report that failed is followed by the next one after this long.
const RETRY: Millis = Millis(250);
/// So long a new connection may take to bring assignments before everything is reported anyway.
const FIRST_ASSIGNMENTS: Millis = Millis::secs(1);

/// What to report now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// Everything.
    Whole,
    /// These instances.
    Changed(BTreeSet<InstanceId>),
}

/// What the server has been told, and is still to be told.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    connected: bool,
    whole: bool,
    changed: BTreeSet<InstanceId>,
    /// Changes that can wait for the next report.
    aged: BTreeSet<InstanceId>,
    under_way: Option<Due>,
    /// How many there have been: the number of the newest.
    count: u64,
    /// Nothing is sent before.
    not_before: Timestamp,
    heartbeat_at: Timestamp,
}

impl Reporter {
    /// A server has been reached, anew or for the first time. Its assignments come first: what
    /// they make of the instances here is part of the whole truth.
    pub(super) fn connected(&mut self, now: Timestamp) {
        self.connected = true;
        self.whole = true;
        self.under_way = None;
        self.not_before = now.after(FIRST_ASSIGNMENTS);
    }

    /// The assignments of this connection are known.
    pub(super) fn assigned(&mut self) {
        self.not_before = Timestamp(0);
    }

    /// The status of an instance may have changed.
    pub(super) fn compare(&mut self, id: &InstanceId, before: Option<&Status>, after: &Status) {
        match before {
            Some(before) if before == after => {}
            Some(before) if before.essence() == after.essence() => {
                self.aged.insert(id.clone());
            }
            _ => {
                self.changed.insert(id.clone());
            }
        }
    }

    /// The number of the newest report.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// A report has arrived. What is known late of one that was given up says nothing about the
    /// one that is under way.
    pub(super) fn sent(&mut self, number: u64, resync: bool) {
        if number == self.count {
            self.under_way = None;
        }
        self.whole |= resync;
    }

    /// A report has failed: what was in it is still to be told.
    pub(super) fn failed(&mut self, number: u64, now: Timestamp) {
        if number != self.count {
            return;
        }
        match self.under_way.take() {
            Some(Due::Whole) => self.whole = true,
            Some(Due::Changed(ids)) => self.changed.extend(ids),
            None => {}
        }
        self.not_before = self.not_before.max(now.after(RETRY));
    }

    /// What to report now; it counts as under way until it is said to be sent or failed.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Due> {
        if !self.connected || self.under_way.is_some() || now < self.not_before {
            return None;
        }
        let due = if self.whole {
            self.changed.clear();
            self.aged.clear();
            Due::Whole
        } else if !self.changed.is_empty() || now >= self.heartbeat_at {
            let mut ids = std::mem::take(&mut self.changed);
            ids.append(&mut self.aged);
            Due::Changed(ids)
        } else {
            return None;
        };
        self.whole = false;
        self.heartbeat_at = now.after(HEARTBEAT);
        self.under_way = Some(due.clone());
        self.count += 1;
        Some(due)
    }

    /// When something will be due, if nothing happens before.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        if !self.connected || self.under_way.is_some() {
            return None;
        }
        let now = self.whole || !self.changed.is_empty();
        Some(if now { self.not_before } else { self.not_before.max(self.heartbeat_at) })
    }
}
