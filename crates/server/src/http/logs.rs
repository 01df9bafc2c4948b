//! The output of instances, relayed from the agents that have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::{Client, ErrorCode, LogQuery};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::Server;
use super::answer::{Bad, Query};
use crate::shell::in_full;

/// Clients of the agents' APIs, by address.
#[derive(Clone, Default)]
pub(crate) struct Agents(Arc<Mutex<BTreeMap<String, Client>>>);

impl Agents {
    fn client(&self, url: &str) -> Result<Client, api::Error> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(url) {
            return Ok(client.clone());
        }
        let client = Client::new(url)?;
        clients.insert(url.into(), client.clone());
        Ok(client)
    }
}

pub(super) async fn logs(
    State(server): State<Server>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Bad> {
    output(&server, &query).await
}

/// The output of an instance, as its agent gives it.
pub(super) async fn output(server: &Server, query: &LogQuery) -> Result<Response, Bad> {
    let snapshot = server.handle.snapshot();
    let instance = &query.instance;
    let Some(placement) = snapshot.state.placement(instance) else {
        let message = format!("there is no instance `{instance}`");
        return Err(Bad::new(ErrorCode::NotFound, message).hint("see `muster get instances`"));
    };
    let away = |message: String| Bad::new(ErrorCode::BadGateway, message);
    let node = snapshot.state.node(&placement.node).filter(|node| node.node.agent_port != 0);
    let Some(node) = node else {
        return Err(away(format!("the agent of {} has not said where it listens", placement.node)));
    };
    let url = format!("http://{}:{}", node.node.address, node.node.agent_port);
    let path = query.path();
    let client = server.agents.client(&url).map_err(|error| away(error.to_string()))?;
    match client.raw(&path).await {
        Ok(response) => {
            // A relay ends with the server, however long the agent would go on.
            let stopped = server.handle.stopped();
            let relay =
                |body| Body::from_stream(Body::new(body).into_data_stream().take_until(stopped));
            Ok(response.map(relay).into_response())
        }
        Err(api::Error::Refused(body)) => Err(Bad(body)),
        Err(error) => Err(away(format!("the agent of {}: {}", placement.node, in_full(&error)))),
    }
}
