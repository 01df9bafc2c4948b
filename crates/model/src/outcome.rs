//! The outcome of a proposal for each object that it named.

use serde::{Deserialize, Serialize};

use crate::id::{DeploymentId, RevisionNumber};
use crate::run::RunChange;

/// The outcome for one object that the proposal named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The kind of the object: `service`, `gateway`, `node`, `deployment`.
    pub kind: String,
    /// The name of the object.
    pub name: String,
    /// How the object changed.
    pub verdict: ChangeKind,
    /// The target revision, for services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionNumber>,
    /// The change of whether the instances of a service run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunChange>,
    /// Whether the service is frozen from now on, if that has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
    /// The deployment that performs the change, if it needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// A note for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How an object changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// The object is new.
    Created,
    /// The object has changed.
    Updated,
    /// The object has not changed.
    Unchanged,
    /// The object is removed, or its removal has begun.
    Removed,
}
