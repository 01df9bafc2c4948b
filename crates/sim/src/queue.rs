//! Virtual time: a queue of events ordered by due time. Events that are due at the same moment are
//! taken in the order in which they were added, so that a seed has exactly one history.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Milliseconds since the start of a simulation. No process can read it: each has its own clock.
pub(crate) type Moment = u64;

/// A duration in milliseconds, to add to a moment.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Events by due time, and the current moment.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    count: u64,
    now: Moment,
}

struct Entry<T> {
    at: Moment,
    number: u64,
    event: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), count: 0, now: 0 }
    }

    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// Schedules an event `span` milliseconds from now.
    pub(crate) fn after(&mut self, span: u64, event: T) {
        self.count += 1;
        let entry = Entry { at: self.now.saturating_add(span), number: self.count, event };
        self.heap.push(Reverse(entry));
    }

    /// Removes the next event and advances the time to it.
    pub(crate) fn next(&mut self) -> Option<T> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}
