//! The budget of a rolling upgrade: how many instances may be stopped and how many started.
//!
//! The budget is computed from the present state in every plan, not once at the start of an
//! upgrade, so that an interrupted upgrade continues from any point.

use model::Rollout;

/// The limits of a rollout at the present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Minimum number of healthy instances.
    pub healthy_min: u32,
    /// Maximum number of live instances: all that have not terminated, whatever their goal.
    pub live_max: u32,
}

/// The budget of a service with `wanted` instances, of which `healthy` are healthy.
///
/// If both limits are equal and that number is healthy, no instance could be replaced; then one
/// more may be live, because availability takes precedence over the ceiling.
pub fn budget(rollout: &Rollout, wanted: u32, healthy: u32) -> Budget {
    let healthy_min = rollout.min_healthy.ceil_of(wanted);
    let mut live_max = rollout.max_surge.added_to(wanted);
    if healthy_min == live_max && live_max <= healthy {
        live_max += 1;
    }
    Budget { healthy_min, live_max }
}

impl Budget {
    /// How many of `healthy` instances may terminate.
    pub fn may_stop(&self, healthy: u32) -> u32 {
        healthy.saturating_sub(self.healthy_min)
    }

    /// How many of `missing` instances may be placed while `live` have not terminated.
    pub fn may_start(&self, missing: u32, live: u32) -> u32 {
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
    fn the_budget_agrees_with_worked_values() {
        let check =
            |n: u32, min: &str, over: &str, healthy: u32, expected: (u32, u32, u32, u32)| {
                let rollout = Rollout {
                    min_healthy: min.parse::<Share>().unwrap(),
                    max_surge: over.parse::<Share>().unwrap(),
                    ..Rollout::default()
                };
                let budget = budget(&rollout, n, healthy);
                let start = budget.may_start(n, healthy);
                let got = (budget.healthy_min, budget.live_max, budget.may_stop(healthy), start);
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
