//! Time and chance: the queue of events, the generator that every draw comes from, and the
//! processes that are suspended.

use std::collections::BTreeMap;

use crate::event::SimEvent;
use crate::process::Process;
use crate::queue::{Moment, Queue};

/// Selects the next event, and makes all random draws.
pub(crate) struct Scheduler {
    pub(crate) rng: fastrand::Rng,
    queue: Queue<SimEvent>,
    /// Suspended processes, and until when. Their events are postponed.
    suspended: BTreeMap<Process, Moment>,
    last_number: u64,
}

impl Scheduler {
    pub(crate) fn new(rng: fastrand::Rng) -> Scheduler {
        Scheduler { rng, queue: Queue::new(), suspended: BTreeMap::new(), last_number: 0 }
    }

    pub(crate) fn now(&self) -> Moment {
        self.queue.now()
    }

    /// A number that was never returned before.
    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Schedules an event `span` milliseconds from now.
    pub(crate) fn after(&mut self, span: u64, event: SimEvent) {
        self.queue.after(span, event);
    }

    /// Removes the next event; `None` inside if it was postponed because its process is suspended.
    pub(crate) fn next(&mut self) -> Option<Option<SimEvent>> {
        let event = self.queue.next()?;
        match event.process().and_then(|process| self.postponed(&process)) {
            Some(span) => {
                self.queue.after(span, event);
                Some(None)
            }
            None => Some(Some(event)),
        }
    }

    /// For how many milliseconds events of a process must be postponed.
    pub(crate) fn postponed(&self, process: &Process) -> Option<u64> {
        let until = self.suspended.get(process)?;
        Some(until.saturating_sub(self.now()) + 1)
    }

    pub(crate) fn suspend(&mut self, process: Process, span: u64) {
        let until = self.now() + span;
        self.suspended.insert(process, until);
    }

    /// Resumes a process, unless a later suspension has replaced the one that ends now.
    pub(crate) fn resume(&mut self, process: &Process) {
        if self.suspended.get(process).is_some_and(|until| *until <= self.queue.now()) {
            self.suspended.remove(process);
        }
    }

    /// A process that ended is not suspended any more.
    pub(crate) fn ended(&mut self, process: &Process) {
        self.suspended.remove(process);
    }

    pub(crate) fn resume_all(&mut self) {
        self.suspended.clear();
    }
}
