//! Virtual time: what happens next, and when. Of two things at one time the one that was put in
//! first happens first, so that a seed has one history.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Milliseconds since the beginning of a simulation, as nobody in it can tell: every process has a
/// clock of its own.
pub(crate) type Moment = u64;

/// What is to happen.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    count: u64,
    now: Moment,
}

struct Entry<T> {
    at: Moment,
    number: u64,
    what: T,
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

    /// Lets something happen after so many milliseconds.
    pub(crate) fn after(&mut self, span: u64, what: T) {
        self.count += 1;
        let entry = Entry { at: self.now.saturating_add(span), number: self.count, what };
        self.heap.push(Reverse(entry));
    }

    /// What happens next; from then on it is that late.
    pub(crate) fn next(&mut self) -> Option<T> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.what)
    }
}
