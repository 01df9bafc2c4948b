//! Moving services from one revision to the next.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::id::{DeploymentId, RevisionNumber, ServiceId};
use crate::principal::{Origin, Principal};
use crate::unit::Timestamp;

/// One change and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its number.
    pub id: DeploymentId,
    /// When it began.
    pub created_at: Timestamp,
    /// The operation that created it.
    pub cause: Cause,
    /// Who created it; unknown for deployments of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
    /// The request that created it, if it came through an adapter.
    #[serde(default, alias = "origin", skip_serializing_if = "Option::is_none")]
    pub via: Option<Origin>,
    /// The services it moves, in the order of their paths.
    pub moves: Vec<Move>,
    /// How far it is.
    pub stage: Stage,
}

/// The operation that created a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each variant is named after the operation")]
pub enum Cause {
    Apply,
    Scale,
    Restart,
    Undo,
    Remove,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Cause::Apply => "apply",
            Cause::Scale => "scale",
            Cause::Restart => "restart",
            Cause::Undo => "undo",
            Cause::Remove => "remove",
        })
    }
}

/// One service's way through a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The service.
    pub service: ServiceId,
    /// The revision it comes from; `None` if it is new.
    pub from: Option<RevisionNumber>,
    /// The revision it aimed for before, whether it ever got there or not; `None` if it was not to
    /// be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aimed: Option<RevisionNumber>,
    /// The revision it goes to; `None` if it is removed.
    pub to: Option<RevisionNumber>,
    /// How far it is.
    pub state: MoveState,
    /// The most instances that were ready at the revision it goes to.
    pub ready: u32,
    /// When it began to move, or last made progress. It waits for its dependencies until then.
    pub progressed_at: Option<Timestamp>,
}

/// How far one service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveState {
    /// On its way, or waiting for its dependencies.
    Moving,
    /// There.
    Done,
    /// Taken over by a newer deployment.
    Superseded,
}

/// How far a deployment is. Stages only go forward, but for pausing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Stage {
    /// Its services move.
    Running,
    /// Its services stay as they are until it is resumed.
    Paused,
    /// It failed and its services move back.
    RollingBack {
        /// Why it failed.
        reason: Arc<Failure>,
    },
    /// It failed and is held for a person to decide.
    Held {
        /// Why it failed.
        reason: Arc<Failure>,
    },
    /// All its services are there.
    Succeeded {
        /// When.
        at: Timestamp,
    },
    /// All its services are back where they were.
    RolledBack {
        /// Why it failed.
        reason: Arc<Failure>,
        /// When.
        at: Timestamp,
    },
    /// A newer deployment took over all that was left of it.
    Superseded {
        /// That deployment.
        by: DeploymentId,
        /// When.
        at: Timestamp,
    },
}

impl Stage {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(
            self,
            Stage::Succeeded { .. } | Stage::RolledBack { .. } | Stage::Superseded { .. }
        )
    }

    /// Whether its services stay as they are.
    pub fn is_still(&self) -> bool {
        matches!(self, Stage::Paused | Stage::Held { .. })
    }

    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Stage::Running => "running",
            Stage::Paused => "paused",
            Stage::RollingBack { .. } => "rolling-back",
            Stage::Held { .. } => "held",
            Stage::Succeeded { .. } => "succeeded",
            Stage::RolledBack { .. } => "rolled-back",
            Stage::Superseded { .. } => "superseded",
        }
    }

    /// Why it failed, if it did.
    pub fn reason(&self) -> Option<&Arc<Failure>> {
        match self {
            Stage::RollingBack { reason }
            | Stage::Held { reason }
            | Stage::RolledBack { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

impl Deployment {
    /// This deployment's move of `service`, while it is under way.
    pub fn moving(&self, service: &ServiceId) -> Option<&Move> {
        self.move_of(service).filter(|m| m.state == MoveState::Moving)
    }

    /// This deployment's move of `service`, however far it is.
    pub fn move_of(&self, service: &ServiceId) -> Option<&Move> {
        self.index_of(service).map(|index| &self.moves[index])
    }

    pub(crate) fn move_mut(&mut self, service: &ServiceId) -> Option<&mut Move> {
        self.index_of(service).map(|index| &mut self.moves[index])
    }

    fn index_of(&self, service: &ServiceId) -> Option<usize> {
        self.moves.binary_search_by(|m| m.service.cmp(service)).ok()
    }

    /// Whether a service is still on its way. Services arrive about in their order, so that the
    /// last ones tell soonest.
    pub(crate) fn is_moving(&self) -> bool {
        self.moves.iter().rev().any(|m| m.state == MoveState::Moving)
    }
}
