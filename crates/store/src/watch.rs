//! A watch: every change of some keys, in order, from a revision on.
//!
//! The buffer is here and the waiting is the backend's ([`Source`]), so that taking an event that is already there
//! costs nothing. Read next: `embedded/events.rs`, the embedded backend's source.

use std::collections::VecDeque;
use std::fmt;

use crate::{Error, Pending, Revision};

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision that made it. Several changes of one transaction share it, in the order of its ops.
    pub revision: Revision,
    /// The key.
    pub key: String,
    /// What was put; none when the key was deleted.
    pub value: Option<Vec<u8>>,
}

/// Follows the changes of the keys under a prefix. Made by [`Store::watch`](crate::Store::watch).
pub struct Watch {
    buffered: VecDeque<Event>,
    source: Box<dyn Source>,
}

/// Where a [`Watch`] gets its events: what a backend implements.
pub trait Source: Send {
    /// The next events, at least one; waits until there are some. Dropping the future loses none of them.
    fn more(&mut self) -> Pending<'_, Vec<Event>>;
}

impl Watch {
    /// A watch over a backend's events.
    #[must_use]
    pub fn new(source: impl Source + 'static) -> Watch {
        Watch { buffered: VecDeque::new(), source: Box::new(source) }
    }

    /// The next change; waits for it. Dropping the future loses nothing, so it may stand in a `select!`.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the watch fell behind what the store still remembers: list again.
    /// [`Error::Closed`] when the store was closed.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.buffered.pop_front() {
                return Ok(event);
            }
            self.buffered = self.source.more().await?.into();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Watch")
            .field("buffered", &self.buffered.len())
            .finish_non_exhaustive()
    }
}
