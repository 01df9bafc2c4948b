//! The delay between two attempts to reach another process: exponential, with jitter.
//!
//! A thousand daemons lose their server at the same moment. Without jitter they would come back at
//! the same moments too, and every such burst could overload the server again. So each delay is
//! drawn from the upper half of its span ("equal jitter": M. Brooker, "Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015). The lower half is never drawn: an attempt that fails at
//! once must not be followed by the next one at once.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use fastrand::Rng;

/// A sequence of delays: the first is at most `min`, each further one at most twice the last bound,
/// none more than `max`; each is at least half of its bound.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    bound: Duration,
    random: Rng,
}

impl Backoff {
    /// A sequence at its beginning. Equal seeds give equal sequences, so a daemon passes a name
    /// that no other daemon has, such as its node's; a simulator passes a number from its own seed.
    pub fn new(min: Duration, max: Duration, seed: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        Self { min, max, bound: min, random: Rng::with_seed(hasher.finish()) }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.bound.min(self.max);
        self.bound = bound.saturating_mul(2);
        bound.mul_f64(1.0 - self.random.f64() / 2.0)
    }

    /// Starts over after a success: the next delay is at most `min` again.
    pub fn reset(&mut self) {
        self.bound = self.min;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(2);

    #[test]
    fn delays_double_up_to_the_maximum_and_start_over_after_a_reset() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(MIN, MAX, seed);
            for bound in [100, 200, 400, 800, 1600, 2000, 2000].map(Duration::from_millis) {
                let delay = backoff.next_delay();
                assert!((bound / 2..=bound).contains(&delay), "{delay:?} of {bound:?}");
            }
            backoff.reset();
            assert!(backoff.next_delay() <= MIN);
        }
    }

    #[test]
    fn a_thousand_daemons_do_not_reconnect_in_step() {
        let first = |node: u32| Backoff::new(MIN, MAX, format!("n{node}")).next_delay();
        let mut buckets = [0; 10];
        for node in 0..1000 {
            let after = first(node).saturating_sub(MIN / 2).as_millis();
            buckets[usize::try_from(after / 5).unwrap().min(9)] += 1;
        }
        assert!(buckets.iter().all(|count| (50..=150).contains(count)), "{buckets:?}");
    }

    #[test]
    fn equal_seeds_give_equal_sequences() {
        let sequence = |seed: &str| {
            let mut backoff = Backoff::new(MIN, MAX, seed);
            (0..20).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(sequence("n1"), sequence("n1"));
        let sequences: BTreeSet<_> = ["n1", "n2", "n3"].map(sequence).into();
        assert_eq!(sequences.len(), 3);
    }
}
