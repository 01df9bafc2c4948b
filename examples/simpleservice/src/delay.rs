//! A delay drawn for each request.
//!
//! Marsaglia's xorshift64 (Journal of Statistical Software 8/14, 2003, triple 13-7-17) is plenty for pretending to be
//! slow; it must never be used where someone gains by guessing. Instances started in the same moment still differ,
//! since the process id goes into the seed.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Draws delays between two bounds, both included.
#[derive(Debug)]
pub(crate) struct Delays {
    state: AtomicU64,
    ms_min: u64,
    ms_max: u64,
}

impl Delays {
    /// Seeds from the clock and the process id.
    pub(crate) fn new(ms_min: u64, ms_max: u64) -> Self {
        let nanoseconds =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self::seeded(ms_min, ms_max, nanoseconds ^ (u64::from(std::process::id()) << 32))
    }

    fn seeded(ms_min: u64, ms_max: u64, seed: u64) -> Self {
        // Zero is the one fixed point of xorshift, and a small seed needs a few draws before its bits have spread.
        let delays = Self { state: AtomicU64::new(seed.max(1)), ms_min, ms_max };
        for _ in 0..8 {
            delays.draw();
        }
        delays
    }

    /// The next delay.
    pub(crate) fn next(&self) -> Duration {
        let drawn = u128::from(self.draw());
        let choices = u128::from(self.ms_max - self.ms_min) + 1;
        // Scaling by multiplication instead of remainder keeps every choice equally likely to within 2^-64.
        let offset = ((drawn * choices) >> 64) as u64;
        Duration::from_millis(self.ms_min + offset)
    }

    fn draw(&self) -> u64 {
        let mut x = self.state.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.state.store(x, Ordering::Relaxed);
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_delay_within_the_bounds_is_drawn_and_no_other() {
        let delays = Delays::seeded(3, 6, 1);
        let mut seen = [0; 10];
        for _ in 0..4000 {
            seen[delays.next().as_millis() as usize] += 1;
        }
        assert_eq!(seen.iter().sum::<i32>(), seen[3..=6].iter().sum::<i32>());
        assert!(seen[3..=6].iter().all(|&times| times > 800), "{seen:?}");
    }

    #[test]
    fn equal_bounds_leave_no_choice_and_the_widest_do_not_overflow() {
        assert_eq!(Delays::seeded(5, 5, 9).next(), Duration::from_millis(5));
        Delays::seeded(0, u64::MAX, 0).next();
    }
}
