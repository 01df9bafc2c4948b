//! Numbers that look random and can be had again from a seed: splitmix64,
//! <https://prng.di.unimi.it/splitmix64.c>.

use std::time::Duration;

/// The generator.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `first` to `last`.
    pub(super) fn number(&mut self, first: u64, last: u64) -> u64 {
        first + self.next() % (last - first + 1)
    }

    /// A span of so many milliseconds.
    pub(super) fn span(&mut self, first: u64, last: u64) -> Duration {
        Duration::from_millis(self.number(first, last))
    }

    /// One of some, which must not be none.
    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.number(0, of.len() as u64 - 1) as usize]
    }
}
