//! The revisions of a service: versions of its spec, and how the move to each ended.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::id::{RevisionNumber, ServiceId};
use crate::spec::Spec;
use crate::unit::Timestamp;

/// A version of a spec. Only its outcome changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Its number, from 1.
    pub number: RevisionNumber,
    /// The first revision with the same template. A move between revisions that share a template
    /// does not restart instances.
    pub template: RevisionNumber,
    /// When it was applied.
    pub created_at: Timestamp,
    /// When everything except the number of instances was applied, if that was an earlier revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_at: Option<Timestamp>,
    /// The spec.
    pub spec: Arc<Spec>,
    /// The document that described it, if that was another system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<Source>>,
    /// The bundle that described it, if any. Its revision may have been dropped since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleRef>,
    /// How the move of the service to it ended; `None` while it moves, if a newer deployment took
    /// over, and for revisions of earlier versions of this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RevisionOutcome>,
}

/// How the move of a service to a revision ended. Displays as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum RevisionOutcome {
    /// All its instances were ready.
    Succeeded {
        /// When it arrived.
        at: Timestamp,
    },
    /// It made no progress, or its deployment was aborted on the way.
    Failed {
        /// Why its deployment failed.
        reason: Arc<Failure>,
        /// When it failed.
        at: Timestamp,
    },
    /// It had not arrived when its deployment failed for another reason.
    Withdrawn {
        /// Why its deployment failed.
        reason: Arc<Failure>,
        /// When the deployment failed.
        at: Timestamp,
    },
}

impl RevisionOutcome {
    /// The outcome in one word.
    pub fn word(&self) -> &'static str {
        match self {
            RevisionOutcome::Succeeded { .. } => "succeeded",
            RevisionOutcome::Failed { .. } => "failed",
            RevisionOutcome::Withdrawn { .. } => "withdrawn",
        }
    }

    /// Why it did not succeed.
    pub fn reason(&self) -> Option<&Arc<Failure>> {
        match self {
            RevisionOutcome::Succeeded { .. } => None,
            RevisionOutcome::Failed { reason, .. } | RevisionOutcome::Withdrawn { reason, .. } => {
                Some(reason)
            }
        }
    }
}

impl fmt::Display for RevisionOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{}: {reason}", self.word()),
            None => f.write_str(self.word()),
        }
    }
}

impl Revision {
    /// Whether its instances were ready at some time.
    pub fn has_succeeded(&self) -> bool {
        matches!(self.outcome, Some(RevisionOutcome::Succeeded { .. }))
    }
}

/// A revision of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRef {
    /// The path of the bundle.
    pub path: ServiceId,
    /// The revision of the bundle.
    pub revision: RevisionNumber,
}

/// A document of another system, kept to show it to its users again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The name of the adapter that reads it.
    #[serde(alias = "door")]
    pub adapter: String,
    /// The document. Only its adapter understands it.
    pub text: String,
}
