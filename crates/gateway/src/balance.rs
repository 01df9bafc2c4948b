//! Selects the backend for a request. Pure.
//!
//! The backend with the fewest requests in flight on this thread is selected, among equals in
//! round-robin order. With many backends it is the better of two random ones: in practice as good
//! (Mitzenmacher, "The power of two choices", 2001), and its cost does not grow with their number.

use fastrand::Rng;

/// The maximum number of backends that are all compared.
const SCAN_MAX: usize = 8;

/// How little a backend is wanted: less is better, and an ejected backend is worse than all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load {
    pub(crate) is_ejected: bool,
    pub(crate) in_flight: u32,
}

impl Load {
    const NONE: Load = Load { is_ejected: false, in_flight: 0 };
}

/// Random numbers, and the position of the round robin.
#[derive(Debug)]
pub(crate) struct Balancer {
    random: Rng,
    turn: usize,
}

impl Balancer {
    /// Equal seeds select equally.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed), turn: 0 }
    }

    /// Selects one of `count` backends by index. `load` returns `None` for one that must not be
    /// selected. An ejected backend is selected only if there is no other.
    pub(crate) fn select(
        &mut self,
        count: usize,
        load: impl Fn(usize) -> Option<Load>,
    ) -> Option<usize> {
        if count > SCAN_MAX {
            let first = self.random.usize(..count);
            let second = (first + 1 + self.random.usize(..count - 1)) % count;
            let usable = |index| load(index).filter(|load| !load.is_ejected);
            match (usable(first), usable(second)) {
                (Some(a), Some(b)) => return Some(if b < a { second } else { first }),
                (Some(_), None) => return Some(first),
                (None, Some(_)) => return Some(second),
                (None, None) => {}
            }
        }
        self.turn = self.turn.wrapping_add(1);
        let mut best: Option<(usize, Load)> = None;
        for step in 0..count {
            let index = (self.turn % count + step) % count;
            if let Some(load) = load(index)
                && best.is_none_or(|(_, least)| load < least)
            {
                best = Some((index, load));
                if load == Load::NONE {
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

    fn in_flight(in_flight: u32) -> Option<Load> {
        Some(Load { is_ejected: false, in_flight })
    }

    fn ejected(in_flight: u32) -> Option<Load> {
        Some(Load { is_ejected: true, in_flight })
    }

    #[test]
    fn the_least_loaded_is_selected_and_equals_take_turns() {
        let mut balancer = Balancer::new(7);
        assert_eq!(balancer.select(3, |i| in_flight([2, 1, 2][i])), Some(1));
        let turns: Vec<_> = (0..6).filter_map(|_| balancer.select(3, |_| in_flight(0))).collect();
        assert_eq!(turns, [2, 0, 1, 2, 0, 1]);
        assert_eq!(balancer.select(3, |i| in_flight(9).filter(|_| i == 2)), Some(2));
        assert_eq!(balancer.select(3, |_| None), None);
        assert_eq!(balancer.select(0, |_| in_flight(0)), None);
    }

    #[test]
    fn an_ejected_backend_is_selected_only_as_the_last_resort() {
        let mut balancer = Balancer::new(7);
        for count in [3, 50] {
            let others = |i| if i == 2 { in_flight(9) } else { ejected(0) };
            assert!((0..100).all(|_| balancer.select(count, others) == Some(2)), "{count}");
            let least = |i| if i == 1 { ejected(1) } else { ejected(4) };
            assert_eq!(balancer.select(count, least), Some(1), "{count}");
        }
    }

    #[test]
    fn load_is_spread_evenly_and_a_single_eligible_backend_found() {
        let mut balancer = Balancer::new(7);
        let mut loads = [0u32; 50];
        for _ in 0..5000 {
            let index = balancer.select(50, |i| in_flight(loads[i])).unwrap();
            loads[index] += 1;
        }
        assert!(loads.iter().all(|load| (90..=110).contains(load)), "{loads:?}");
        assert_eq!(balancer.select(50, |i| in_flight(1).filter(|_| i == 33)), Some(33));
    }

    #[test]
    fn equal_seeds_select_equally() {
        let run = |seed| {
            let mut balancer = Balancer::new(seed);
            (0..100).map(|_| balancer.select(20, |_| in_flight(0))).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}
