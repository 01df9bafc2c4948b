//! Deployments: the move of services from one revision to the next.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::id::{DeploymentId, RevisionNumber, ServiceId};
use crate::principal::{Origin, Principal};
use crate::run::RunChange;
use crate::unit::Timestamp;

/// One change to services and its progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The number of the deployment.
    pub id: DeploymentId,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The operation that created it.
    pub cause: Cause,
    /// Who created it; unknown for deployments of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
    /// The request that created it, if it came through an adapter.
    #[serde(default, alias = "origin", skip_serializing_if = "Option::is_none")]
    pub via: Option<Origin>,
    /// Whether it also moves frozen services.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// The services it moves, in the order of their paths.
    pub moves: Vec<Move>,
    /// The progress of the deployment.
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
    Start,
    Stop,
    Pause,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Cause::Apply => "apply",
            Cause::Scale => "scale",
            Cause::Restart => "restart",
            Cause::Undo => "undo",
            Cause::Remove => "remove",
            Cause::Start => "start",
            Cause::Stop => "stop",
            Cause::Pause => "pause",
        })
    }
}

/// The part of a deployment that concerns one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The service.
    pub service: ServiceId,
    /// The revision it comes from; `None` if it is new.
    pub from: Option<RevisionNumber>,
    /// The target before the deployment, whether or not it was reached; `None` if the service was
    /// new or was being removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aimed: Option<RevisionNumber>,
    /// The revision it goes to; `None` if it is removed.
    pub to: Option<RevisionNumber>,
    /// The change of whether its instances run. With no other change, `from` and `to` are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunChange>,
    /// The progress of the move.
    pub state: MoveState,
    /// The highest number of ready instances at the new revision so far.
    pub ready: u32,
    /// When the move began or last made progress; `None` while it waits for its dependencies.
    pub progressed_at: Option<Timestamp>,
    /// Why the return to the earlier revision was given up, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Arc<Failure>>,
}

/// The progress of one service's move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveState {
    /// The service moves, or waits for its dependencies.
    Moving,
    /// The service has arrived.
    Done,
    /// A newer deployment moves the service.
    Superseded,
    /// The deployment does not move the service any more, although it has not arrived: it is new and
    /// stays while the others return, or its return was given up.
    Abandoned,
}

/// The progress of a deployment. Stages only go forward, except for pausing.
///
/// From every stage there is a way to a final one:
///
/// | stage | ends by itself | ended by a user |
/// |---|---|---|
/// | `Running` | arrives, or fails at its deadline | abort, newer change |
/// | `Paused` | – | resume, abort, newer change |
/// | `Held` | – | resume, abort, newer change |
/// | `RollingBack` | arrives, or is given up at the deadline of each earlier revision | abort, newer change |
///
/// While a service waits for its dependencies or is frozen, no deadline runs: then their deployments
/// end first, or a user thaws it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Stage {
    /// Its services move.
    Running,
    /// Its services stay as they are until it is resumed.
    Paused,
    /// It failed and its services move back.
    RollingBack {
        /// It failed and its services return to their earlier revisions.
        reason: Arc<Failure>,
    },
    /// It failed and is held for a person to decide.
    Held {
        /// It failed and waits for the decision of a user.
        reason: Arc<Failure>,
    },
    /// All its services are there.
    Succeeded {
        /// All its services have arrived.
        at: Timestamp,
    },
    /// All its services have returned to their earlier revisions.
    RolledBack {
        /// Why it failed.
        reason: Arc<Failure>,
        /// When.
        at: Timestamp,
    },
    /// It failed, and some services could not return to their earlier revisions. They are still
    /// brought there if that becomes possible.
    RollbackFailed {
        /// Why it failed.
        reason: Arc<Failure>,
        /// Why a service did not return.
        cause: Arc<Failure>,
        /// When the rollback was given up.
        at: Timestamp,
    },
    /// A newer deployment moves all services that this one still had to move.
    Superseded {
        /// That deployment.
        by: DeploymentId,
        /// When.
        at: Timestamp,
    },
}

impl Stage {
    /// Whether the deployment has ended.
    pub fn is_over(&self) -> bool {
        matches!(
            self,
            Stage::Succeeded { .. }
                | Stage::RolledBack { .. }
                | Stage::RollbackFailed { .. }
                | Stage::Superseded { .. }
        )
    }

    /// Whether the deployment is paused or held, so that its services stay as they are.
    pub fn is_suspended(&self) -> bool {
        matches!(self, Stage::Paused | Stage::Held { .. })
    }

    /// The stage in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Stage::Running => "running",
            Stage::Paused => "paused",
            Stage::RollingBack { .. } => "rolling-back",
            Stage::Held { .. } => "held",
            Stage::Succeeded { .. } => "succeeded",
            Stage::RolledBack { .. } => "rolled-back",
            Stage::RollbackFailed { .. } => "rollback-failed",
            Stage::Superseded { .. } => "superseded",
        }
    }

    /// Why the deployment failed, if it did.
    pub fn reason(&self) -> Option<&Arc<Failure>> {
        match self {
            Stage::RollingBack { reason }
            | Stage::Held { reason }
            | Stage::RolledBack { reason, .. }
            | Stage::RollbackFailed { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

impl Move {
    /// The beginning of a move.
    pub(crate) fn new(
        service: ServiceId,
        from: Option<RevisionNumber>,
        aimed: Option<RevisionNumber>,
        to: Option<RevisionNumber>,
    ) -> Move {
        let state = MoveState::Moving;
        let (run, progressed_at, failure) = (None, None, None);
        Move { service, from, aimed, to, run, state, ready: 0, progressed_at, failure }
    }

    /// The revision that the move is a trial of. A move that changes only whether the instances run
    /// says nothing about a revision.
    pub(crate) fn new_revision(&self) -> Option<RevisionNumber> {
        self.to.filter(|_| self.to != self.from)
    }
}

impl Deployment {
    /// The move of `service`, while it is in progress.
    pub fn moving(&self, service: &ServiceId) -> Option<&Move> {
        self.move_of(service).filter(|m| m.state == MoveState::Moving)
    }

    /// The move of `service`, whatever its progress.
    pub fn move_of(&self, service: &ServiceId) -> Option<&Move> {
        self.index_of(service).map(|index| &self.moves[index])
    }

    pub(crate) fn move_mut(&mut self, service: &ServiceId) -> Option<&mut Move> {
        self.index_of(service).map(|index| &mut self.moves[index])
    }

    fn index_of(&self, service: &ServiceId) -> Option<usize> {
        self.moves.binary_search_by(|m| m.service.cmp(service)).ok()
    }

    /// Whether a service is still moving. Services arrive roughly in order, so the search starts at
    /// the last one.
    pub(crate) fn is_moving(&self) -> bool {
        self.moves.iter().rev().any(|m| m.state == MoveState::Moving)
    }
}
