//! The way in: routes by the paths that `api` knows, thin handlers, truthful statuses.

mod answer;
mod apply;
mod daemons;
mod events;
mod foreign;
pub(crate) mod logs;
mod read;
mod steer;

use std::net::SocketAddr;
use std::sync::Arc;

use api::path;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::adapter::{Adapters, Server};
use crate::shell::Handle;
use answer::{method_not_allowed, not_found};

/// Documents are larger than anything else that is sent; they are refused beyond this.
const BODY_MAX: usize = 16 << 20;

/// All routes.
pub(crate) fn router(handle: Arc<Handle>, address: SocketAddr, adapters: Adapters) -> Router {
    Router::new()
        .route(path::HEALTH, get(read::health))
        .route(path::APPLY, post(apply::apply))
        .route(path::SERVICES, get(read::services))
        .route(path::SERVICE, get(read::service).delete(steer::remove_service))
        .route(path::SCALE, post(steer::scale))
        .route(path::REMOVE, post(steer::remove_services))
        .route(path::RESTART, post(steer::restart))
        .route(path::UNDO, post(steer::undo))
        .route(path::ROLLOUT, post(steer::rollout))
        .route(path::INSTANCES, get(read::instances))
        .route(path::NODES, get(read::nodes))
        .route(path::NODE, delete(steer::remove_node))
        .route(path::NODE_AVAILABILITY, post(steer::availability))
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
        .layer(from_fn(foreign::keep_out))
        .with_state(Server { handle, agents: logs::Agents::default(), address, adapters })
}

/// Passes a request without a native route to the adapter that claims its path.
async fn elsewhere(State(server): State<Server>, request: Request) -> Response {
    match server.adapters.claiming(request.uri().path()) {
        Some(adapter) => adapter.answer(server, request).await,
        None => not_found(request.uri().clone()).await.into_response(),
    }
}
