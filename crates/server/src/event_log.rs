//! The newest events, for those who look back or follow. Readers keep their own place and come
//! for more, so a slow one holds up nobody and loses only what is dropped here.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::EventView;
use tokio::sync::watch;

use crate::control::EVENTS_KEPT;

/// The newest events.
#[derive(Debug)]
pub(crate) struct EventLog {
    events: Mutex<VecDeque<EventView>>,
    newest: watch::Sender<u64>,
}

impl EventLog {
    /// The log of `events`; `newest` is the newest number that anyone may have been told.
    pub(crate) fn new(events: Vec<EventView>, newest: u64) -> EventLog {
        EventLog { events: Mutex::new(events.into()), newest: watch::Sender::new(newest) }
    }

    pub(crate) fn push(&self, event: EventView) {
        let number = event.number;
        let mut events = self.lock();
        if events.len() >= EVENTS_KEPT {
            events.pop_front();
        }
        events.push_back(event);
        drop(events);
        self.newest.send_replace(number);
    }

    /// The events after number `after`, at most `limit`, oldest first. A number that was never
    /// given out is another cluster's, and says nothing of what its reader has seen of this one.
    pub(crate) fn after(&self, after: u64, limit: usize) -> Vec<EventView> {
        let events = self.lock();
        let after = if after > *self.newest.borrow() { 0 } else { after };
        let from = events.partition_point(|event| event.number <= after);
        events.range(from..).take(limit).cloned().collect()
    }

    /// Tells the number of the newest event whenever it changes.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<EventView>> {
        // Nothing that is done under the lock leaves it half done.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
