//! Coarse timers of one thread.
//!
//! Every request has a timeout and almost no request reaches it, so setting one must be cheap. Here
//! it is a store into a slot; a ticker checks all slots four times a second. A timer of the runtime
//! would be inserted into the timer wheel and removed again for each request. A coarse timer may
//! fire up to two ticks late, never early.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// Interval of the ticker.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// A duration in ticks, rounded up.
pub(crate) fn ticks(span: Duration) -> u32 {
    let ticks = span.as_millis().div_ceil(TICK.as_millis());
    u32::try_from(ticks).unwrap_or(u32::MAX / 2)
}

/// The number of ticks since the thread started. It is an `Arc` because sockets inside hyper must
/// be `Send`; only the thread itself writes and reads it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU32>);

impl Clock {
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The timers of one thread.
#[derive(Debug)]
pub(crate) struct CoarseTimers {
    clock: Clock,
    started: Instant,
    slots: RefCell<Slots>,
}

/// Slots are reused: `free` has the indexes of those that belong to no [`CoarseTimer`].
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

impl CoarseTimers {
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

    /// Advances the clock and wakes the tasks whose timers have expired. Called by the ticker.
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

    /// A timer that is not set.
    pub(crate) fn timer(self: &Rc<Self>) -> CoarseTimer {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.slots.push(Slot { at: NEVER, waker: None });
            slots.slots.len() - 1
        });
        CoarseTimer { timers: self.clone(), slot }
    }
}

/// One timer. Dropping it releases its slot.
#[derive(Debug)]
pub(crate) struct CoarseTimer {
    timers: Rc<CoarseTimers>,
    slot: usize,
}

impl CoarseTimer {
    /// Sets it to expire after `ticks`, replacing an earlier deadline.
    pub(crate) fn set(&self, ticks: u32) {
        let at = self.timers.clock.now().saturating_add(ticks).saturating_add(1);
        self.timers.slots.borrow_mut().slots[self.slot].at = at;
    }

    /// Cancels its deadline.
    pub(crate) fn clear(&self) {
        self.timers.slots.borrow_mut().slots[self.slot].at = NEVER;
    }

    /// Ready once it has expired, until it is set again.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let slot = &mut self.timers.slots.borrow_mut().slots[self.slot];
        if slot.at <= self.timers.clock.now() {
            return Poll::Ready(());
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for CoarseTimer {
    fn drop(&mut self) {
        let mut slots = self.timers.slots.borrow_mut();
        slots.slots[self.slot] = Slot { at: NEVER, waker: None };
        slots.free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn ticking(timers: &CoarseTimers) {
        let mut interval = tokio::time::interval(TICK);
        loop {
            interval.tick().await;
            timers.tick();
        }
    }

    /// The time at which a timer of `span` fires.
    async fn fires_after(timers: &Rc<CoarseTimers>, span: Duration) -> Duration {
        let (timer, begun) = (timers.timer(), Instant::now());
        timer.set(ticks(span));
        tokio::select! {
            () = poll_fn(|cx| timer.poll(cx)) => begun.elapsed(),
            () = ticking(timers) => unreachable!("the ticker never ends"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_fires_at_most_two_ticks_late_and_never_early() {
        let timers = CoarseTimers::new();
        for span in [0, 1, 249, 250, 251, 1000, 60_000].map(Duration::from_millis) {
            // At different offsets between two ticks.
            tokio::time::advance(Duration::from_millis(130)).await;
            let fired = fires_after(&timers, span).await;
            assert!((span..=span + 2 * TICK).contains(&fired), "{span:?}: {fired:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cleared_timer_never_fires_and_a_dropped_one_frees_its_slot() {
        let timers = CoarseTimers::new();
        let timer = timers.timer();
        timer.set(1);
        timer.clear();
        tokio::time::advance(Duration::from_secs(3600)).await;
        timers.tick();
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx).is_pending())).await);
        drop(timer);
        let reused = timers.timer();
        assert_eq!((reused.slot, timers.slots.borrow().slots.len()), (0, 1));
    }
}
