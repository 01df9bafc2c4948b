//! Coarse alarms of one thread.
//!
//! Every request needs a time limit and almost none reaches it, so setting one must cost nothing:
//! here it is a store into a slot that a ticker looks at four times a second. A timer of the
//! runtime would be put into its wheel and taken out again for each request. An alarm may go off
//! up to two ticks late, never early.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often the ticker looks.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// A span of time, in ticks, rounded up.
pub(crate) fn ticks(span: Duration) -> u32 {
    let ticks = span.as_millis().div_ceil(TICK.as_millis());
    u32::try_from(ticks).unwrap_or(u32::MAX / 2)
}

/// The ticks since the thread started. Shared with what must be `Send`; one thread writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU32>);

impl Clock {
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The alarms of one thread.
#[derive(Debug)]
pub(crate) struct Alarms {
    clock: Clock,
    started: Instant,
    slots: RefCell<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Slot {
    at: u32,
    waker: Option<Waker>,
}

const NEVER: u32 = u32::MAX;

impl Alarms {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            clock: Clock::default(),
            started: Instant::now(),
            slots: RefCell::default(),
        })
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Called by the ticker: wakes what is due.
    pub(crate) fn tick(&self) {
        let now = self.started.elapsed().as_millis() / TICK.as_millis();
        let now = u32::try_from(now).unwrap_or(NEVER - 1);
        self.clock.0.store(now, Ordering::Relaxed);
        for slot in &mut self.slots.borrow_mut().slots {
            if slot.at <= now
                && let Some(waker) = slot.waker.take()
            {
                waker.wake();
            }
        }
    }

    /// An alarm that is not set.
    pub(crate) fn alarm(self: &Rc<Self>) -> Alarm {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.slots.push(Slot { at: NEVER, waker: None });
            slots.slots.len() - 1
        });
        Alarm { alarms: self.clone(), slot }
    }
}

/// One alarm; gone when dropped.
#[derive(Debug)]
pub(crate) struct Alarm {
    alarms: Rc<Alarms>,
    slot: usize,
}

impl Alarm {
    /// Sets it to go off after so many ticks, whatever it was set to.
    pub(crate) fn set(&self, ticks: u32) {
        let at = self.alarms.clock.now().saturating_add(ticks).saturating_add(1);
        self.alarms.slots.borrow_mut().slots[self.slot].at = at;
    }

    /// It will not go off.
    pub(crate) fn clear(&self) {
        self.alarms.slots.borrow_mut().slots[self.slot].at = NEVER;
    }

    /// Ready once it has gone off, until it is set anew.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let slot = &mut self.alarms.slots.borrow_mut().slots[self.slot];
        if slot.at <= self.alarms.clock.now() {
            return Poll::Ready(());
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut slots = self.alarms.slots.borrow_mut();
        slots.slots[self.slot] = Slot { at: NEVER, waker: None };
        slots.free.push(self.slot);
    }
}
