//! A clock that is wrong, drifts and is set: what a process takes for the time.

use model::{Millis, Timestamp};

use crate::queue::Moment;

/// 2026-01-01T00:00:00Z: what a clock that is right shows at the beginning.
const BEGINNING: u64 = 1_767_225_600_000;

/// The clock of one machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    offset_ms: i64,
    drift_ppm: i64,
}

impl Clock {
    /// A clock that is right to begin with and drifts.
    pub(crate) fn drifting(drift_ppm: i64) -> Clock {
        Clock { offset_ms: 0, drift_ppm }
    }

    /// What it shows.
    pub(crate) fn at(&self, moment: Moment) -> Timestamp {
        let drift = moment as i64 * self.drift_ppm / 1_000_000;
        let shown = (BEGINNING + moment) as i64 + self.offset_ms + drift;
        Timestamp(u64::try_from(shown).unwrap_or(0))
    }

    /// Somebody sets it.
    pub(crate) fn set(&mut self, by_ms: i64) {
        self.offset_ms += by_ms;
    }

    /// Somebody sets it right.
    pub(crate) fn set_right(&mut self) {
        self.offset_ms = 0;
    }
}

/// The time as a daemon sees it: what its machine's clock shows, but never going back. It stays
/// ahead after the clock was set back, and follows it forward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    shown: Timestamp,
    base: Timestamp,
    since: Moment,
}

/// From how much a clock is followed forward.
const FORWARD: Millis = Millis(1000);

impl Steady {
    pub(crate) fn new(clock: Clock, moment: Moment) -> Steady {
        let shown = clock.at(moment);
        Steady { shown, base: shown, since: moment }
    }

    pub(crate) fn now(&mut self, clock: Clock, moment: Moment) -> Timestamp {
        let steady = self.base.after(Millis(moment - self.since));
        let wall = clock.at(moment);
        if wall > steady.after(FORWARD) {
            *self = Steady::new(clock, moment);
        } else {
            self.shown = steady;
        }
        self.shown
    }
}
