//! Read-only requests.

use api::{
    ClusterState, DeploymentView, GatewayView, Health, InstanceView, NodeView, ServiceView, now,
};
use axum::Json;
use axum::extract::State;
use model::ServiceId;
use serde::Deserialize;

use super::response::{ErrorResponse, Named, Query};
use crate::adapter::Server;
use crate::view;

pub(super) async fn health(State(server): State<Server>) -> Json<Health> {
    let cluster = server.handle.snapshot().state.cluster().map(|cluster| cluster.id);
    let version = env!("CARGO_PKG_VERSION").into();
    Json(Health { status: "ok".into(), version, cluster })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    #[serde(default)]
    group: String,
}

pub(super) async fn services(
    State(server): State<Server>,
    Query(query): Query<Group>,
) -> Json<Vec<ServiceView>> {
    let snapshot = server.handle.snapshot();
    let now = now();
    let chosen = snapshot.state.services().filter(|service| service.id.is_in(&query.group));
    Json(chosen.map(|service| view::service(&snapshot, service, now)).collect())
}

pub(super) async fn service(
    State(server): State<Server>,
    Named(id): Named<ServiceId>,
) -> Result<Json<ServiceView>, ErrorResponse> {
    let snapshot = server.handle.snapshot();
    let service = snapshot.state.known_service(&id)?;
    let mut view = view::service(&snapshot, service, now());
    view.revisions = service.revisions.values().rev().cloned().collect();
    Ok(Json(view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfService {
    service: Option<ServiceId>,
}

pub(super) async fn instances(
    State(server): State<Server>,
    Query(query): Query<OfService>,
) -> Result<Json<Vec<InstanceView>>, ErrorResponse> {
    let snapshot = server.handle.snapshot();
    let now = now();
    Ok(Json(match query.service {
        Some(id) => view::instances(&snapshot, snapshot.state.known_service(&id)?, now).collect(),
        None => snapshot
            .state
            .services()
            .flat_map(|service| view::instances(&snapshot, service, now))
            .collect(),
    }))
}

pub(super) async fn nodes(State(server): State<Server>) -> Json<Vec<NodeView>> {
    let snapshot = server.handle.snapshot();
    let now = now();
    Json(snapshot.state.node_usages().map(|node| view::node(&snapshot, node, now)).collect())
}

pub(super) async fn deployments(State(server): State<Server>) -> Json<Vec<DeploymentView>> {
    let snapshot = server.handle.snapshot();
    let now = now();
    let deployments = snapshot.state.deployments();
    Json(deployments.map(|deployment| view::deployment(&snapshot, deployment, now)).collect())
}

pub(super) async fn gateways(State(server): State<Server>) -> Json<Vec<GatewayView>> {
    let snapshot = server.handle.snapshot();
    let now = now();
    Json(snapshot.state.gateways().map(|gateway| view::gateway(&snapshot, gateway, now)).collect())
}

pub(super) async fn state(State(server): State<Server>) -> Json<ClusterState> {
    let snapshot = server.handle.snapshot();
    Json(ClusterState::new(&snapshot.state, &snapshot.observed, now()))
}
