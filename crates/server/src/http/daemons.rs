//! What agents and gateways call. Their streams are level-triggered: a line says what should be,
//! not what has changed, and a reader that is slow gets the newest line next, not every one. When
//! there is nothing to say, an empty line says so.

use api::{ErrorCode, GatewayReport, HEARTBEAT, Report, ReportReply};
use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use model::{NodeId, Proposal, Registration};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::answer::{Bad, Body, Named};
use crate::adapter::Server;
use crate::assigned;

pub(super) async fn register(
    State(server): State<Server>,
    Body(registration): Body<Registration>,
) -> Result<Json<ReportReply>, Bad> {
    server.handle.propose(Proposal::registration(registration)).await?;
    Ok(Json(ReportReply::default()))
}

pub(super) async fn report(
    State(server): State<Server>,
    Body(report): Body<Report>,
) -> Result<Json<ReportReply>, Bad> {
    Ok(Json(server.handle.report(report).await?))
}

pub(super) async fn gateway_report(
    State(server): State<Server>,
    Body(report): Body<GatewayReport>,
) -> Result<Json<ReportReply>, Bad> {
    Ok(Json(server.handle.gateway_report(report).await?))
}

/// The routes, a line for each new table.
pub(super) async fn routes(State(server): State<Server>) -> Response {
    let mut tables = server.handle.routes.subscribe();
    tables.mark_changed();
    let lines = stream::unfold(tables, |mut tables| async move {
        let silent_until = Instant::now() + HEARTBEAT;
        loop {
            match timeout_at(silent_until, tables.changed()).await {
                Err(_) => return Some((Bytes::from_static(b"\n"), tables)),
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
            }
            let table = tables.borrow_and_update().clone();
            // Generation 0 is no table: until it is known what runs, gateways keep what they have.
            if table.generation > 0 {
                return Some((line(&*table), tables));
            }
        }
    });
    ndjson(&server, lines)
}

/// What a node should run, a line for each change; the first one is whole.
pub(super) async fn assignments(
    State(server): State<Server>,
    Named(node): Named<NodeId>,
) -> Result<Response, Bad> {
    if server.handle.snapshot().state.node(&node).is_none() {
        let message = format!("node {node} is not known: its agent must register first");
        return Err(Bad::new(ErrorCode::NotFound, message));
    }
    let mut changes = server.handle.follow_assignments(&node);
    changes.mark_changed();
    let state = (server.clone(), assigned::Stream::new(node), changes);
    let lines = stream::unfold(state, |(server, mut told, mut changes)| async move {
        let silent_until = Instant::now() + HEARTBEAT;
        loop {
            match timeout_at(silent_until, changes.changed()).await {
                Err(_) => {
                    let sign = Bytes::from_static(b"\n");
                    return Some((sign, (server, told, changes)));
                }
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
            }
            let generation = *changes.borrow_and_update();
            let snapshot = server.handle.snapshot();
            // A node that was removed has nothing to follow; an agent that is still there will
            // register it anew.
            snapshot.state.node(told.node())?;
            if let Some(document) = told.next(&snapshot.state, generation, &server.adapters) {
                return Some((line(&document), (server, told, changes)));
            }
        }
    });
    Ok(ndjson(&server, lines))
}

fn line(document: &impl Serialize) -> Bytes {
    // Plain data with text keys always serializes.
    let mut line = serde_json::to_vec(document).expect("wire documents serialize");
    line.push(b'\n');
    line.into()
}

fn ndjson(server: &Server, lines: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let lines = lines.take_until(server.handle.stopped()).map(Ok::<_, std::convert::Infallible>);
    ([("content-type", "application/x-ndjson")], HttpBody::from_stream(lines)).into_response()
}
