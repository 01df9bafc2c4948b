//! The result of an accepted proposal: objects to store, events to publish, and the outcome for each
//! object that the proposal named.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::event::{About, Event, What};
use crate::id::{DeploymentId, RevisionNumber};
use crate::object::Key;
use crate::refusal::Refusal;
use crate::run::RunChange;
use crate::unit::Timestamp;

/// The result of a proposal.
pub type Outcome = Result<Changeset, Refusal>;

/// The effects of an accepted proposal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changeset {
    /// The keys of the objects to store again or to delete.
    pub changed: BTreeSet<Key>,
    /// The events, in the order in which they happened.
    pub events: Vec<Event>,
    /// The outcome for each object that the proposal named.
    pub changes: Vec<Change>,
}

/// The outcome for one object that the proposal named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The kind of the object: `service`, `gateway`, `node`, `deployment`.
    pub kind: String,
    /// The name of the object.
    pub name: String,
    /// How the object changed.
    pub verdict: Verdict,
    /// The target revision, for services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionNumber>,
    /// The change of whether the instances of a service run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunChange>,
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
pub enum Verdict {
    /// The object is new.
    Created,
    /// The object has changed.
    Updated,
    /// The object has not changed.
    Unchanged,
    /// The object is removed, or its removal has begun.
    Removed,
}

impl Changeset {
    pub(crate) fn event(&mut self, at: Timestamp, about: About, what: What) {
        self.events.push(Event { at, about, by: None, what });
    }

    pub(crate) fn change(
        &mut self,
        kind: &str,
        name: impl ToString,
        verdict: Verdict,
    ) -> &mut Change {
        self.changes.push(Change {
            kind: kind.into(),
            name: name.to_string(),
            verdict,
            revision: None,
            run: None,
            deployment: None,
            note: None,
        });
        self.changes.last_mut().expect("a change was pushed above")
    }

    /// Adds the changes of a later command of the same batch.
    pub fn extend(&mut self, later: Changeset) {
        self.changed.extend(later.changed);
        self.events.extend(later.events);
        self.changes.extend(later.changes);
    }
}
