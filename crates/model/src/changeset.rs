//! The result of an accepted proposal: objects to store, events to publish, and the outcome for each
//! object that the proposal named.

use std::collections::BTreeSet;

use crate::event::{About, Event, What};
use crate::object::Key;
use crate::outcome::{Change, ChangeKind};
use crate::refusal::Refusal;
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

impl Changeset {
    pub(crate) fn event(&mut self, at: Timestamp, about: About, what: What) {
        self.events.push(Event { at, about, by: None, what });
    }

    pub(crate) fn change(
        &mut self,
        kind: &str,
        name: impl ToString,
        verdict: ChangeKind,
    ) -> &mut Change {
        self.changes.push(Change {
            kind: kind.into(),
            name: name.to_string(),
            verdict,
            revision: None,
            run: None,
            frozen: None,
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
