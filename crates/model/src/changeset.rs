//! The result of an accepted proposal: objects to store, events to publish, and the outcome for each
//! object that the proposal named.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::event::{About, Event, What};
use crate::id::{DeploymentId, RevisionNumber};
use crate::object::Key;
use crate::refusal::Refusal;
use crate::unit::Timestamp;

/// What became of a command.
pub type Outcome = Result<Changeset, Refusal>;

/// What a command has changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changeset {
    /// The objects to store again, or to delete.
    pub changed: BTreeSet<Key>,
    /// The facts about it, in the order in which they came about.
    pub events: Vec<Event>,
    /// What became of each thing that was asked for.
    pub changes: Vec<Change>,
}

/// What became of one thing that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `service` or `gateway`, `node`, `deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The revision it is at now, for services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionNumber>,
    /// The deployment that carries it out, if it takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// What one should know about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is new.
    Created,
    /// It has changed.
    Updated,
    /// It is as it was.
    Unchanged,
    /// It is gone, or going.
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
            deployment: None,
            note: None,
        });
        self.changes.last_mut().expect("a change was pushed above")
    }

    /// Adds what a later command of the same batch has changed.
    pub fn extend(&mut self, later: Changeset) {
        self.changed.extend(later.changed);
        self.events.extend(later.events);
        self.changes.extend(later.changes);
    }
}
