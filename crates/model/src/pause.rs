//! The pause of an instance: it keeps its node, its ports and its run, while its processes are
//! suspended.
//!
//! The goal of a paused instance is still to run, because goals only go forward. Its placement has a
//! [`Pause`] instead, which a step adds and another one removes: first the gateways drain the
//! instance, then its agent suspends it. The agent confirms with a [`PauseReport`], which lasts until
//! the instance runs again; the placement loses its pause only after the confirmation, so that a
//! report from before the suspension is never taken for one from after it.

use serde::{Deserialize, Serialize};

use crate::unit::Timestamp;

/// The desired pause of an instance. Goes forward until the instance is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum Pause {
    /// It receives no new requests and finishes those in flight, until the deadline passes.
    Drain {
        /// The deadline, when it is suspended in any case.
        until: Timestamp,
    },
    /// Its processes are suspended.
    Suspend,
}

/// The report of an agent on the pause of an instance. `None` in its place: the instance runs as
/// usual, or its agent has not suspended it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum PauseReport {
    /// No process of it runs.
    Suspended,
    /// It could not be suspended or resumed; the agent tries again.
    Failed {
        /// Why not, as a message.
        message: String,
    },
}
