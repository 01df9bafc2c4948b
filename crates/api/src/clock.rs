//! The time as daemons see it and tell it each other: the wall clock, but never going back, since
//! what is due is due even if somebody sets the clock back. After such a change this clock stays
//! ahead of the wall until the daemon is started again; a change forward it follows.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Timestamp;

/// From how much the wall clock is followed forward.
const FORWARD_MS: u64 = 1000;

/// What the wall clock said, and when it was asked.
struct Clock {
    base: u64,
    at: Instant,
}

impl Clock {
    fn now(&mut self, wall: u64, at: Instant) -> Timestamp {
        let steady = self.base.saturating_add(millis(at.saturating_duration_since(self.at)));
        if wall > steady.saturating_add(FORWARD_MS) {
            *self = Clock { base: wall, at };
            return Timestamp(wall);
        }
        Timestamp(steady)
    }
}

/// The time, as commands are stamped with it and as what is due is due.
pub fn now() -> Timestamp {
    static CLOCK: LazyLock<Mutex<Clock>> =
        LazyLock::new(|| Mutex::new(Clock { base: wall(), at: Instant::now() }));
    CLOCK.lock().unwrap_or_else(PoisonError::into_inner).now(wall(), Instant::now())
}

fn wall() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_never_goes_back_and_follows_forward() {
        let begin = Instant::now();
        let mut clock = Clock { base: 10_000, at: begin };
        let mut told =
            |wall: u64, passed: u64| clock.now(wall, begin + Duration::from_millis(passed)).0;
        assert_eq!(told(10_500, 500), 10_500);
        assert_eq!(told(2_000, 600), 10_600, "the clock was set back");
        assert_eq!(told(50_000, 700), 50_000, "and forward");
        assert_eq!(told(11_000, 800), 50_100);
    }
}
