//! The buffer of events on their way to readers and to the store.
//!
//! The events of a batch are published once the batch is durable, never before. Observed events are
//! published at once and stored with the next batch or after a short delay. A server that is killed
//! in between has published events that it does not remember. Numbers rise over restarts all the
//! same: the first event that a server stores is numbered above all that may have been published,
//! so that readers that come back with the last number they received miss no stored event.

use std::collections::VecDeque;

use api::EventView;
use model::{Event, Millis, Timestamp, json_bytes};

use super::Effect;
use crate::event_log::{Limit, Numbered};

/// The limit of stored events.
pub(crate) const KEPT: Limit = Limit { count: 10_000, bytes: 16 << 20 };
/// Maximum number and size of events that are published but not stored. Beyond it, observed events
/// are dropped while the store fails.
const UNSTORED_MAX: usize = 1_000;
const UNSTORED_BYTES_MAX: usize = 4 << 20;
/// Flush observed events after `FLUSH_COUNT` events or `FLUSH_AFTER`, whichever comes first.
const FLUSH_COUNT: usize = 256;
const FLUSH_AFTER: Millis = Millis::secs(1);

/// The event buffer of a core.
#[derive(Debug)]
pub(super) struct EventBuffer {
    /// The number of the last published event.
    last_published: u64,
    /// Published but not stored.
    unstored: Vec<EventView>,
    flush_at: Option<Timestamp>,
    /// A batch is being stored whose events must be published next.
    storing: bool,
    /// Observed during the write.
    held: Vec<Event>,
    /// The size of `unstored` and `held`.
    unstored_bytes: usize,
    /// The numbers and sizes of the stored events, oldest first.
    stored: VecDeque<(u64, usize)>,
    stored_bytes: usize,
    /// The number of stored events that the batch in progress deletes.
    deleting: usize,
}

impl EventBuffer {
    /// The number of the first event of a server, where `newest` is the newest stored one.
    pub(super) fn first(newest: Option<u64>) -> u64 {
        newest.map_or(1, |newest| newest + UNSTORED_MAX as u64 + 1)
    }

    /// Creates a buffer. `stored` are the numbers and sizes of the stored events, oldest first.
    pub(super) fn new(stored: impl IntoIterator<Item = (u64, usize)>) -> EventBuffer {
        let stored: VecDeque<_> = stored.into_iter().collect();
        let last_published = stored.back().map_or(0, |(number, _)| *number);
        let stored_bytes = stored.iter().map(|(_, size)| size).sum();
        let (unstored, held) = (Vec::new(), Vec::new());
        EventBuffer {
            last_published,
            unstored,
            flush_at: None,
            storing: false,
            held,
            unstored_bytes: 0,
            stored,
            stored_bytes,
            deleting: 0,
        }
    }

    /// The number of the last published event.
    pub(super) fn last_published(&self) -> u64 {
        self.last_published
    }

    /// Publishes an observed event; holds it back during a write, and drops it if the buffer is
    /// full.
    pub(super) fn publish_observed(
        &mut self,
        event: Event,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let size = json_bytes(&event);
        if self.unstored.len() + self.held.len() >= UNSTORED_MAX
            || self.unstored_bytes + size > UNSTORED_BYTES_MAX
        {
            return;
        }
        self.unstored_bytes += size;
        if self.storing {
            self.held.push(event);
            return;
        }
        self.last_published += 1;
        let event = EventView { number: self.last_published, event };
        self.unstored.push(event.clone());
        self.flush_at = match self.unstored.len() {
            ..FLUSH_COUNT => self.flush_at.or(Some(now.after(FLUSH_AFTER))),
            _ => Some(now),
        };
        effects.push(Effect::PublishEvent(event));
    }

    /// When observed events must be stored even without other changes.
    pub(super) fn flush_at(&self) -> Option<Timestamp> {
        self.flush_at
    }

    /// Starts a batch that causes `events`. Returns these with their numbers, all events to store,
    /// and the numbers of stored events to delete.
    pub(super) fn store(
        &mut self,
        events: Vec<Event>,
    ) -> (Vec<EventView>, Vec<EventView>, Vec<u64>) {
        self.storing = true;
        let numbers = self.last_published + 1..;
        let events: Vec<_> =
            numbers.zip(events).map(|(number, event)| EventView { number, event }).collect();
        let batched: Vec<_> = self.unstored.iter().chain(&events).cloned().collect();
        let mut count = self.stored.len() + batched.len();
        let mut bytes = self.stored_bytes + batched.iter().map(Numbered::bytes).sum::<usize>();
        let surplus = self.stored.iter().take_while(|(_, size)| {
            let is_surplus = !KEPT.admits(count, bytes);
            (count, bytes) = (count - 1, bytes - size);
            is_surplus
        });
        let deleted_events: Vec<u64> = surplus.map(|(number, _)| *number).collect();
        self.deleting = deleted_events.len();
        (events, batched, deleted_events)
    }

    /// The batch that caused `events` is durable: publishes them, then the events held back.
    pub(super) fn stored(
        &mut self,
        events: Vec<EventView>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let deleted = self.stored.drain(..self.deleting);
        self.stored_bytes -= deleted.map(|(_, size)| size).sum::<usize>();
        let batched = std::mem::take(&mut self.unstored);
        for event in batched.iter().chain(&events) {
            self.stored.push_back((event.number, event.bytes()));
            self.stored_bytes += event.bytes();
        }
        self.unstored_bytes = self.held.iter().map(json_bytes).sum();
        self.last_published = events.last().map_or(self.last_published, |event| event.number);
        effects.extend(events.into_iter().map(Effect::PublishEvent));
        self.flush_at = None;
        self.release(now, effects);
    }

    /// The batch failed, so its events did not happen: publishes the events held back.
    pub(super) fn not_stored(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.flush_at = self.flush_at.map(|_| now.after(FLUSH_AFTER));
        self.release(now, effects);
    }

    fn release(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.storing = false;
        for event in std::mem::take(&mut self.held) {
            self.unstored_bytes -= json_bytes(&event);
            self.publish_observed(event, now, effects);
        }
    }
}
