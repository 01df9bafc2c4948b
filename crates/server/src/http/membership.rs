//! Admits daemons, and the requests of operators about them. A daemon states in a header who it is
//! and what it knows of its cluster. This server refuses a daemon of another cluster, and one that
//! knows of changes which its store does not have; the responses to daemons state its own position.

use api::{
    AcceptLossRequest, ApplyReply, Caller, ClusterView, ErrorCode, POSITION, RefusedView, path,
};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::{Command, Daemon, Mismatch, NodeId};

use super::apply::reply;
use super::request_id::Author;
use super::response::{Body, ErrorResponse, Named};
use crate::adapter::Server;
use crate::control::Snapshot;
use crate::random_start;

/// Admits the requests of daemons.
pub(super) async fn admit(
    State(server): State<Server>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(header) = request.headers().get(api::DAEMON) else { return next.run(request).await };
    let caller: Caller = match serde_json::from_slice(header.as_bytes()) {
        Ok(caller) => caller,
        Err(error) => {
            let message = format!("the header `{}` cannot be read: {error}", api::DAEMON);
            return ErrorResponse::new(ErrorCode::BadRequest, message).into_response();
        }
    };
    let snapshot = server.handle.snapshot();
    let mut response = match snapshot.check(caller.position.as_ref()) {
        Ok(()) => match other_daemon(&server, &snapshot, &caller, request.uri().path()) {
            Some(message) => {
                tracing::warn!(node = %caller.node, daemon = %caller.daemon, "{message}");
                let hint = "give this node another name with --node, or end the other daemon";
                ErrorResponse::new(ErrorCode::Conflict, message).hint(hint).into_response()
            }
            None => {
                request.extensions_mut().insert(caller);
                next.run(request).await
            }
        },
        Err(mismatch) => {
            server.handle.refused(caller.node, caller.daemon, mismatch);
            let refusal = ErrorResponse::new(ErrorCode::WrongServer, mismatch.to_string());
            refusal.hint("see `muster cluster` at this server").into_response()
        }
    };
    let position = server.handle.snapshot().position();
    if let Some(position) = position.and_then(|p| HeaderValue::try_from(p.to_string()).ok()) {
        response.headers_mut().insert(POSITION, position);
    }
    response
}

/// Why another daemon of the caller's kind and node keeps it from acting. Two of them would report
/// different facts about one node.
fn other_daemon(
    server: &Server,
    snapshot: &Snapshot,
    caller: &Caller,
    path: &str,
) -> Option<String> {
    let registers = path == path::REGISTER;
    let is_other = match caller.daemon {
        // The core decides about registrations of agents, whose ids are stored.
        Daemon::Agent => {
            let known = snapshot.state.node(&caller.node).map(|node| &node.node.agent_id);
            !registers && known.is_some_and(|known| !known.is_empty() && *known != caller.id)
        }
        Daemon::Gateway => !server.handle.gateways.admit(&caller.node, &caller.id, registers),
    };
    is_other.then(|| format!("another {} is registered as {}", caller.daemon, caller.node))
}

/// `GET` of the cluster.
pub(super) async fn cluster(
    State(server): State<Server>,
) -> Result<Json<ClusterView>, ErrorResponse> {
    let snapshot = server.handle.snapshot();
    let position = snapshot.position().ok_or_else(|| {
        ErrorResponse::new(ErrorCode::Unavailable, "the server has not begun a term yet")
    })?;
    let refused = snapshot.observed.refused.iter().map(|((node, daemon), mismatch)| RefusedView {
        node: node.clone(),
        daemon: *daemon,
        reason: mismatch.to_string(),
        mismatch: *mismatch,
    });
    Ok(Json(ClusterView {
        cluster: position.cluster,
        term: position.term,
        revision: position.revision,
        refused: refused.collect(),
        unknown: snapshot.observed.unknown.clone(),
    }))
}

/// Continues from this server's store although refused daemons know of more.
pub(super) async fn accept_loss(
    State(server): State<Server>,
    author: Author,
    Body(body): Body<AcceptLossRequest>,
) -> Result<Json<ApplyReply>, ErrorResponse> {
    let snapshot = server.handle.snapshot();
    if let Some(first) = author.first_outcome(&snapshot.state) {
        return Ok(Json(reply(first?)));
    }
    let own = snapshot.state.cluster().map(|cluster| cluster.id);
    if own != Some(body.cluster) {
        let message = format!("this server is not of cluster {}", body.cluster);
        return Err(ErrorResponse::new(ErrorCode::Conflict, message).hint(
            "`muster cluster` shows the id; a daemon of another cluster adopts this one with \
                   `--adopt-cluster`",
        ));
    }
    let lost = snapshot.observed.refused.values().filter_map(|mismatch| match mismatch {
        Mismatch::Older { known } => Some(known.term),
        Mismatch::OtherCluster { .. } | Mismatch::Unstated { .. } => None,
    });
    let lost: std::collections::BTreeSet<_> = lost.collect();
    if lost.is_empty() {
        let message = "no daemon knows of changes that this server's store does not have";
        return Err(ErrorResponse::new(ErrorCode::Conflict, message));
    }
    let command = Command::AcceptLoss { lost, start: random_start(0) };
    Ok(Json(reply(server.handle.propose(author.proposal(command)).await?)))
}

/// Stops instances on a node that this history did not place.
pub(super) async fn stop_unknown(
    State(server): State<Server>,
    author: Author,
    Named(node): Named<NodeId>,
    Body(body): Body<api::StopUnknownRequest>,
) -> Result<Json<ApplyReply>, ErrorResponse> {
    let command = Command::StopUnknown { node, instances: body.instances };
    Ok(Json(reply(server.handle.propose(author.proposal(command)).await?)))
}
