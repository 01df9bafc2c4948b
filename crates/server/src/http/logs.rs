//! The output of instances, relayed from their agents.

use api::LogQuery;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::response::{ErrorResponse, Query};
use crate::adapter::Server;

pub(super) async fn logs(
    State(server): State<Server>,
    Query(query): Query<LogQuery>,
) -> Result<Response, ErrorResponse> {
    let (snapshot, path) = (server.handle.snapshot(), query.path());
    let response = server.agents.output(&snapshot.state, &query.instance, &path);
    let response = response.await.map_err(ErrorResponse)?;
    // A relay must end with the server, even if the stream of the agent continues.
    let stopped = server.handle.stopped();
    let relay = |body| Body::from_stream(Body::new(body).into_data_stream().take_until(stopped));
    Ok(response.map(relay).into_response())
}
