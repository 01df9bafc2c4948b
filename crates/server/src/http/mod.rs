//! The HTTP API: routes by the paths of the `api` crate, thin handlers, exact status codes.

mod apply;
mod daemons;
mod events;
mod foreign;
mod host;
mod logs;
mod membership;
mod read;
mod request_id;
mod response;
mod steer;

use std::sync::Arc;

use api::path;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::adapter::{self, Adapter, Owner, Server};
use response::{method_not_allowed, not_found};

/// Maximum size of a body in bytes. Documents are the largest bodies.
const BODY_MAX: usize = 16 << 20;

/// The router of the server's own port: all native routes, and those that adapters claim.
pub(crate) fn router(server: Server) -> Router {
    Router::new()
        .route(path::HEALTH, get(read::health))
        .route(path::APPLY, post(apply::apply))
        .route(path::SERVICES, get(read::services))
        .route(path::SERVICE, get(read::service).delete(steer::remove_service))
        .route(path::SCALE, post(steer::scale))
        .route(path::RUN, post(steer::set_run))
        .route(path::FREEZE, post(steer::set_frozen))
        .route(path::REMOVE, post(steer::remove_services))
        .route(path::RESTART, post(steer::restart))
        .route(path::UNDO, post(steer::undo))
        .route(path::ROLLOUT, post(steer::rollout))
        .route(path::INSTANCES, get(read::instances))
        .route(path::NODES, get(read::nodes))
        .route(path::NODE, delete(steer::remove_node))
        .route(path::NODE_AVAILABILITY, post(steer::availability))
        .route(path::STOP_UNKNOWN, post(membership::stop_unknown))
        .route(path::CLUSTER, get(membership::cluster))
        .route(path::ACCEPT_LOSS, post(membership::accept_loss))
        .route(path::DEPLOYMENTS, get(read::deployments))
        .route(path::GATEWAYS, get(read::gateways))
        .route(path::GATEWAY, delete(steer::remove_gateway))
        .route(path::STATE, get(read::state))
        .route(path::EVENTS, get(events::events))
        .route(path::LOGS, get(logs::logs))
        .route(path::REGISTER, post(daemons::register))
        .route(path::NODE_ASSIGNMENTS, get(daemons::assignments))
        .route(path::NODE_REPORT, post(daemons::report))
        .route(path::ROUTES, get(daemons::routes))
        .route(path::ROUTES_REPORT, post(daemons::gateway_report))
        .fallback(elsewhere)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn_with_state(server.clone(), membership::admit))
        .layer(from_fn(request_id::identify))
        .layer(from_fn(foreign::reject_cross_site))
        .layer(from_fn_with_state(server.clone(), host::check))
        .with_state(server)
}

/// Passes a request without a native route to the adapter that claims its path.
async fn elsewhere(State(server): State<Server>, request: Request) -> Response {
    match server.adapters.owner(&request) {
        Owner::Adapter(adapter, path) => adapter::pass_on(adapter, &path, server, request).await,
        Owner::Elsewhere { adapter, media_type, prefixes } => {
            let below = prefixes.iter().map(|prefix| format!(", or below {prefix}"));
            let below: String = below.collect();
            let hint = format!("the adapter `{adapter}` has it with `Accept: {media_type}`{below}");
            not_found(request.uri().clone()).await.hint(hint).into_response()
        }
        Owner::Nobody => not_found(request.uri().clone()).await.into_response(),
    }
}

/// The router of an adapter's own listener, whose address is that of `server`.
pub(crate) fn adapter_router(adapter: Arc<dyn Adapter>, server: Server) -> Router {
    let handler = |State(server), request| adapter::pass_all(adapter, server, request);
    Router::new()
        .fallback(handler)
        .layer(from_fn(request_id::identify))
        .layer(from_fn(foreign::reject_cross_site))
        .layer(from_fn_with_state(server.clone(), host::check))
        .with_state(server)
}
