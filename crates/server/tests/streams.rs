//! Streams: events, assignments, routes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use std::time::{Duration, Instant};

use api::{
    ApplyReply, Assigned, Assignments, Client, EventView, GatewayReport, Lines, ReportReply, path,
};
use model::{InstanceId, RouteTable};
use serde_json::{Value, json};
use support::{Server, ready, refused, service, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const GATEWAY: &str = "gateway: public\nlisten: 18080\nroutes: [{ to: /web:http }]\n";

async fn next_event(lines: &mut Lines) -> Option<EventView> {
    while let Some(line) = soon(lines.next()).await.unwrap() {
        if let Some(data) = line.strip_prefix(b"data: ") {
            return Some(serde_json::from_slice(data).unwrap());
        }
    }
    None
}

/// All events after a number.
async fn events(client: &Client, query: &str) -> Vec<EventView> {
    let mut lines = client.follow(&format!("{}{query}", path::EVENTS)).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = next_event(&mut lines).await {
        events.push(event);
    }
    events
}

async fn scale(server: &Server, instances: u32) {
    let body = json!({"service": "/web", "instances": instances});
    server.client.post::<ApplyReply>(path::SCALE, &body).await.unwrap();
}

fn kinds(events: &[EventView]) -> Vec<&str> {
    events.iter().map(|event| event.event.what.kind()).collect()
}

#[tokio::test]
async fn events_are_sent_once_and_resumed_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    server.apply(&format!("{}---\n{}", service("/web", 1), service("/other", 0))).await.unwrap();
    let all = events(&server.client, "").await;
    assert_eq!(kinds(&all)[..3], ["server-started", "node-joined", "deployment-started"]);
    assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
    let of_web = events(&server.client, "?service=/web").await;
    assert!(
        !of_web.is_empty() && of_web.iter().all(|e| e.event.about.to_string().starts_with("/web"))
    );
    let third = all[2].number;
    assert_eq!(events(&server.client, &format!("?after={third}")).await, all[3..]);
    // The number of another cluster's event is ignored.
    assert_eq!(events(&server.client, "?after=99999999").await.len(), all.len());

    // The header of a reconnecting browser takes precedence over the query.
    let request = format!(
        "GET /v1/events?after=0 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nlast-event-id: {third}\r\n\r\n"
    );
    let (status, head, body) = server.raw(request.as_bytes()).await;
    assert_eq!(status, 200);
    assert!(head.contains("text/event-stream"));
    assert!(body.contains(&format!("id: {}\n", all[3].number)) && !body.contains("node-joined"));

    let newest = all.last().unwrap().number;
    let query = format!("{}?after={newest}&follow=true", path::EVENTS);
    let mut following = server.client.follow(&query).await.unwrap();
    scale(&server, 2).await;
    let event = next_event(&mut following).await.unwrap();
    assert_eq!(event.event.what.kind(), "deployment-superseded");
    server.stop().await.unwrap();
    // A server that stops ends the stream; it does not cut it off.
    while next_event(&mut following).await.is_some() {}

    // A reader that reconnects after the restart misses no event and receives none twice.
    let server = Server::start(dir.path()).await;
    let later = events(&server.client, &format!("?after={}", event.number)).await;
    assert!(kinds(&later).contains(&"deployment-started"));
    assert_eq!(later.last().unwrap().event.what.kind(), "server-started");
    assert!(later.windows(2).all(|pair| pair[0].number < pair[1].number));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn assignments_are_complete_first_and_then_incremental() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    server.apply(&service("/web", 1)).await.unwrap();
    let stream = path::with(path::NODE_ASSIGNMENTS, "n1");
    let mut lines = server.client.follow(&stream).await.unwrap();
    let mut received: Vec<InstanceId> = Vec::new();
    let mut generation = 0;
    let mut is_first = true;
    while received.is_empty() {
        let next: Assignments = soon(lines.next_document()).await.unwrap().unwrap();
        assert_eq!(next.whole, is_first);
        assert!(is_first || next.generation > generation);
        (is_first, generation) = (false, next.generation);
        assert!(next.set.iter().all(|assignment| assignment.goal == Assigned::Run));
        received.extend(next.set.into_iter().map(|assignment| assignment.instance));
    }

    // A new connection starts with a complete document.
    let mut other = server.client.follow(&stream).await.unwrap();
    let whole: Assignments = soon(other.next_document()).await.unwrap().unwrap();
    assert!(whole.whole && whole.set.len() == 1 && whole.generation >= generation);

    // Only changes are sent: first checks that change in place, then an added instance.
    let checked = format!("{}health: [{{ probe: {{ tcp: {{}} }} }}]\n", service("/web", 1));
    server.apply(&checked).await.unwrap();
    let changed: Assignments = soon(lines.next_document()).await.unwrap().unwrap();
    assert!(!changed.whole && changed.removed.is_empty());
    assert_eq!(changed.set[0].instance, received[0]);
    assert_eq!(changed.set[0].spec.health.len(), 1);

    // Heartbeats while there is nothing to send.
    let mut raw = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {stream} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    raw.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n1\r\n\n\r\n") {
        assert_ne!(soon(raw.read_buf(&mut seen)).await.unwrap(), 0);
    }

    let stopping = Instant::now();
    server.stop().await.unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(3), "streams end with the server");
    while soon(lines.next()).await.unwrap().is_some() {}
}

#[tokio::test]
async fn nodes_register_once_and_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let early = refused(server.report("n1", true, Vec::new()).await);
    assert!(early.message.contains("register"), "{}", early.message);
    server.register("n1").await.unwrap();
    let mut lines = server.client.follow("/v1/nodes/n1/assignments").await.unwrap();
    let first: Assignments = soon(lines.next_document()).await.unwrap().unwrap();
    assert!(first.whole && first.set.is_empty());
    let count = events(&server.client, "").await.len();
    for _ in 0..3 {
        server.register("n1").await.unwrap();
        server.report("n1", true, Vec::new()).await.unwrap();
    }
    assert_eq!(events(&server.client, "").await.len(), count);
    server.client.delete::<ApplyReply>("/v1/nodes/n1").await.unwrap();
    assert!(soon(lines.next()).await.unwrap().is_none(), "there is nothing to follow any more");
    server.stop().await.unwrap();
    let store = store::Embedded::open(dir.path()).unwrap();
    let page = store::Store::range(&store, "", None, 1).await.unwrap();
    assert_eq!(page.revision.0, 3, "the lead, the node, and its removal");
}

#[tokio::test]
async fn a_node_with_an_ipv6_address_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register_at("n1", "::1").await.unwrap();
    server.apply(&format!("{}---\n{GATEWAY}", service("/web", 1))).await.unwrap();
    let web: InstanceId = "/web~0.1".parse().unwrap();
    server.report("n1", true, vec![(web, ready())]).await.unwrap();
    let mut lines = server.client.follow(path::ROUTES).await.unwrap();
    let backend = loop {
        let table: RouteTable = soon(lines.next_document()).await.unwrap().unwrap();
        let mut routes = table.listeners.iter().flat_map(|listener| &listener.routes);
        if let Some(backend) = routes.find_map(|route| route.backends.first()) {
            break backend.address.clone();
        }
    };
    let address: std::net::SocketAddr = backend.parse().unwrap();
    assert_eq!(address.ip(), std::net::Ipv6Addr::LOCALHOST);
    // No agent runs, but its address is known.
    let logs = server.client.get::<Value>("/v1/logs?instance=/web~0.1").await;
    let message = refused(logs).message;
    assert!(message.contains("no response from http://[::1]:"), "{message}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn routes_follow_readiness_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let client = &server.client;
    server.register("n1").await.unwrap();
    let gateway = json!({"node": "g1", "address": "127.0.0.1"});
    client.post::<Value>(path::REGISTER, &gateway).await.unwrap();
    let mut lines = client.follow(path::ROUTES).await.unwrap();
    let report = async |generation| {
        let node = "g1".parse().unwrap();
        let report = GatewayReport {
            node,
            generation,
            busy: [].into(),
            failed: Vec::new(),
            stuck: Default::default(),
        };
        client.post::<ReportReply>(path::ROUTES_REPORT, &report).await.unwrap();
    };
    report(0).await;
    let mut table: RouteTable = soon(lines.next_document()).await.unwrap().unwrap();
    assert!(table.generation > 0 && table.listeners.is_empty());
    let probed = "readiness: { probe: { tcp: {} } }\n";
    server.apply(&format!("{}{probed}---\n{GATEWAY}", service("/web", 1))).await.unwrap();
    let web: InstanceId = "/web~0.1".parse().unwrap();
    let backends = |table: &RouteTable| table.listeners[0].routes[0].backends.len();

    let mut took = Vec::new();
    for is_ready in [true, false, true, false, true] {
        let mut status = ready();
        status.ready = is_ready;
        let since = Instant::now();
        server.report("n1", true, vec![(web.clone(), status)]).await.unwrap();
        loop {
            let next: RouteTable = soon(lines.next_document()).await.unwrap().unwrap();
            assert!(next.generation > table.generation);
            table = next;
            if !table.listeners.is_empty() && backends(&table) == usize::from(is_ready) {
                break;
            }
        }
        took.push(since.elapsed());
    }
    took.sort();
    assert!(took[2] < Duration::from_millis(100), "from report to table: {took:?}");

    // The instance is stopped only once the gateway reports that it follows a table without it.
    let mut assigned = client.follow("/v1/nodes/n1/assignments").await.unwrap();
    let _: Assignments = soon(assigned.next_document()).await.unwrap().unwrap();
    report(table.generation).await;
    scale(&server, 0).await;
    let without: RouteTable = soon(lines.next_document()).await.unwrap().unwrap();
    assert_eq!(backends(&without), 0);
    let instances: Vec<Value> = client.get(path::INSTANCES).await.unwrap();
    assert_eq!(instances[0]["goal"]["is"], "drain");
    report(without.generation).await;
    loop {
        let received: Assignments = soon(assigned.next_document()).await.unwrap().unwrap();
        if received.set[0].goal == Assigned::Stop {
            break;
        }
    }
    server.stop().await.unwrap();
    while soon(lines.next()).await.unwrap().is_some() {}
}
