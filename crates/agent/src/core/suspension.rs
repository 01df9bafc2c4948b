//! Whether the processes of one run are suspended, and the requests that change it: at most one at a
//! time, repeated with growing delays while it fails.

use model::{Restart, Timestamp};

/// The suspension of one run, as far as the agent knows.
#[derive(Debug, Clone)]
pub(super) struct Suspension {
    /// Whether its processes are suspended; `None` after a failure, when that is unknown.
    suspended: Option<bool>,
    /// The request in progress.
    requested: Option<bool>,
    /// The number of consecutive failures, and when the next attempt is due.
    failures: u32,
    retry_at: Timestamp,
    /// Why the last request failed.
    error: Option<String>,
}

impl Suspension {
    /// A run that was found, or started, in this state.
    pub(super) fn new(suspended: bool) -> Self {
        Self {
            suspended: Some(suspended),
            requested: None,
            failures: 0,
            retry_at: Timestamp(0),
            error: None,
        }
    }

    /// Whether it is known to be in this state and no request would change it.
    pub(super) fn is(&self, suspended: bool) -> bool {
        self.requested.is_none() && self.suspended == Some(suspended)
    }

    /// The request to make now to reach `desired`, if any. It counts as in progress until
    /// [`Self::done`].
    pub(super) fn due(&mut self, desired: bool, now: Timestamp) -> Option<bool> {
        if self.requested.is_some() || self.suspended == Some(desired) {
            return None;
        }
        if self.suspended.is_none() && now < self.retry_at {
            return None;
        }
        self.requested = Some(desired);
        self.requested
    }

    /// Records the outcome of a request. Returns whether it has succeeded.
    pub(super) fn done(
        &mut self,
        suspended: bool,
        outcome: Result<(), String>,
        restart: &Restart,
        now: Timestamp,
    ) -> bool {
        if self.requested != Some(suspended) {
            return false;
        }
        self.requested = None;
        self.error = outcome.err();
        if self.error.is_none() {
            (self.suspended, self.failures) = (Some(suspended), 0);
            return true;
        }
        self.suspended = None;
        self.failures = self.failures.saturating_add(1);
        // The first restart of a program is immediate, but repeating a request at once would meet
        // the same error.
        self.retry_at = now.after(restart.delay(self.failures.saturating_add(1)));
        false
    }

    /// When the next attempt is due.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        (self.requested.is_none() && self.suspended.is_none()).then_some(self.retry_at)
    }

    /// Why the last request failed.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_at_a_time_is_made_until_the_desired_state_is_reached() {
        let (restart, now) = (Restart::default(), Timestamp(1_000));
        let mut suspension = Suspension::new(false);
        assert!(suspension.is(false) && suspension.due(false, now).is_none());
        assert_eq!(suspension.due(true, now), Some(true));
        assert_eq!(suspension.due(false, now), None, "the request is in progress");
        assert!(!suspension.is(false) && !suspension.is(true));
        assert!(suspension.done(true, Ok(()), &restart, now));
        assert!(suspension.is(true));
        assert_eq!(suspension.due(false, now), Some(false));
        assert!(!suspension.done(true, Ok(()), &restart, now), "a late outcome changes nothing");
    }

    #[test]
    fn a_failed_request_is_repeated_after_a_delay() {
        let (restart, now) = (Restart::default(), Timestamp(1_000));
        let mut suspension = Suspension::new(false);
        suspension.due(true, now);
        assert!(!suspension.done(true, Err("no".into()), &restart, now));
        assert_eq!(suspension.due(true, now), None);
        assert_eq!(suspension.error(), Some("no"));
        let at = suspension.wake_at().unwrap();
        assert!(at > now);
        assert_eq!(suspension.due(false, at), Some(false), "part of it may be suspended");
        assert!(suspension.done(false, Ok(()), &restart, at));
        assert_eq!((suspension.error(), suspension.wake_at()), (None, None));
    }
}
