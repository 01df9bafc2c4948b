//! Requests of agents and gateways. Their streams are level-triggered: a slow reader receives the
//! newest state with the next line, not every state in between. An empty line is the heartbeat of a
//! stream without changes.

use api::{Caller, ErrorCode, GatewayReport, HEARTBEAT, Report, ReportReply};
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use model::{NodeId, Proposal, Registration};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::response::{Body, ErrorResponse, Named};
use crate::adapter::Server;
use crate::assigned;

pub(super) async fn register(
    State(server): State<Server>,
    Body(registration): Body<Registration>,
) -> Result<Json<ReportReply>, ErrorResponse> {
    server.handle.propose(Proposal::registration(registration)).await?;
    Ok(Json(ReportReply::default()))
}

pub(super) async fn report(
    State(server): State<Server>,
    Body(report): Body<Report>,
) -> Result<Json<ReportReply>, ErrorResponse> {
    Ok(Json(server.handle.report(report).await?))
}

pub(super) async fn gateway_report(
    State(server): State<Server>,
    Body(report): Body<GatewayReport>,
) -> Result<Json<ReportReply>, ErrorResponse> {
    Ok(Json(server.handle.gateway_report(report).await?))
}

/// Streams the route table, one line for each new table.
pub(super) async fn routes(
    State(server): State<Server>,
    caller: Option<Extension<Caller>>,
) -> Response {
    let follows = caller.map(|Extension(caller)| server.handle.gateways.follow(&caller.node));
    let mut tables = server.handle.routes.subscribe();
    tables.mark_changed();
    let lines = stream::unfold((tables, follows), |(mut tables, follows)| async move {
        let silent_until = Instant::now() + HEARTBEAT;
        loop {
            match timeout_at(silent_until, tables.changed()).await {
                Err(_) => return Some((Bytes::from_static(b"\n"), (tables, follows))),
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
            }
            let table = tables.borrow_and_update().clone();
            // Generation 0 is no table: until the server knows which instances run, gateways keep
            // their table.
            if table.generation > 0 {
                return Some((line(&*table), (tables, follows)));
            }
        }
    });
    ndjson(&server, lines)
}

/// Streams the assignments of a node, one line for each change; the first line is complete.
pub(super) async fn assignments(
    State(server): State<Server>,
    Named(node): Named<NodeId>,
) -> Result<Response, ErrorResponse> {
    if server.handle.snapshot().state.node(&node).is_none() {
        let message = format!("node {node} is not known: its agent must register first");
        return Err(ErrorResponse::new(ErrorCode::NotFound, message));
    }
    let mut changes = server.handle.follow_assignments(&node);
    changes.mark_changed();
    let state = (server.clone(), assigned::Stream::new(node), changes);
    let lines = stream::unfold(state, |(server, mut assignments, mut changes)| async move {
        let silent_until = Instant::now() + HEARTBEAT;
        loop {
            match timeout_at(silent_until, changes.changed()).await {
                Err(_) => {
                    let heartbeat = Bytes::from_static(b"\n");
                    return Some((heartbeat, (server, assignments, changes)));
                }
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
            }
            let generation = *changes.borrow_and_update();
            let snapshot = server.handle.snapshot();
            // The stream of a node ends when the node is removed. An agent that is still there
            // registers it again.
            snapshot.state.node(assignments.node())?;
            if let Some(document) =
                assignments.next(&snapshot.state, &snapshot.observed, generation)
            {
                return Some((line(&document), (server, assignments, changes)));
            }
        }
    });
    Ok(ndjson(&server, lines))
}

fn line(document: &impl Serialize) -> Bytes {
    // Plain data with string keys always serializes.
    let mut line = serde_json::to_vec(document).expect("wire documents serialize");
    line.push(b'\n');
    line.into()
}

fn ndjson(server: &Server, lines: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let lines = lines.take_until(server.handle.stopped()).map(Ok::<_, std::convert::Infallible>);
    ([("content-type", "application/x-ndjson")], HttpBody::from_stream(lines)).into_response()
}
