//! The clock of the daemons: the wall clock, except that it never goes back. Deadlines must expire
//! even if the wall clock is set back; after that, this clock stays ahead of the wall clock until
//! the daemon restarts. It follows the wall clock forward.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Timestamp;

/// The smallest step forward of the wall clock that is followed.
const FORWARD_MS: u64 = 1000;

/// A reading of the wall clock, in milliseconds, and its monotonic time.
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

/// The current time: the timestamp of commands, and the time that deadlines are compared with.
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
    fn the_clock_never_goes_back_and_follows_forward_jumps() {
        let begin = Instant::now();
        let mut clock = Clock { base: 10_000, at: begin };
        let mut read =
            |wall: u64, passed: u64| clock.now(wall, begin + Duration::from_millis(passed)).0;
        assert_eq!(read(10_500, 500), 10_500);
        assert_eq!(read(2_000, 600), 10_600, "the clock was set back");
        assert_eq!(read(50_000, 700), 50_000, "and forward");
        assert_eq!(read(11_000, 800), 50_100);
    }
}
