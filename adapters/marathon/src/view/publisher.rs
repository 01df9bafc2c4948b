//! Publishes events to Marathon's clients. Each event is translated and serialized once. It is kept
//! for a limited time in a log, which clients read at their own pace.

use std::sync::Arc;

use api::EventView;
use model::Meta;
use tokio::sync::mpsc;

use super::event::{Event, Rendered};
use super::translator::EventTranslator;
use server::control::Snapshot;
use server::event_log::EventLog;

/// The maximum number of events in the log. A client that falls further behind is disconnected.
pub(crate) const KEPT: usize = 4096;

/// The numbers of events in an epoch start at the epoch times this. No leader publishes this number
/// of events, so numbers increase across restarts, although some events are not stored.
const EPOCH: u64 = 1 << 40;

/// The input of the publisher.
pub(crate) enum Input {
    /// Native events, and the snapshot after the last of them.
    Native(Vec<Arc<EventView>>, Arc<Snapshot>),
    /// Events that a request has caused and that have no native event.
    Posted(Vec<Event>),
}

/// An empty log.
pub(crate) fn log() -> EventLog<Rendered> {
    EventLog::new(Vec::new(), 0, KEPT)
}

/// Continues `log` with numbers above those of earlier leaders.
pub(crate) fn number_from(log: &EventLog<Rendered>, meta: Meta) {
    log.skip_to(meta.epoch * EPOCH);
}

/// Translates and publishes events until the server stops.
pub(crate) async fn run(
    mut inputs: mpsc::UnboundedReceiver<Input>,
    mut translator: EventTranslator,
    log: Arc<EventLog<Rendered>>,
) {
    let mut last = *log.follow().borrow();
    while let Some(input) = inputs.recv().await {
        let events = match input {
            Input::Posted(events) => events,
            Input::Native(events, snapshot) => {
                translator.translate(events.iter().map(Arc::as_ref), &snapshot)
            }
        };
        for event in events {
            last += 1;
            log.push(event.render(last));
        }
    }
}
