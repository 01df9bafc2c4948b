//! Publishes events to Marathon's clients. Each event is translated and serialized once. It is kept
//! for a limited time in a log, which clients read at their own pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::EventView;
use model::Meta;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::app::Apps;
use super::event::{Event, Rendered};
use super::translator::EventTranslator;
use server::control::Snapshot;
use server::event_log::{EventLog, Limit};

/// The limit of events in the log. Some contain the definitions of apps. A client that falls further behind is
/// disconnected.
pub(crate) const KEPT: Limit = Limit { count: 4096, bytes: 16 << 20 };
/// The maximum number of inputs that wait for the publisher. Each holds the snapshot after a commit.
pub(crate) const INPUTS: usize = 1024;

/// The numbers of events in an epoch start at the epoch times this. No leader publishes this number
/// of events, so numbers increase across restarts, although some events are not stored.
const EPOCH: u64 = 1 << 40;

/// The input of the publisher.
pub(crate) enum Input {
    /// Native events, and the snapshot after the last of them.
    Native(Vec<Arc<EventView>>, Arc<Snapshot>),
    /// Events that a request has caused and that have no native event.
    Posted(Vec<Event>),
    /// Inputs were dropped here, because too many waited.
    Gap,
}

/// The sending side of the publisher's inputs, which never waits.
pub(crate) struct Inputs {
    sender: mpsc::Sender<Input>,
    has_gap: AtomicBool,
}

impl Inputs {
    /// The two sides of the inputs.
    pub(crate) fn new() -> (Inputs, mpsc::Receiver<Input>) {
        let (sender, input) = mpsc::channel(INPUTS);
        (Inputs { sender, has_gap: AtomicBool::new(false) }, input)
    }

    /// Passes an input on, or drops it if too many wait. Clients learn of the gap by the end of their streams.
    pub(crate) fn send(&self, input: Input) {
        // The receiver is dropped only when the server stops.
        let is_full = |input| matches!(self.sender.try_send(input), Err(TrySendError::Full(_)));
        let had_gap = self.has_gap.load(Ordering::Relaxed);
        let has_gap = (had_gap && is_full(Input::Gap)) || is_full(input);
        self.has_gap.store(has_gap, Ordering::Relaxed);
    }
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
    mut inputs: mpsc::Receiver<Input>,
    mut translator: EventTranslator,
    apps: Apps,
    log: Arc<EventLog<Rendered>>,
) {
    let mut last = *log.follow().borrow();
    while let Some(input) = inputs.recv().await {
        let events = match input {
            Input::Posted(events) => events,
            Input::Native(events, snapshot) => {
                let translated = translator.translate(events.iter().map(Arc::as_ref), &snapshot);
                apps.prune(&snapshot);
                translated
            }
            Input::Gap => {
                last += 1;
                log.skip_to(last);
                continue;
            }
        };
        for event in events {
            last += 1;
            log.push(event.render(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use api::now;
    use serde_json::json;

    use super::*;

    fn event() -> Event {
        Event::new("event_stream_attached", now(), json!({ "remoteAddress": "x".repeat(1 << 20) }))
    }

    #[test]
    fn the_log_is_limited_by_bytes() {
        let log = log();
        (1..=100).for_each(|number| log.push(event().render(number)));
        assert_eq!(log.after(0, Limit::NONE).len(), (KEPT.bytes >> 20) - 1);
        assert!(log.has_dropped(80) && !log.has_dropped(90));
    }

    /// A publisher that does not keep up drops inputs, and every client learns of it.
    #[tokio::test]
    async fn inputs_beyond_the_limit_are_a_gap() {
        let (inputs, mut input) = Inputs::new();
        (0..INPUTS + 5).for_each(|_| inputs.send(Input::Posted(Vec::new())));
        assert_eq!(input.len(), INPUTS);
        for _ in 0..INPUTS {
            assert!(matches!(input.recv().await, Some(Input::Posted(_))));
        }
        inputs.send(Input::Posted(Vec::new()));
        assert!(matches!(input.recv().await, Some(Input::Gap)));
        assert!(matches!(input.recv().await, Some(Input::Posted(_))));
        inputs.send(Input::Posted(Vec::new()));
        assert!(matches!(input.recv().await, Some(Input::Posted(_))));
    }
}
