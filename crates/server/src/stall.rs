//! Detection of spans in which the server did not run.

use std::time::Duration;

use model::{Millis, Timestamp};

/// Detects spans in which no daemon could be heard because the server did not run: its process was
/// suspended, its machine slept, or its clock was set forward.
#[derive(Debug)]
pub struct StallDetector {
    /// Time of the last check.
    seen_at: Timestamp,
    /// Maximum interval of checks in normal operation.
    usual: Millis,
}

impl StallDetector {
    /// Starts with a check at `now`. [`StallDetector::stalled_for`] must be called at least every
    /// `usual`.
    pub fn new(usual: Duration, now: Timestamp) -> StallDetector {
        StallDetector {
            seen_at: now,
            usual: Millis(u64::try_from(usual.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Checks again. Returns the time since the last check if it exceeds the usual interval by more
    /// than half.
    pub fn stalled_for(&mut self, now: Timestamp) -> Option<Millis> {
        let span = now.since(self.seen_at);
        self.seen_at = now;
        // Checks may be late on a busy machine. Half an interval is no reason to discard
        // observations.
        (span.0 > self.usual.0 + self.usual.0 / 2).then_some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_gap_between_turns_is_a_stall() {
        let mut stall = StallDetector::new(Duration::from_secs(1), Timestamp(1_000));
        assert_eq!(stall.stalled_for(Timestamp(2_400)), None);
        assert_eq!(stall.stalled_for(Timestamp(9_000)), Some(Millis(6_600)));
        assert_eq!(stall.stalled_for(Timestamp(9_100)), None);
    }
}
