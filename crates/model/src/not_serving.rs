//! The reasons why an instance receives no traffic.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, NodeId};
use crate::phase::Phase;
use crate::retry::with_retry;
use crate::spec::PortRef;
use crate::unit::Millis;

/// Why an instance receives no traffic. Displays as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "because")]
pub enum NotServing {
    /// The agent has not reported the instance yet.
    Unreported,
    /// The node is unreachable.
    Unreachable,
    /// The instance is being drained or stopped.
    Leaving,
    /// The instance is drained before it is suspended.
    Pausing {
        /// Why its agent cannot suspend it.
        failure: Option<String>,
    },
    /// The instance is suspended.
    Paused,
    /// The instance is no longer to be suspended, and its agent has not resumed it yet.
    Resuming {
        /// Why its agent cannot resume it.
        failure: Option<String>,
    },
    /// The instance does not run.
    NotRunning {
        /// Its phase.
        phase: Phase,
        /// Consecutive runs that ended by themselves or could not be started.
        failures: u32,
        /// Details from the agent.
        detail: Option<String>,
        /// See [`Status::retry_after`](crate::Status::retry_after).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<Millis>,
    },
    /// No health check has counted yet.
    Unjudged {
        /// The cause of the last failure, or details from the agent.
        cause: Option<String>,
    },
    /// The health checks fail.
    Unhealthy {
        /// The cause of the last failure, or details from the agent.
        cause: Option<String>,
    },
    /// The readiness check has not passed in this run.
    NotReady {
        /// Details from the agent.
        detail: Option<String>,
    },
    /// The instance has no check and has not run for `rollout.min_ready` yet.
    JustStarted,
    /// The revision of the instance has no such port.
    NoPort {
        /// The port that a route leads to.
        port: PortRef,
    },
}

impl fmt::Display for NotServing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match self {
            NotServing::Unreported => return f.write_str("its agent has not reported it yet"),
            NotServing::Unreachable => return f.write_str("its agent is silent"),
            NotServing::Leaving => return f.write_str("it is terminating"),
            NotServing::Paused => return f.write_str("it is paused"),
            NotServing::Pausing { failure } => {
                f.write_str("it is being paused")?;
                failure
            }
            NotServing::Resuming { failure } => {
                f.write_str("it is being resumed")?;
                failure
            }
            NotServing::JustStarted => return f.write_str("it has just started"),
            NotServing::NoPort { port } => {
                return write!(f, "its revision has no port `{port}`");
            }
            NotServing::NotRunning { phase, detail, retry_after, .. } => {
                write!(f, "it is {}", phase.word())?;
                return detail
                    .as_ref()
                    .map_or(Ok(()), |detail| write!(f, ": {}", with_retry(detail, *retry_after)));
            }
            NotServing::Unjudged { cause } => {
                f.write_str("its health is not known yet")?;
                cause
            }
            NotServing::Unhealthy { cause } => {
                f.write_str("it is unhealthy")?;
                cause
            }
            NotServing::NotReady { detail } => {
                f.write_str("it is not ready yet")?;
                detail
            }
        };
        cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

/// An instance that a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Laggard {
    /// The instance.
    pub instance: InstanceId,
    /// Its node.
    pub node: NodeId,
    /// Why it is not ready.
    pub why: NotServing,
}

impl fmt::Display for Laggard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: {}", self.instance, self.node, self.why)
    }
}
