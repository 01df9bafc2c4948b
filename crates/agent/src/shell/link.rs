//! The agent's side of the server: registers the node, follows its assignments, and delivers
//! reports. When the connection is lost, the instances keep running and reconnection is retried
//! forever.

use std::sync::Arc;
use std::time::Duration;

use api::{Assignments, Backoff, Client, Report, ReportReply, error_chain, path};
use futures_util::FutureExt as _;
use model::Registration;
use tokio::sync::{Notify, mpsc, watch};

use super::Input;
use crate::core::Event;

/// Bounds of the delay between two attempts to connect.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The timeout of a report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Follows the server until the receiver of `events` is dropped. `reconnect` requests a new
/// connection when the current one does not work though it has not been closed.
pub(super) async fn follow(
    client: Client,
    mut registration: watch::Receiver<Registration>,
    events: mpsc::UnboundedSender<Input>,
    reconnect: Arc<Notify>,
) {
    let node = registration.borrow().node.clone();
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX, &node);
    // Each cause is logged once, not once per attempt.
    let mut logged = None;
    while !events.is_closed() {
        let (is_reached, loss) =
            match connection(&client, &mut registration, &events, &reconnect).await {
                ConnectionEnd::Reached(loss) => (true, loss),
                ConnectionEnd::NotReached(loss) => (false, loss),
            };
        if is_reached {
            backoff.reset();
            logged = None;
        }
        let kind = std::mem::discriminant(&loss);
        if logged.replace(kind) != Some(kind) {
            match loss {
                Loss::Connection(error) => {
                    tracing::warn!(
                        "no connection to {}: {error}; instances keep running",
                        client.url()
                    );
                }
                Loss::WrongServer(error) => tracing::error!(
                    "{error}; instances keep running, and nothing that this server says is done: \
                     see `muster agent --help` for --adopt-cluster, and `muster cluster`"
                ),
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// How a connection ended.
enum ConnectionEnd {
    /// After assignments had arrived.
    Reached(Loss),
    /// Before assignments had arrived.
    NotReached(Loss),
}

/// Why there is no connection, as a message.
enum Loss {
    /// No server responds, or the connection broke.
    Connection(String),
    /// The server is of another cluster, or its store is older than what this agent knows.
    WrongServer(String),
}

impl From<api::Error> for Loss {
    fn from(error: api::Error) -> Loss {
        match error.is_wrong_server() {
            true => Loss::WrongServer(error_chain(&error)),
            false => Loss::Connection(error_chain(&error)),
        }
    }
}

impl From<&str> for Loss {
    fn from(message: &str) -> Loss {
        Loss::Connection(message.into())
    }
}

async fn connection(
    client: &Client,
    registration: &mut watch::Receiver<Registration>,
    events: &mpsc::UnboundedSender<Input>,
    reconnect: &Notify,
) -> ConnectionEnd {
    let current = registration.borrow_and_update().clone();
    if let Err(error) = client.post::<serde_json::Value>(path::REGISTER, &current).await {
        return ConnectionEnd::NotReached(error.into());
    }
    let stream = path::with(path::NODE_ASSIGNMENTS, current.node.as_str());
    let mut lines = match client.follow(&stream).await {
        Ok(lines) => lines,
        Err(error) => return ConnectionEnd::NotReached(error.into()),
    };
    tracing::info!("connected to {}", client.url());
    // A request to reconnect that concerned the previous stream must not end this one.
    let _ = reconnect.notified().now_or_never();
    let _ = events.send(Input::Event(Event::Connected));
    let mut reached = false;
    let loss: Loss = loop {
        let line = tokio::select! {
            line = lines.next_document::<Assignments>() => line,
            () = reconnect.notified() => break "reports do not arrive".into(),
            () = changed(registration) => {
                let current = registration.borrow_and_update().clone();
                if let Err(error) = client.post::<serde_json::Value>(path::REGISTER, &current).await {
                    break error.into();
                }
                continue;
            }
        };
        match line {
            Ok(Some(assignments)) => {
                reached = true;
                let _ = events.send(Input::Event(Event::Assignments(assignments)));
            }
            Ok(None) => break "the server has ended the stream of assignments".into(),
            Err(error) => break error.into(),
        }
    };
    if reached { ConnectionEnd::Reached(loss) } else { ConnectionEnd::NotReached(loss) }
}

/// Waits until the registration of the node changes.
async fn changed(registration: &mut watch::Receiver<Registration>) {
    if registration.changed().await.is_err() {
        // The sender is gone, so the registration cannot change any more.
        std::future::pending().await
    }
}

/// Sends a report to the server; returns the result as an event.
pub(super) async fn report(client: Client, report: Report) -> Event {
    let path = path::with(path::NODE_REPORT, report.node.as_str());
    let number = report.number;
    let sent = tokio::time::timeout(REPORT_TIMEOUT, client.post::<ReportReply>(&path, &report));
    match sent.await {
        Ok(Ok(reply)) => Event::ReportSent { number, resync: reply.resync },
        Ok(Err(error)) => {
            tracing::debug!("a report was not delivered: {}", error_chain(&error));
            Event::ReportFailed { number }
        }
        Err(_) => Event::ReportFailed { number },
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use futures_util::{StreamExt as _, stream};
    use serde_json::json;

    use super::*;

    /// A server that assigns nothing and keeps its stream open.
    async fn server() -> Client {
        let stream = || async {
            let line =
                json!({"node": "n1", "generation": 1, "whole": true, "set": [], "removed": []});
            let line = Bytes::from(format!("{line}\n"));
            let lines = stream::iter([Ok::<_, std::convert::Infallible>(line)]);
            Body::from_stream(lines.chain(stream::pending()))
        };
        let router = Router::new()
            .route(path::REGISTER, post(|| async { Json(json!({})) }))
            .route(path::NODE_ASSIGNMENTS, get(stream));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        Client::new(&url).unwrap()
    }

    #[tokio::test]
    async fn a_stale_reconnect_request_does_not_close_a_new_connection() {
        let client = server().await;
        let registration = json!({"node": "n1", "address": "127.0.0.1"});
        let (_changes, mut registration) =
            watch::channel(serde_json::from_value(registration).unwrap());
        let (events, mut inputs) = mpsc::unbounded_channel();
        let reconnect = Notify::new();
        reconnect.notify_one();
        let assigned = async {
            while let Some(input) = inputs.recv().await {
                if matches!(input, Input::Event(Event::Assignments(_))) {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            _ = connection(&client, &mut registration, &events, &reconnect) => {
                panic!("it has ended")
            }
            () = assigned => {}
        }
    }
}
