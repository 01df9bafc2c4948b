//! Which of several backends gets a request. Pure.
//!
//! The one with the fewest requests under way on this thread; among equals the next in turn.
//! Among many, the better of two random ones: as good in practice (Mitzenmacher, "The power of
//! two choices", 2001) and no dearer for a thousand backends than for ten.

/// Up to so many backends are all looked at.
const FEW: usize = 8;

/// A stream of pseudo-random numbers (xorshift64*), and whose turn it is.
#[derive(Debug)]
pub(crate) struct Chooser {
    random: u64,
    turn: usize,
}

impl Chooser {
    pub(crate) fn new(seed: u64) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self { random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, turn: 0 }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let draw = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(draw).unwrap_or(0) % bound
    }

    /// Chooses one of `count`; `load` tells how many requests each has, `None` if it must not be
    /// chosen.
    pub(crate) fn choose(
        &mut self,
        count: usize,
        load: impl Fn(usize) -> Option<u32>,
    ) -> Option<usize> {
        if count > FEW {
            let first = self.below(count);
            let second = (first + 1 + self.below(count - 1)) % count;
            match (load(first), load(second)) {
                (Some(a), Some(b)) => return Some(if b < a { second } else { first }),
                (Some(_), None) => return Some(first),
                (None, Some(_)) => return Some(second),
                (None, None) => {}
            }
        }
        self.turn = self.turn.wrapping_add(1);
        let mut best: Option<(usize, u32)> = None;
        for step in 0..count {
            let index = (self.turn % count + step) % count;
            if let Some(load) = load(index)
                && best.is_none_or(|(_, least)| load < least)
            {
                best = Some((index, load));
                if load == 0 {
                    break;
                }
            }
        }
        best.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_gets_it_and_equals_take_turns() {
        let mut chooser = Chooser::new(7);
        assert_eq!(chooser.choose(3, |i| Some([2, 1, 2][i])), Some(1));
        let turns: Vec<_> = (0..6).filter_map(|_| chooser.choose(3, |_| Some(0))).collect();
        assert_eq!(turns, [2, 0, 1, 2, 0, 1]);
        assert_eq!(chooser.choose(3, |i| (i == 2).then_some(9)), Some(2));
        assert_eq!(chooser.choose(3, |_| None), None);
        assert_eq!(chooser.choose(0, |_| Some(0)), None);
    }

    #[test]
    fn many_share_evenly_and_the_only_eligible_one_is_found() {
        let mut chooser = Chooser::new(7);
        let mut loads = [0u32; 50];
        for _ in 0..5000 {
            let index = chooser.choose(50, |i| Some(loads[i])).unwrap();
            loads[index] += 1;
        }
        assert!(loads.iter().all(|load| (90..=110).contains(load)), "{loads:?}");
        assert_eq!(chooser.choose(50, |i| (i == 33).then_some(1)), Some(33));
    }

    #[test]
    fn equal_seeds_choose_equally() {
        let run = |seed| {
            let mut chooser = Chooser::new(seed);
            (0..100).map(|_| chooser.choose(20, |_| Some(0))).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}
