//! The clock of a machine: it is wrong, drifts, and is set while processes read it.

use model::{Millis, Timestamp};

use crate::queue::Moment;

/// 2026-01-01T00:00:00Z: the time of a correct clock at moment 0.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// The clock of one machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    offset_ms: i64,
    drift_ppm: i64,
}

impl Clock {
    /// A clock that is correct at moment 0 and drifts from then on.
    pub(crate) fn drifting(drift_ppm: i64) -> Clock {
        Clock { offset_ms: 0, drift_ppm }
    }

    /// The time it shows at `moment`.
    pub(crate) fn at(&self, moment: Moment) -> Timestamp {
        let drift = moment as i64 * self.drift_ppm / 1_000_000;
        let shown = (EPOCH_MS + moment) as i64 + self.offset_ms + drift;
        Timestamp(u64::try_from(shown).unwrap_or(0))
    }

    /// Steps it by `by_ms`.
    pub(crate) fn step(&mut self, by_ms: i64) {
        self.offset_ms += by_ms;
    }

    /// Removes the offset; the drift stays.
    pub(crate) fn correct(&mut self) {
        self.offset_ms = 0;
    }
}

/// The monotonic time of a process. It never goes back: it stays ahead of a clock that was set
/// back, and follows a clock that was set forward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monotonic {
    shown: Timestamp,
    base: Timestamp,
    since: Moment,
}

/// A clock that is ahead by more than this is followed.
const FORWARD: Millis = Millis(1000);

impl Monotonic {
    pub(crate) fn new(clock: Clock, moment: Moment) -> Monotonic {
        let shown = clock.at(moment);
        Monotonic { shown, base: shown, since: moment }
    }

    pub(crate) fn now(&mut self, clock: Clock, moment: Moment) -> Timestamp {
        let elapsed = self.base.after(Millis(moment - self.since));
        let wall = clock.at(moment);
        if wall > elapsed.after(FORWARD) {
            *self = Monotonic::new(clock, moment);
        } else {
            self.shown = elapsed;
        }
        self.shown
    }
}
