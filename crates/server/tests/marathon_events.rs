//! Marathon's events as they come over the wire: filtered, numbered, and told again to those who
//! were cut off.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use std::time::Duration;

use support::Server;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;

/// A stream of events.
struct Followed(Lines<BufReader<TcpStream>>);

/// An event: its number, its kind, its data.
type Told = (u64, String, serde_json::Value);

impl Followed {
    async fn new(server: &Server, query: &str, last_seen: Option<u64>) -> Followed {
        let seen = last_seen.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let request = format!(
            "GET /v2/events{query} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{seen}\r\n"
        );
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        Followed(BufReader::new(stream).lines())
    }

    async fn next(&mut self) -> Told {
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

    /// All events up to the first of a kind.
    async fn until(&mut self, kind: &str) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            told.push(self.next().await);
            if told.last().is_some_and(|(_, last, _)| last == kind) {
                return told;
            }
        }
    }
}

async fn post(server: &Server, id: &str) {
    let body = format!(r#"{{"id": "{id}", "cmd": "sleep 9", "instances": 0}}"#);
    let len = body.len();
    let request = format!(
        "POST /v2/apps HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n\
         {body}"
    );
    assert_eq!(server.raw(request.as_bytes()).await.0, 201);
}

#[tokio::test]
async fn who_was_cut_off_is_told_what_was_missed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
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
    let missed: Vec<&Told> = first[2..].iter().chain(&second).collect();
    let mut again = Followed::new(&server, "", Some(cut_off_after)).await;
    assert_eq!(again.next().await.1, "event_stream_attached");
    for expected in missed {
        assert_eq!(again.next().await, *expected);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn only_what_was_asked_for_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let query = "?event_type=api_post_event&event_type=deployment_success&plan-format=light";
    let mut chosen = Followed::new(&server, query, None).await;
    // The stream has begun once its head is there.
    assert_eq!(chosen.0.next_line().await.unwrap().unwrap(), "HTTP/1.1 200 OK");
    post(&server, "/one").await;
    let (_, kind, data) = chosen.next().await;
    assert_eq!((kind.as_str(), &data["uri"]), ("api_post_event", &"/v2/apps".into()));
    assert_eq!(data["appDefinition"]["id"], "/one");
    let (_, kind, data) = chosen.next().await;
    assert_eq!(kind, "deployment_success");
    assert!(data["plan"].get("target").is_none() && data["plan"]["steps"].is_array());
    let refused = "GET /v2/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(server.raw(refused.as_bytes()).await.0, 405);
    server.stop().await.unwrap();
}
