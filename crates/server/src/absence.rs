//! Time that the server has slept through.

use std::time::Duration;

use model::{Millis, Timestamp};

/// Looks out for spans in which nobody was heard because nobody listened: the process stood still, its machine slept,
/// or the clock was set forward.
#[derive(Debug)]
pub struct Absence {
    /// When somebody looked last.
    seen_at: Timestamp,
    /// How long it usually takes until somebody looks again, at most.
    usual: Millis,
}

impl Absence {
    /// Somebody looks now, and from now on at least this often.
    pub fn new(usual: Duration, now: Timestamp) -> Absence {
        Absence {
            seen_at: now,
            usual: Millis(u64::try_from(usual.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// For how long nobody has listened, if that was longer than usual.
    pub fn until(&mut self, now: Timestamp) -> Option<Millis> {
        let span = now.since(self.seen_at);
        self.seen_at = now;
        // A busy machine may be late; half of the usual is no reason to doubt what was heard.
        (span.0 > self.usual.0 + self.usual.0 / 2).then_some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_longer_spans_than_usual_are_absence() {
        let mut absence = Absence::new(Duration::from_secs(1), Timestamp(1_000));
        assert_eq!(absence.until(Timestamp(2_400)), None);
        assert_eq!(absence.until(Timestamp(9_000)), Some(Millis(6_600)));
        assert_eq!(absence.until(Timestamp(9_100)), None);
    }
}
