//! The goal of a service beside its number of instances: whether its instances run, and whether it
//! is frozen.
//!
//! Both belong to the service, not to its revisions: changing them creates no revision, and a
//! service that is started again runs the revision that it had. A document may contain them (`run`,
//! `frozen`); [`State::apply`](crate::State::apply) moves them from the document to the service, so
//! that no stored [`Spec`](crate::Spec) has them.
//!
//! A *stopped* service keeps its number of instances, its slots and its revision, and releases
//! everything else: its instances are drained, stopped and removed, their nodes' capacity and ports
//! are free, and a later start places them anew.
//!
//! A *paused* service keeps its instances with everything that they have, and suspends their processes.
//! None is placed, replaced or restarted until it is started; see [`Pause`](crate::Pause).
//!
//! Nothing is done automatically to a *frozen* service: no step of a deployment, no placement, no
//! replacement, and no restart of a resource that exited. Only instances that were leaving before
//! continue to leave. Documents still change its target, which takes effect once it is thawed;
//! commands that act on it at once are rejected unless they are forced, and a forced deployment is
//! performed as if the service were not frozen.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether the instances of a service run.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    /// They run.
    #[default]
    Started,
    /// The instances that exist are suspended and keep their places; none is added or replaced.
    Paused,
    /// None is placed; the number of instances, the slots and the revision are kept.
    Stopped,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Run::Started => "started",
            Run::Paused => "paused",
            Run::Stopped => "stopped",
        })
    }
}

/// A change of the goal of a service. Displays as `run: started → stopped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunChange {
    /// The goal before the change.
    pub from: Run,
    /// The new goal.
    pub to: Run,
}

impl fmt::Display for RunChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run: {} → {}", self.from, self.to)
    }
}
