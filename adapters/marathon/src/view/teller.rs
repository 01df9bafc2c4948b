//! Brings what happens to those who follow Marathon's events: translated once, written once, and
//! kept for a while in a log from which each reader takes at its own pace.

use std::sync::Arc;

use api::EventView;
use model::Meta;
use tokio::sync::mpsc;

use super::event::{Event, Rendered};
use super::feed::Feed;
use server::control::Snapshot;
use server::event_log::EventLog;

/// So many events are kept. A reader that is further behind is cut off.
pub(crate) const KEPT: usize = 4096;

/// The events of an epoch are numbered from the epoch times this: no server tells so many, so that
/// numbers rise over restarts as well, whatever was told besides what is stored.
const EPOCH: u64 = 1 << 40;

/// What is to be told.
pub(crate) enum Happening {
    /// Native events, with what was current when they had been told.
    Native(Vec<Arc<EventView>>, Arc<Snapshot>),
    /// What a request alone has brought about.
    Posted(Vec<Event>),
}

/// A log without events.
pub(crate) fn log() -> EventLog<Rendered> {
    EventLog::new(Vec::new(), 0, KEPT)
}

/// Gives the events of `log` numbers above those that earlier leaders gave.
pub(crate) fn number_from(log: &EventLog<Rendered>, meta: Meta) {
    log.skip_to(meta.epoch * EPOCH);
}

/// Tells what happens, until nothing can any more.
pub(crate) async fn tell(
    mut happened: mpsc::UnboundedReceiver<Happening>,
    mut feed: Feed,
    log: Arc<EventLog<Rendered>>,
) {
    let mut last = *log.follow().borrow();
    while let Some(happening) = happened.recv().await {
        let events = match happening {
            Happening::Posted(events) => events,
            Happening::Native(events, snapshot) => {
                feed.take(events.iter().map(Arc::as_ref), &snapshot)
            }
        };
        for event in events {
            last += 1;
            log.push(event.render(last));
        }
    }
}
