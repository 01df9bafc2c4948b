//! Events on their way to readers and into the store.
//!
//! What a batch brings about is told once the batch is durable, never before. What was observed is
//! told at once and stored with the next batch, or soon; a server that is killed before that has
//! told something that it does not remember. Numbers rise over restarts all the same: the first
//! thing that a server stores is an event that is numbered above all that may have been told, so
//! that readers who come back with the last number they saw miss nothing that is known.

use std::collections::VecDeque;

use api::EventView;
use model::{Event, Millis, Timestamp};

use super::Effect;

/// So many events are kept.
pub(crate) const KEPT: usize = 10_000;
/// So many events may have been told without being stored. While the store refuses more, those
/// that are merely observed are dropped.
const LOOSE_MAX: usize = 1_000;
/// So many of them, or any for this long, are stored even if nothing else is.
const FLUSH_COUNT: usize = 256;
const FLUSH_AFTER: Millis = Millis::secs(1);

/// The events of a core.
#[derive(Debug)]
pub(super) struct Record {
    /// The last number that was told.
    told: u64,
    /// Told and not stored.
    loose: Vec<EventView>,
    flush_at: Option<Timestamp>,
    /// A batch is under way that tells first what it brings about.
    storing: bool,
    /// Observed meanwhile.
    held: Vec<Event>,
    /// The numbers of those stored, oldest first.
    stored: VecDeque<u64>,
    /// So many of them go with the batch under way.
    forgetting: usize,
}

impl Record {
    /// The number of the first event of a server, where `newest` is the newest stored one.
    pub(super) fn first(newest: Option<u64>) -> u64 {
        newest.map_or(1, |newest| newest + LOOSE_MAX as u64 + 1)
    }

    /// A record with the numbers of what is stored.
    pub(super) fn new(stored: impl IntoIterator<Item = u64>) -> Record {
        let stored: VecDeque<u64> = stored.into_iter().collect();
        let told = stored.back().copied().unwrap_or(0);
        let (loose, held) = (Vec::new(), Vec::new());
        Record { told, loose, flush_at: None, storing: false, held, stored, forgetting: 0 }
    }

    /// The last number that was told.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Something was observed.
    pub(super) fn notice(&mut self, event: Event, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.loose.len() + self.held.len() >= LOOSE_MAX {
            return;
        }
        if self.storing {
            self.held.push(event);
            return;
        }
        self.told += 1;
        let event = EventView { number: self.told, event };
        self.loose.push(event.clone());
        self.flush_at = match self.loose.len() {
            ..FLUSH_COUNT => self.flush_at.or(Some(now.after(FLUSH_AFTER))),
            _ => Some(now),
        };
        effects.push(Effect::Tell(event));
    }

    /// When what was observed should be stored even if nothing else is.
    pub(super) fn flush_at(&self) -> Option<Timestamp> {
        self.flush_at
    }

    /// A batch begins that brings about `events`. Returns these with their numbers, all that goes
    /// into the batch, and the numbers of the events to forget with it.
    pub(super) fn store(
        &mut self,
        events: Vec<Event>,
    ) -> (Vec<EventView>, Vec<EventView>, Vec<u64>) {
        self.storing = true;
        let numbers = self.told + 1..;
        let events: Vec<_> =
            numbers.zip(events).map(|(number, event)| EventView { number, event }).collect();
        let batched: Vec<_> = self.loose.iter().chain(&events).cloned().collect();
        let surplus = (self.stored.len() + batched.len()).saturating_sub(KEPT);
        self.forgetting = surplus.min(self.stored.len());
        let forgotten = self.stored.iter().copied().take(self.forgetting).collect();
        (events, batched, forgotten)
    }

    /// The batch that brought about `events` is durable.
    pub(super) fn stored(
        &mut self,
        events: Vec<EventView>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        self.stored.drain(..self.forgetting);
        let batched = self.loose.drain(..).map(|event| event.number);
        self.stored.extend(batched.chain(events.iter().map(|event| event.number)));
        self.told = events.last().map_or(self.told, |event| event.number);
        effects.extend(events.into_iter().map(Effect::Tell));
        self.flush_at = None;
        self.release(now, effects);
    }

    /// The batch has not happened, nor anything that it would have brought about.
    pub(super) fn not_stored(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.flush_at = self.flush_at.map(|_| now.after(FLUSH_AFTER));
        self.release(now, effects);
    }

    fn release(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.storing = false;
        for event in std::mem::take(&mut self.held) {
            self.notice(event, now, effects);
        }
    }
}
