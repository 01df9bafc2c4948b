//! The newest events, for readers that page through them or follow them. Each reader keeps its own
//! position and asks for the events after it, so a slow reader delays no other and misses only
//! events that the log has dropped. Events are shared with readers instead of copied: reading the
//! whole log must not delay the publisher of the next event.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::EventView;
use model::json_bytes;
use tokio::sync::watch;

/// An item with a sequence number that is higher than those of all items before it.
pub trait Numbered {
    /// The sequence number.
    fn number(&self) -> u64;
    /// The approximate size in bytes.
    fn bytes(&self) -> usize;
}

impl Numbered for EventView {
    fn number(&self) -> u64 {
        self.number
    }

    fn bytes(&self) -> usize {
        json_bytes(self)
    }
}

/// A limit of a number of events. At least one is taken, whatever its size.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The number of events.
    pub count: usize,
    /// Their size in bytes.
    pub bytes: usize,
}

impl Limit {
    /// No limit.
    pub const NONE: Limit = Limit { count: usize::MAX, bytes: usize::MAX };

    pub(crate) fn admits(self, count: usize, bytes: usize) -> bool {
        count <= 1 || (count <= self.count && bytes <= self.bytes)
    }
}

/// A bounded log of the newest events.
#[derive(Debug)]
pub struct EventLog<T = EventView> {
    kept: Mutex<Kept<T>>,
    newest: watch::Sender<u64>,
    capacity: Limit,
}

#[derive(Debug)]
struct Kept<T> {
    /// Each with its size.
    events: VecDeque<(Arc<T>, usize)>,
    bytes: usize,
    /// The number of the last event that was dropped.
    dropped: u64,
}

impl<T: Numbered> EventLog<T> {
    /// Creates a log of `events`, oldest first. `newest` is the highest number that may have been
    /// published; `capacity` limits the events that are kept.
    pub fn new(events: Vec<T>, newest: u64, capacity: Limit) -> EventLog<T> {
        // Events before the first one are not available, so they count as dropped.
        let dropped = events.first().map_or(newest, |first| first.number().saturating_sub(1));
        let kept = Kept { events: VecDeque::new(), bytes: 0, dropped };
        let log = EventLog { kept: Mutex::new(kept), newest: watch::Sender::new(newest), capacity };
        for event in events {
            log.keep(Arc::new(event));
        }
        log
    }

    /// Drops all events and marks the numbers up to `number` as published and dropped, so that every reader learns that
    /// it has missed some.
    pub fn skip_to(&self, number: u64) {
        let mut kept = self.lock();
        *kept = Kept { events: VecDeque::new(), bytes: 0, dropped: number };
        drop(kept);
        self.newest.send_replace(number);
    }

    /// Appends an event, whose number must be higher than all before it, and drops the oldest events
    /// while the log is full.
    pub fn push(&self, event: impl Into<Arc<T>>) {
        let event = event.into();
        let number = event.number();
        self.keep(event);
        self.newest.send_replace(number);
    }

    fn keep(&self, event: Arc<T>) {
        let size = event.bytes();
        let mut kept = self.lock();
        kept.bytes += size;
        kept.events.push_back((event, size));
        while !self.capacity.admits(kept.events.len(), kept.bytes)
            && let Some((oldest, size)) = kept.events.pop_front()
        {
            kept.bytes -= size;
            kept.dropped = oldest.number();
        }
    }

    /// Returns the events after number `after`, oldest first and within `limit`. A number that was
    /// never published comes from another cluster and counts as 0.
    pub fn after(&self, after: u64, limit: Limit) -> Vec<Arc<T>> {
        let kept = self.lock();
        let after = if after > *self.newest.borrow() { 0 } else { after };
        let from = kept.events.partition_point(|(event, _)| event.number() <= after);
        let mut bytes = 0;
        let within = kept.events.range(from..).enumerate().take_while(|(index, (_, size))| {
            bytes += size;
            limit.admits(index + 1, bytes)
        });
        within.map(|(_, (event, _))| Arc::clone(event)).collect()
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

        fn bytes(&self) -> usize {
            10 * self.0 as usize
        }
    }

    fn at_most(count: usize) -> Limit {
        Limit { count, bytes: usize::MAX }
    }

    #[test]
    fn a_log_is_limited_by_bytes() {
        let log = EventLog::new(vec![Number(1), Number(2)], 2, Limit { count: 100, bytes: 100 });
        (3..=4).for_each(|number| log.push(Number(number)));
        let kept = |log: &EventLog<Number>, limit| -> Vec<u64> {
            log.after(0, limit).iter().map(|event| event.0).collect()
        };
        assert_eq!((kept(&log, Limit::NONE), log.dropped()), (vec![1, 2, 3, 4], 0));
        log.push(Number(5));
        assert_eq!((kept(&log, Limit::NONE), log.dropped()), (vec![4, 5], 3));
        // A reader takes no more than it can send, but always one.
        assert_eq!(kept(&log, Limit { count: 9, bytes: 89 }), [4]);
        assert_eq!(kept(&log, Limit { count: 9, bytes: 1 }), [4]);
        log.push(Number(50));
        assert_eq!((kept(&log, Limit::NONE), log.dropped()), (vec![50], 5));
        log.skip_to(60);
        assert!(log.has_dropped(50) && kept(&log, Limit::NONE).is_empty());
        assert_eq!(log.lock().bytes, 0);
    }

    #[test]
    fn a_reader_too_far_behind_is_notified() {
        let log = EventLog::new(Vec::new(), 0, at_most(3));
        for number in [2, 4, 6, 8, 10] {
            log.push(Number(number));
        }
        let after = |after, limit| -> Vec<u64> {
            log.after(after, at_most(limit)).iter().map(|event| event.0).collect()
        };
        assert_eq!(after(6, 9), [8, 10]);
        assert_eq!(after(4, 1), [6]);
        for (place, has_dropped) in [(0, true), (3, true), (4, false), (10, false)] {
            assert_eq!(log.has_dropped(place), has_dropped, "{place}");
        }
        assert_eq!(
            (log.dropped(), log.after(log.dropped(), Limit::NONE).len()),
            (4, 3),
            "no more are kept"
        );
    }

    #[test]
    fn readers_share_the_kept_events() {
        let log = EventLog::new(vec![Number(1)], 1, at_most(3));
        log.push(Number(2));
        let readers = [log.after(0, Limit::NONE), log.after(0, Limit::NONE)];
        assert!(readers[0].iter().zip(&readers[1]).all(|(one, other)| Arc::ptr_eq(one, other)));
    }

    #[test]
    fn events_before_a_start_are_counted_as_dropped() {
        assert_eq!(EventLog::<Number>::new(Vec::new(), 7, at_most(3)).dropped(), 7);
        assert_eq!(EventLog::new(vec![Number(5), Number(9)], 9, at_most(3)).dropped(), 4);
        assert_eq!(EventLog::new(vec![Number(1)], 1, at_most(3)).dropped(), 0);
    }
}
