//! The phase of an instance or of a resource.

use serde::{Deserialize, Serialize};

/// The phase of an instance, as its agent reports it. Within a run, phases only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The instance is wanted and not placed yet.
    Pending,
    /// It is placed; its agent has not reported it yet.
    Placed,
    /// It is being prepared, or waits for its next start.
    Starting,
    /// It has started and has not ended.
    Running,
    /// It was signalled to stop.
    Stopping,
    /// It ended after a stop request.
    Stopped,
    /// A task that exited by itself with code 0. Only resources have this phase.
    Completed,
    /// It ended by itself and is not started again.
    Failed,
    /// Its node is unreachable.
    Lost,
}

impl Phase {
    /// Whether it has ended and holds no resources.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Stopped | Phase::Completed | Phase::Failed)
    }

    /// The phase in one word.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Placed => "placed",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Stopped => "stopped",
            Phase::Completed => "completed",
            Phase::Failed => "failed",
            Phase::Lost => "lost",
        }
    }
}
