//! A watch: every change of some keys, in order, from a revision on.
//!
//! The buffer is here and the backend waits ([`Source`]), so that an event that is already buffered is returned without
//! overhead. Read next: `embedded/events.rs`, the embedded backend's source.

use std::collections::VecDeque;
use std::fmt;

use crate::{Error, Pending, Revision};

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision of the change. Changes of one transaction share it, in the order of its ops.
    pub revision: Revision,
    /// The key.
    pub key: String,
    /// The new value; `None` if the key was deleted.
    pub value: Option<Vec<u8>>,
}

/// The stream of changes of the keys with a prefix, returned by [`Store::watch`](crate::Store::watch).
pub struct Watch {
    buffered: VecDeque<Event>,
    source: Box<dyn Source>,
}

/// The source of a [`Watch`]'s events, implemented by backends.
pub trait Source: Send {
    /// The next events, at least one; waits for them. Dropping the future must not lose events.
    fn more(&mut self) -> Pending<'_, Vec<Event>>;
}

impl Watch {
    /// A watch over the events of a backend.
    #[must_use]
    pub fn new(source: impl Source + 'static) -> Watch {
        Watch { buffered: VecDeque::new(), source: Box::new(source) }
    }

    /// The next change; waits for it. Cancel safe: dropping the future loses no event.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the watch fell behind the compacted history: list again. [`Error::Closed`] if the store
    /// was closed.
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
