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
    let mut was_reached = true;
    while !events.is_closed() {
        let error = match connection(&client, &mut registration, &events, &reconnect).await {
            ConnectionEnd::Reached(error) => {
                backoff.reset();
                was_reached = true;
                error
            }
            ConnectionEnd::NotReached(error) => error,
        };
        if was_reached {
            // Logged once per loss, not once per attempt.
            tracing::warn!("no connection to {}: {error}; instances keep running", client.url());
            was_reached = false;
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// How a connection ended.
enum ConnectionEnd {
    /// After assignments had arrived.
    Reached(String),
    /// Before assignments had arrived.
    NotReached(String),
}

async fn connection(
    client: &Client,
    registration: &mut watch::Receiver<Registration>,
    events: &mpsc::UnboundedSender<Input>,
    reconnect: &Notify,
) -> ConnectionEnd {
    let current = registration.borrow_and_update().clone();
    if let Err(error) = client.post::<serde_json::Value>(path::REGISTER, &current).await {
        return ConnectionEnd::NotReached(error_chain(&error));
    }
    let stream = path::with(path::NODE_ASSIGNMENTS, current.node.as_str());
    let mut lines = match client.follow(&stream).await {
        Ok(lines) => lines,
        Err(error) => return ConnectionEnd::NotReached(error_chain(&error)),
    };
    tracing::info!("connected to {}", client.url());
    // A request to reconnect that concerned the previous stream must not end this one.
    let _ = reconnect.notified().now_or_never();
    let _ = events.send(Input::Event(Event::Connected));
    let mut reached = false;
    let error = loop {
        let line = tokio::select! {
            line = lines.next_document::<Assignments>() => line,
            () = reconnect.notified() => break "reports do not arrive".into(),
            () = changed(registration) => {
                let current = registration.borrow_and_update().clone();
                if let Err(error) = client.post::<serde_json::Value>(path::REGISTER, &current).await {
                    break error_chain(&error);
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
            Err(error) => break error_chain(&error),
        }
    };
    if reached { ConnectionEnd::Reached(error) } else { ConnectionEnd::NotReached(error) }
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
