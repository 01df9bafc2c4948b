//! `/v2/events`: a stream of server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::now;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::reply::{ApiRequest, Reply};
use crate::Marathon;
use crate::view::event::{Event, ON_REQUEST, Rendered};
use server::event_log::{Limit, Numbered as _};

/// The events that are read from the log at once. A client that does not read keeps no more.
const CHUNK: Limit = Limit { count: 256, bytes: 256 << 10 };
/// The interval of heartbeats on an idle stream.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The minimum time between two writes to a stream, so that frequent events are sent in batches.
const PACE: Duration = Duration::from_millis(100);

/// The filters of a client.
struct Wanted {
    /// The requested kinds; if empty, all but those in [`ON_REQUEST`].
    kinds: Vec<String>,
    /// Whether plans omit the definitions of apps.
    light: bool,
}

impl Wanted {
    fn has(&self, kind: &str) -> bool {
        match self.kinds.is_empty() {
            true => !ON_REQUEST.contains(&kind),
            false => self.kinds.iter().any(|wanted| wanted == kind),
        }
    }

    fn append(&self, event: &Rendered, to: &mut BytesMut) {
        if self.has(event.kind) {
            to.extend_from_slice(if self.light { &event.light } else { &event.full });
        }
    }
}

/// The state of a client's stream.
struct Reader {
    marathon: Arc<Marathon>,
    newest: watch::Receiver<u64>,
    wanted: Wanted,
    client: String,
    /// The number of the last event that was read from the log.
    first_number: u64,
    /// Bytes to send before any events.
    first: Option<Bytes>,
    /// The earliest time of the next write.
    next_at: Instant,
}

/// `GET /v2/events`.
pub(super) fn follow(request: &ApiRequest) -> Result<Reply, Reply> {
    let accept = request.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if !accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        let message = "events are a stream: ask with `Accept: text/event-stream`";
        return Err(Reply::error(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let marathon = Arc::clone(&request.marathon);
    let newest = marathon.log.follow();
    let last_seen: Option<u64> =
        request.headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let last_number = last_seen.unwrap_or(*newest.borrow());
    // If the log has dropped some of the missed events, the stream continues with the remaining
    // ones. Closing it would make the client reconnect with the same number and fail again.
    let first_number = last_number.max(marathon.log.dropped());
    let wanted = Wanted {
        kinds: request.parameters("event_type").map(str::to_string).collect(),
        light: request.parameter("plan-format") == Some("light"),
    };
    let client = request.origin.client.clone();
    let attached = Event::new("event_stream_attached", now(), json!({ "remoteAddress": client }));
    let mut first = BytesMut::new();
    if first_number > last_number {
        // Sent as a comment, because clients reject kinds of events that Marathon does not have.
        let missed = format!(
            ": of what came after event {last_number}, what is up to {first_number} is gone\r\n\r\n"
        );
        first.extend_from_slice(missed.as_bytes());
    }
    wanted.append(&attached.render(first_number), &mut first);
    let stopped = request.server.stopped();
    let first = Some(first.freeze()).filter(|first| !first.is_empty());
    let reader =
        Reader { marathon, newest, wanted, client, first_number, first, next_at: Instant::now() };
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    let response = Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .body(Body::from_stream(chunks.take_until(stopped)));
    match response {
        Ok(response) => Ok(Reply::ready(response)),
        Err(error) => Err(Reply::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

impl Reader {
    /// Returns the next bytes to send, or `None` if the log has dropped events that the client
    /// missed.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        sleep_until(self.next_at).await;
        let heartbeat_at = Instant::now() + HEARTBEAT;
        loop {
            self.newest.mark_unchanged();
            let log = &self.marathon.log;
            if self.first_number > *self.newest.borrow() {
                // The number is from another cluster, so the stream begins with the next event.
                self.first_number = *self.newest.borrow();
            }
            if log.has_dropped(self.first_number) {
                return None;
            }
            let events = log.after(self.first_number, CHUNK);
            let mut chunk = BytesMut::new();
            events.iter().for_each(|event| self.wanted.append(event, &mut chunk));
            self.first_number = events.last().map_or(self.first_number, |event| event.number());
            let is_full = !events.is_empty() && self.first_number < *self.newest.borrow();
            if !chunk.is_empty() {
                self.next_at = if is_full { Instant::now() } else { Instant::now() + PACE };
                return Some(chunk.freeze());
            }
            if is_full {
                continue;
            }
            match timeout_at(heartbeat_at, self.newest.changed()).await {
                Err(_) => return Some(Bytes::from_static(b"\r\n")),
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let fields = json!({ "remoteAddress": self.client });
        self.marathon.post(vec![Event::new("event_stream_detached", now(), fields)]);
    }
}
