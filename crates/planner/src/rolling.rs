//! The budget of a rolling upgrade: how many instances may be stopped and how many started.
//!
//! The budget is computed from the present state in every plan, not once at the start of an upgrade,
//! so that an interrupted upgrade continues from any point.

use model::Rollout;

/// What a rollout may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// So many must stay healthy.
    pub healthy_min: u32,
    /// So many may be live at most: those that have not ended, whatever is wanted of them.
    pub live_max: u32,
}

/// The budget for `wanted` instances while `healthy` ones are.
///
/// Where the shares leave no room at all (as many must stay healthy as may be live, and so many
/// are), one instance more may be live: the healthy ones come first.
pub fn budget(rollout: &Rollout, wanted: u32, healthy: u32) -> Budget {
    let healthy_min = rollout.min_healthy.ceil_of(wanted);
    let mut live_max = rollout.max_surge.added_to(wanted);
    if healthy_min == live_max && live_max <= healthy {
        live_max += 1;
    }
    Budget { healthy_min, live_max }
}

impl Budget {
    /// How many healthy instances may leave of `healthy`.
    pub fn may_leave(&self, healthy: u32) -> u32 {
        healthy.saturating_sub(self.healthy_min)
    }

    /// How many may come where `missing` are missing and `live` have not ended.
    pub fn may_come(&self, missing: u32, live: u32) -> u32 {
        missing.min(self.live_max.saturating_sub(live))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Share;

    /// (instances, minimumHealthCapacity, maximumOverCapacity, healthy) at the start of an
    /// upgrade where as many run as are healthy: (min, max, kill, start).
    #[test]
    fn worked_values_hold() {
        let check =
            |n: u32, min: &str, over: &str, healthy: u32, expected: (u32, u32, u32, u32)| {
                let rollout = Rollout {
                    min_healthy: min.parse::<Share>().unwrap(),
                    max_surge: over.parse::<Share>().unwrap(),
                    ..Rollout::default()
                };
                let budget = budget(&rollout, n, healthy);
                let start = budget.may_come(n, healthy);
                let got = (budget.healthy_min, budget.live_max, budget.may_leave(healthy), start);
                assert_eq!(got, expected, "({n}, {min}, {over})");
            };
        check(4, "25%", "25%", 4, (1, 5, 3, 1));
        check(4, "100%", "100%", 4, (4, 8, 0, 4));
        check(4, "100%", "0%", 4, (4, 5, 0, 1));
        check(1, "50%", "0%", 1, (1, 2, 0, 1));
        check(2, "50%", "0%", 2, (1, 2, 1, 0));
        check(3, "50%", "0%", 3, (2, 3, 1, 0));
        check(10, "10%", "0%", 1, (1, 10, 0, 9));
        check(4, "50%", "10%", 4, (2, 4, 2, 0));
        check(4, "0%", "0%", 4, (0, 4, 4, 0));
        check(0, "100%", "100%", 0, (0, 1, 0, 0));
        check(4, "3", "1", 4, (3, 5, 1, 1));
    }
}
