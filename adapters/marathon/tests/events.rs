//! The event stream over the wire: filters, numbers, resuming after a disconnect, and bounded
//! memory for clients that stop reading.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

extern crate server as muster_server;

#[path = "../../../crates/server/tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;

use std::time::Duration;

use muster_adapter_marathon::Marathon;
use server::adapter::{Adapter, Adapters};
use support::Server;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpSocket, TcpStream};

/// A server with the adapter.
async fn start(data_dir: &Path) -> Server {
    let adapters = || {
        let marathon: Arc<dyn Adapter> = Arc::new(Marathon::default());
        Adapters::new([(marathon, Vec::new())]).unwrap()
    };
    Server::start_with(data_dir, adapters).await
}

/// A connection to the event stream.
async fn open_stream(mut stream: TcpStream, query: &str, last_seen: Option<u64>) -> TcpStream {
    let seen = last_seen.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
    let request = format!(
        "GET /v2/events{query} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\
         connection: close\r\n{seen}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The client side of an event stream.
struct Followed(Lines<BufReader<TcpStream>>);

/// An event: number, kind and data.
type ReceivedEvent = (u64, String, serde_json::Value);

impl Followed {
    async fn new(server: &Server, query: &str, last_seen: Option<u64>) -> Followed {
        let stream = TcpStream::connect(server.address).await.unwrap();
        Followed(BufReader::new(open_stream(stream, query, last_seen).await).lines())
    }

    async fn next(&mut self) -> ReceivedEvent {
        let next = async {
            let (mut kind, mut id) = (String::new(), 0);
            loop {
                let line = self.0.next_line().await.unwrap().expect("the stream goes on");
                if let Some(text) = line.strip_prefix("event: ") {
                    kind = text.into();
                } else if let Some(text) = line.strip_prefix("id: ") {
                    id = text.parse().unwrap();
                } else if let Some(text) = line.strip_prefix("data: ") {
                    return (id, kind, serde_json::from_str(text).unwrap());
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next).await.expect("an event comes")
    }

    /// Reads events up to the first one of a kind.
    async fn until(&mut self, kind: &str) -> Vec<ReceivedEvent> {
        let mut received = Vec::new();
        loop {
            received.push(self.next().await);
            if received.last().is_some_and(|(_, last, _)| last == kind) {
                return received;
            }
        }
    }
}

async fn post(server: &Server, id: &str) {
    let body = format!(r#"{{"id": "{id}", "cmd": "sleep 9", "instances": 0}}"#);
    assert_eq!(server.send_as("POST", "/v2/apps", &body).await.0, 201);
}

#[tokio::test]
async fn a_reconnecting_subscriber_gets_the_missed_events() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let mut whole = Followed::new(&server, "", None).await;
    let (_, kind, data) = whole.next().await;
    assert_eq!(
        (kind.as_str(), &data["remoteAddress"]),
        ("event_stream_attached", &"127.0.0.1".into())
    );
    post(&server, "/one").await;
    let first = whole.until("deployment_success").await;
    let numbers: Vec<u64> = first.iter().map(|(id, ..)| *id).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let cut_off_after = first[1].0;
    post(&server, "/two").await;
    let second = whole.until("deployment_success").await;
    let missed: Vec<&ReceivedEvent> = first[2..].iter().chain(&second).collect();
    let mut again = Followed::new(&server, "", Some(cut_off_after)).await;
    assert_eq!(again.next().await.1, "event_stream_attached");
    for expected in missed {
        assert_eq!(again.next().await, *expected);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn only_requested_event_types_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let query = "?event_type=api_post_event&event_type=deployment_success&plan-format=light";
    let mut chosen = Followed::new(&server, query, None).await;
    // The stream has started once the head of the response has arrived.
    assert_eq!(chosen.0.next_line().await.unwrap().unwrap(), "HTTP/1.1 200 OK");
    post(&server, "/one").await;
    let (_, kind, data) = chosen.next().await;
    assert_eq!((kind.as_str(), &data["uri"]), ("api_post_event", &"/v2/apps".into()));
    assert_eq!(data["appDefinition"]["id"], "/one");
    let (_, kind, data) = chosen.next().await;
    assert_eq!(kind, "deployment_success");
    assert!(data["plan"].get("target").is_none() && data["plan"]["steps"].is_array());
    let refused = "GET /v2/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(server.raw(refused.as_bytes()).await.0, 405);
    server.stop().await.unwrap();
}

/// The number of requests without effect for a large app, with a definition of this size in bytes.
/// Their events exceed the buffers of the sockets, which hold some megabytes.
const LARGE: (usize, usize) = (250, 32 << 10);
/// The number of further requests for a small app. Their events exceed the capacity of the log.
const SMALL: usize = 2100;

/// A client without progress is disconnected once the log drops events that it has not received.
/// When it reconnects, it receives the remaining events, and a note that some are missing.
#[tokio::test]
async fn a_subscriber_that_stops_reading_is_disconnected_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    post(&server, "/small").await;
    post(&server, "/large").await;
    let label = format!(r#"{{"labels": {{"a": "{}"}}}}"#, "x".repeat(LARGE.1));
    assert_eq!(server.send_as("PUT", "/v2/apps/large?force=true", &label).await.0, 200);

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stalled = socket.connect(server.address).await.unwrap();
    let mut stalled = open_stream(stalled, "", None).await;
    stalled.readable().await.unwrap();

    let mut other = Followed::new(&server, "", None).await;
    assert_eq!(other.next().await.1, "event_stream_attached");
    let reading = tokio::spawn(async move {
        let (mut received, mut done) = (Vec::new(), 0);
        while done < LARGE.0 + SMALL {
            let line = other.0.next_line().await.unwrap().expect("the stream goes on");
            received.extend(line.strip_prefix("id: ").map(|id| id.parse::<u64>().unwrap()));
            done += usize::from(line == "event: deployment_success");
        }
        received
    });
    for (path, times) in [("/v2/apps/large", LARGE.0), ("/v2/apps/small", SMALL)] {
        for _ in 0..times {
            assert_eq!(server.send_as("PUT", path, r#"{"instances": 0}"#).await.0, 200);
        }
    }
    let received = support::soon(reading).await.unwrap();
    assert!(received.windows(2).all(|pair| pair[1] == pair[0] + 1), "each one, and once");
    let newest = received[received.len() - 1];

    let mut rest = Vec::new();
    support::soon(stalled.read_to_end(&mut rest)).await.unwrap();
    let rest = String::from_utf8_lossy(&rest);
    let ids = rest.lines().filter_map(|line| line.strip_prefix("id: ")?.parse::<u64>().ok());
    let seen = ids.max().unwrap();
    assert!(seen < newest - 4096, "{seen} of {newest}");

    let mut again = Followed::new(&server, "", Some(seen)).await;
    let gone = loop {
        let line = again.0.next_line().await.unwrap().unwrap();
        if let Some(comment) = line.strip_prefix(": ") {
            break comment.to_string();
        }
    };
    assert!(gone.starts_with(&format!("of what came after event {seen}, ")), "{gone}");
    assert_eq!(again.next().await.1, "event_stream_attached");
    let oldest = again.next().await.0;
    assert!(seen < oldest && oldest >= newest - 4096, "{seen} {oldest} {newest}");
    assert_eq!(again.next().await.0, oldest + 1, "from then on all of them");
    server.stop().await.unwrap();
}
