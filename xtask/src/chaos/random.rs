//! The random choices of a run, reproducible from its seed.

use std::time::Duration;

use fastrand::Rng;

/// A seeded random number generator.
pub(super) struct Random(Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// A number from `first` to `last`.
    pub(super) fn number(&mut self, first: u64, last: u64) -> u64 {
        self.0.u64(first..=last)
    }

    /// A duration from `first` to `last` milliseconds.
    pub(super) fn span(&mut self, first: u64, last: u64) -> Duration {
        Duration::from_millis(self.number(first, last))
    }

    /// An element of a slice, which must not be empty.
    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.0.usize(..of.len())]
    }
}
