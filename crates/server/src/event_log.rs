//! The newest events, for readers that page through them or follow them. Each reader keeps its own
//! position and asks for the events after it, so a slow reader delays no other and misses only
//! events that the log has dropped. Events are shared with readers instead of copied: reading the
//! whole log must not delay the publisher of the next event.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::EventView;
use tokio::sync::watch;

/// An item with a sequence number that is higher than those of all items before it.
pub trait Numbered {
    /// The sequence number.
    fn number(&self) -> u64;
}

impl Numbered for EventView {
    fn number(&self) -> u64 {
        self.number
    }
}

/// A bounded log of the newest events.
#[derive(Debug)]
pub struct EventLog<T = EventView> {
    kept: Mutex<Kept<T>>,
    newest: watch::Sender<u64>,
    capacity: usize,
}

#[derive(Debug)]
struct Kept<T> {
    events: VecDeque<Arc<T>>,
    /// The number of the last event that was dropped.
    dropped: u64,
}

impl<T: Numbered> EventLog<T> {
    /// Creates a log of `events`, oldest first. `newest` is the highest number that may have been
    /// published; `capacity` is the maximum number of events kept.
    pub fn new(events: Vec<T>, newest: u64, capacity: usize) -> EventLog<T> {
        // Events before the first one are not available, so they count as dropped.
        let dropped = events.first().map_or(newest, |first| first.number().saturating_sub(1));
        let kept = Kept { events: events.into_iter().map(Arc::new).collect(), dropped };
        EventLog { kept: Mutex::new(kept), newest: watch::Sender::new(newest), capacity }
    }

    /// Marks the numbers up to `number` as published and dropped. The log must be empty.
    pub fn skip_to(&self, number: u64) {
        let mut kept = self.lock();
        debug_assert!(kept.events.is_empty(), "numbers only rise");
        kept.dropped = number;
        self.newest.send_replace(number);
    }

    /// Appends an event, whose number must be higher than all before it, and drops the oldest event
    /// if the log is full.
    pub fn push(&self, event: impl Into<Arc<T>>) {
        let event = event.into();
        let number = event.number();
        let mut kept = self.lock();
        if kept.events.len() >= self.capacity
            && let Some(oldest) = kept.events.pop_front()
        {
            kept.dropped = oldest.number();
        }
        kept.events.push_back(event);
        drop(kept);
        self.newest.send_replace(number);
    }

    /// Returns the events after number `after`, oldest first and at most `limit`. A number that was
    /// never published comes from another cluster and counts as 0.
    pub fn after(&self, after: u64, limit: usize) -> Vec<Arc<T>> {
        let kept = self.lock();
        let after = if after > *self.newest.borrow() { 0 } else { after };
        let from = kept.events.partition_point(|event| event.number() <= after);
        kept.events.range(from..).take(limit).cloned().collect()
    }

    /// Whether events after number `after` have been dropped.
    pub fn has_dropped(&self, after: u64) -> bool {
        self.lock().dropped > after
    }

    /// The number of the last event that was dropped; the log has all events after it.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Subscribes to the number of the newest event.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        // No operation leaves inconsistent data if it panics under the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Number(u64);

    impl Numbered for Number {
        fn number(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn a_reader_too_far_behind_is_notified() {
        let log = EventLog::new(Vec::new(), 0, 3);
        for number in [2, 4, 6, 8, 10] {
            log.push(Number(number));
        }
        let after = |after, limit| -> Vec<u64> {
            log.after(after, limit).iter().map(|event| event.0).collect()
        };
        assert_eq!(after(6, 9), [8, 10]);
        assert_eq!(after(4, 1), [6]);
        for (place, has_dropped) in [(0, true), (3, true), (4, false), (10, false)] {
            assert_eq!(log.has_dropped(place), has_dropped, "{place}");
        }
        assert_eq!((log.dropped(), log.after(log.dropped(), 9).len()), (4, 3), "no more are kept");
    }

    #[test]
    fn readers_share_the_kept_events() {
        let log = EventLog::new(vec![Number(1)], 1, 3);
        log.push(Number(2));
        let readers = [log.after(0, 9), log.after(0, 9)];
        assert!(readers[0].iter().zip(&readers[1]).all(|(one, other)| Arc::ptr_eq(one, other)));
    }

    #[test]
    fn events_before_a_start_are_counted_as_dropped() {
        assert_eq!(EventLog::<Number>::new(Vec::new(), 7, 3).dropped(), 7);
        assert_eq!(EventLog::new(vec![Number(5), Number(9)], 9, 3).dropped(), 4);
        assert_eq!(EventLog::new(vec![Number(1)], 1, 3).dropped(), 0);
    }
}
