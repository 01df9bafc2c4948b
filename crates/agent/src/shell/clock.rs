//! The time as the core sees it: the wall clock, but never going back, since what is due is due
//! even if somebody sets the clock back. After such a change this clock stays ahead of the wall
//! until the agent is started again; after a change forward it follows.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Timestamp;

/// From how much the wall clock is followed forward.
const FORWARD_MS: u64 = 1000;

#[derive(Debug)]
pub(super) struct Clock {
    base: u64,
    at: Instant,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { base: wall(), at: Instant::now() }
    }

    pub(super) fn now(&mut self) -> Timestamp {
        let steady = self.base.saturating_add(millis(self.at.elapsed()));
        let wall = wall();
        if wall > steady.saturating_add(FORWARD_MS) {
            *self = Clock { base: wall, at: Instant::now() };
            return Timestamp(wall);
        }
        Timestamp(steady)
    }
}

fn wall() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
