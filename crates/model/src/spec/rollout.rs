//! How instances are replaced: by the next revision, when they are unhealthy or lost, and which of
//! them leave when there are too many.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::unit::{Millis, Share};

/// How one revision is replaced by the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Rollout {
    /// The minimum of healthy instances, as a share of `instances` (rounded up) or a count.
    pub min_healthy: Share,
    /// The maximum of instances above `instances`, as a share of it (rounded down) or a count.
    #[serde(alias = "max_over")]
    pub max_surge: Share,
    /// A rollout without progress for this long has failed. Progress is one more ready instance.
    pub deadline: Millis,
    /// The action after a failed rollout.
    pub on_failure: OnFailure,
    /// A new instance without checks counts as ready after running for this long.
    #[serde(alias = "settle")]
    pub min_ready: Millis,
    /// Whether an unhealthy instance is replaced or stopped first.
    pub unhealthy: Unhealthy,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            min_healthy: Share::ALL,
            max_surge: Share::ALL,
            deadline: Millis::secs(600),
            on_failure: OnFailure::Rollback,
            min_ready: Millis::secs(1),
            unhealthy: Unhealthy::ReplaceFirst,
        }
    }
}

/// Whether an unhealthy instance is replaced or stopped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unhealthy {
    /// The replacement is ready before the instance is stopped, where the budget and the nodes have
    /// room for both.
    #[default]
    ReplaceFirst,
    /// The instance is stopped at once, regardless of the budget, and has ended before its
    /// replacement is placed.
    KillFirst,
}

/// The action after a failed rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Roll back to the previous revision.
    #[default]
    Rollback,
    /// Hold the rollout for the decision of a user.
    Hold,
}

/// Whether and when instances on unreachable nodes are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Lost {
    /// Whether they are replaced elsewhere.
    pub replace: bool,
    /// The additional wait before they are replaced.
    pub after: Millis,
}

impl Default for Lost {
    fn default() -> Self {
        Self { replace: true, after: Millis(0) }
    }
}

/// Which instances are terminated first when there are too many. Instances that are not ready
/// always precede the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScaleDown {
    /// The youngest.
    #[default]
    Youngest,
    /// The oldest.
    Oldest,
}
