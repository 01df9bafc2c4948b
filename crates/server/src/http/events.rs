//! Past and new events as server-sent events. A reader that reconnects sends the number of the last
//! event that it received.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use model::ServiceId;
use serde::Deserialize;

use super::response::{ErrorResponse, Query};
use crate::adapter::Server;
use crate::event_log::Limit;

/// The events that are read from the log at once. A reader that does not read keeps no more.
const CHUNK: Limit = Limit { count: 256, bytes: 256 << 10 };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventQuery {
    after: Option<u64>,
    #[serde(default)]
    follow: bool,
    service: Option<ServiceId>,
}

pub(super) async fn events(
    State(server): State<Server>,
    headers: HeaderMap,
    Query(query): Query<EventQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ErrorResponse> {
    let last_seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let after = last_seen.or(query.after).unwrap_or(0);
    let newest = server.handle.events.follow();
    let stopped = server.handle.stopped();
    let follow = stream::unfold(
        (server, newest, after, Vec::new().into_iter(), query),
        |(server, mut newest, mut after, mut chunk, query)| async move {
            loop {
                let wanted = |event: &api::EventView| {
                    query.service.is_none() || event.event.service() == query.service.as_ref()
                };
                let next: Option<Arc<api::EventView>> = chunk.next();
                if let Some(event) = next {
                    after = event.number;
                    if !wanted(&event) {
                        continue;
                    }
                    let sse = Event::default().id(after.to_string()).event(event.event.what.kind());
                    let Ok(sse) = sse.json_data(&*event) else { continue };
                    return Some((Ok(sse), (server, newest, after, chunk, query)));
                }
                newest.mark_unchanged();
                let events = server.handle.events.after(after, CHUNK);
                if events.is_empty() && (!query.follow || newest.changed().await.is_err()) {
                    return None;
                }
                chunk = events.into_iter();
            }
        },
    );
    let ended = futures_util::StreamExt::take_until(follow, stopped);
    Ok(Sse::new(ended).keep_alive(KeepAlive::new().interval(api::HEARTBEAT)))
}
