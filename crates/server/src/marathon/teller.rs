//! Brings what happens to those who follow Marathon's events: translated once, written once, and
//! kept for a while in a log from which each reader takes at its own pace.

use std::sync::Arc;

use api::EventView;
use tokio::sync::mpsc;

use super::event::{Event, Rendered};
use super::feed::Feed;
use crate::control::Snapshot;
use crate::event_log::EventLog;

/// So many events are kept. A reader that is further behind is cut off.
pub(crate) const KEPT: usize = 4096;

/// No native event becomes more of Marathon's than this: their numbers are its number times this,
/// and so rise over restarts as well.
const SPREAD: u64 = 64;

/// What is to be told.
pub(crate) enum Happening {
    /// Native events, with what was current when they had been told.
    Native(Vec<EventView>, Arc<Snapshot>),
    /// What a request alone has brought about.
    Posted(Vec<Event>),
}

/// The log of events; `newest` is the number of the newest native event that anyone may have been
/// told.
pub(crate) fn log(newest: u64) -> EventLog<Rendered> {
    EventLog::new(Vec::new(), newest * SPREAD + SPREAD - 1, KEPT)
}

/// Tells what happens, until nothing can any more.
pub(crate) async fn tell(
    mut happened: mpsc::UnboundedReceiver<Happening>,
    mut feed: Feed,
    log: Arc<EventLog<Rendered>>,
) {
    let mut last = *log.follow().borrow();
    let mut push = |event: Event, least: u64| {
        last = least.max(last + 1);
        log.push(event.render(last));
    };
    while let Some(happening) = happened.recv().await {
        match happening {
            Happening::Posted(events) => events.into_iter().for_each(|event| push(event, 0)),
            Happening::Native(events, snapshot) => {
                for native in &events {
                    for event in feed.take(native, &snapshot) {
                        push(event, native.number * SPREAD);
                    }
                }
            }
        }
    }
}
