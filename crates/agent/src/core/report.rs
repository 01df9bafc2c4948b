//! When the server is sent a report. Changes are reported at once, with at most one report in
//! flight: changes made meanwhile are combined in the next one. A complete report follows a new
//! connection or a request of the server. Otherwise a heartbeat is sent.

use std::collections::BTreeSet;

use model::{InstanceId, Millis, Status, Timestamp};

/// A heartbeat is sent this long after the previous report.
pub(super) const HEARTBEAT: Millis = Millis::secs(2);
/// The wait after a report that failed.
const RETRY: Millis = Millis(250);
/// Timeout for a new connection to deliver assignments; afterwards everything is reported anyway.
const FIRST_ASSIGNMENTS: Millis = Millis::secs(1);

/// The content of a report that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// All instances.
    Whole,
    /// These instances.
    Changed(BTreeSet<InstanceId>),
}

/// Which changes have been reported, and which are pending.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    connected: bool,
    whole: bool,
    changed: BTreeSet<InstanceId>,
    /// Minor changes that can wait for the next report.
    aged: BTreeSet<InstanceId>,
    in_flight: Option<Due>,
    /// The number of reports so far, which is the number of the newest.
    count: u64,
    /// No report is sent before this time.
    not_before: Timestamp,
    heartbeat_at: Timestamp,
}

impl Reporter {
    /// Records a new connection to a server. Its assignments are awaited first, since the complete
    /// report must contain their effects.
    pub(super) fn connected(&mut self, now: Timestamp) {
        self.connected = true;
        self.whole = true;
        self.in_flight = None;
        self.not_before = now.after(FIRST_ASSIGNMENTS);
    }

    /// Records that the assignments of this connection have been applied.
    pub(super) fn assigned(&mut self) {
        self.not_before = Timestamp(0);
    }

    /// Records a change of the status of an instance, if it has changed.
    pub(super) fn compare(&mut self, id: &InstanceId, before: Option<&Status>, after: &Status) {
        match before {
            Some(before) if before == after => {}
            Some(before) if before.without_timestamps() == after.without_timestamps() => {
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

    /// Records that a report has arrived. A late result of a report that was given up does not
    /// affect the one in flight.
    pub(super) fn sent(&mut self, number: u64, resync: bool) {
        if number == self.count {
            self.in_flight = None;
        }
        self.whole |= resync;
    }

    /// Records that a report has failed: its content is pending again.
    pub(super) fn failed(&mut self, number: u64, now: Timestamp) {
        if number != self.count {
            return;
        }
        match self.in_flight.take() {
            Some(Due::Whole) => self.whole = true,
            Some(Due::Changed(ids)) => self.changed.extend(ids),
            None => {}
        }
        self.not_before = self.not_before.max(now.after(RETRY));
    }

    /// Returns the report that is due; it is in flight until `sent` or `failed` is called.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Due> {
        if !self.connected || self.in_flight.is_some() || now < self.not_before {
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
        self.in_flight = Some(due.clone());
        self.count += 1;
        Some(due)
    }

    /// When a report becomes due if nothing changes before.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        if !self.connected || self.in_flight.is_some() {
            return None;
        }
        let now = self.whole || !self.changed.is_empty();
        Some(if now { self.not_before } else { self.not_before.max(self.heartbeat_at) })
    }
}
