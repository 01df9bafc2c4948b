//! The output of instances, relayed from their agents.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::{Client, ErrorCode, LOG_OFFSET, LOG_SIZE, LogPartQuery, LogQuery, in_full};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use model::{InstanceId, endpoint};

use super::answer::{Bad, Query};
use crate::adapter::{LogPart, Server};

/// Clients of the agents' APIs, by URL.
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

/// Relays the output of an instance from its agent.
async fn output(server: &Server, query: &LogQuery) -> Result<Response, Bad> {
    let response = ask(server, &query.instance, &query.path()).await?;
    // A relay must end with the server, even if the stream of the agent continues.
    let stopped = server.handle.stopped();
    let relay = |body| Body::from_stream(Body::new(body).into_data_stream().take_until(stopped));
    Ok(response.map(relay).into_response())
}

/// Fetches a part of one output stream of an instance from its agent.
pub(crate) async fn part(server: &Server, query: &LogPartQuery) -> Result<LogPart, Bad> {
    let response = ask(server, &query.instance, &query.path()).await?;
    let number = |name: &str| {
        let value =
            response.headers().get(name).and_then(|value| value.to_str().ok()?.parse().ok());
        value.ok_or_else(|| {
            let message = format!("the agent of {} does not say `{name}`", query.instance);
            Bad::new(ErrorCode::BadGateway, message)
        })
    };
    let (offset, size) = (number(LOG_OFFSET)?, number(LOG_SIZE)?);
    let bytes = response.into_body().collect().await;
    let bytes = bytes.map_err(|error| Bad::new(ErrorCode::BadGateway, in_full(&error)))?.to_bytes();
    Ok(LogPart { bytes, offset, size })
}

/// Returns the response of the agent that runs an instance.
async fn ask(
    server: &Server,
    instance: &InstanceId,
    path: &str,
) -> Result<http::Response<Incoming>, Bad> {
    let snapshot = server.handle.snapshot();
    let Some(placement) = snapshot.state.placement(instance) else {
        let message = format!("there is no instance `{instance}`");
        return Err(Bad::new(ErrorCode::NotFound, message).hint("see `muster get instances`"));
    };
    let away = |message: String| Bad::new(ErrorCode::BadGateway, message);
    let node = snapshot.state.node(&placement.node).filter(|node| node.node.agent_port != 0);
    let Some(node) = node else {
        return Err(away(format!("the agent of {} has not said where it listens", placement.node)));
    };
    let url = format!("http://{}", endpoint(&node.node.address, node.node.agent_port));
    let client = server.agents.client(&url).map_err(|error| away(error.to_string()))?;
    match client.raw(path).await {
        Ok(response) => Ok(response),
        Err(api::Error::Refused(body)) => Err(Bad(body)),
        Err(error) => Err(away(format!("the agent of {}: {}", placement.node, in_full(&error)))),
    }
}
