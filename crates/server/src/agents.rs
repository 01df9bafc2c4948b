//! The output of instances, fetched from the agents that run them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::{Client, ErrorBody, ErrorCode, LOG_OFFSET, LOG_SIZE, LogPartQuery, error_chain};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use model::{InstanceId, State, endpoint};

/// Clients of the agents' APIs, by URL. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Agents(Arc<Mutex<BTreeMap<String, Client>>>);

/// A part of one output stream of an instance.
pub struct LogPart {
    /// The bytes of the part.
    pub bytes: Bytes,
    /// Where the part begins, in bytes from the start of the stream.
    pub offset: u64,
    /// The length of the whole stream in bytes.
    pub size: u64,
}

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

    /// Fetches a part of one output stream of an instance from its agent.
    pub(crate) async fn part(
        &self,
        state: &State,
        query: &LogPartQuery,
    ) -> Result<LogPart, ErrorBody> {
        let response = self.output(state, &query.instance, &query.path()).await?;
        let number = |name: &str| {
            let value =
                response.headers().get(name).and_then(|value| value.to_str().ok()?.parse().ok());
            value.ok_or_else(|| {
                let message = format!("the agent of {} did not return `{name}`", query.instance);
                bad_gateway(message)
            })
        };
        let (offset, size) = (number(LOG_OFFSET)?, number(LOG_SIZE)?);
        let bytes = response.into_body().collect().await;
        let bytes = bytes.map_err(|error| bad_gateway(error_chain(&error)))?.to_bytes();
        Ok(LogPart { bytes, offset, size })
    }

    /// Returns the response to `path` of the agent that runs an instance.
    pub(crate) async fn output(
        &self,
        state: &State,
        instance: &InstanceId,
        path: &str,
    ) -> Result<http::Response<Incoming>, ErrorBody> {
        let Some(placement) = state.placement(instance) else {
            let message = format!("there is no instance `{instance}`");
            let hint = Some("see `muster get instances`".into());
            return Err(ErrorBody { hint, ..ErrorBody::new(ErrorCode::NotFound, message) });
        };
        let node = state.node(&placement.node).filter(|node| node.node.agent_port != 0);
        let Some(node) = node else {
            let message = format!("the agent of {} has not reported its address", placement.node);
            return Err(bad_gateway(message));
        };
        let url = format!("http://{}", endpoint(&node.node.address, node.node.agent_port));
        let client = self.client(&url).map_err(|error| bad_gateway(error.to_string()))?;
        match client.raw(path).await {
            Ok(response) => Ok(response),
            Err(api::Error::Refused(body)) => Err(body),
            Err(error) => {
                let message = format!("the agent of {}: {}", placement.node, error_chain(&error));
                Err(bad_gateway(message))
            }
        }
    }
}

fn bad_gateway(message: String) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadGateway, message)
}
