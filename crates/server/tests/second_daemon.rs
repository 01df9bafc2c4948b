//! Two daemons of one kind by the name of one node: only one of them acts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use api::{Caller, Client, ErrorCode, Membership, ReportReply, path};
use model::{Daemon, RouteTable};
use serde_json::{Value, json};
use support::{Server, refused, service, soon};

/// The client of a daemon on `n1`.
fn daemon(server: &Server, daemon: Daemon, id: &str) -> Client {
    let caller = Caller { daemon, node: "n1".parse().unwrap(), id: id.into(), position: None };
    let membership = Membership::forgetful(caller, None);
    Client::new(server.client.url()).unwrap().of_daemon(membership)
}

#[tokio::test]
async fn a_second_gateway_is_refused_until_the_first_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let [first, second] = ["a", "b"].map(|id| daemon(&server, Daemon::Gateway, id));
    let registration = json!({"node": "n1", "address": "127.0.0.1"});
    let report = json!({"node": "n1", "generation": 0, "busy": []});
    first.post::<Value>(path::REGISTER, &registration).await.unwrap();
    let mut lines = first.follow(path::ROUTES).await.unwrap();
    server.apply(&service("/web", 0)).await.unwrap();
    soon(lines.next_document::<RouteTable>()).await.unwrap();
    let error = refused(second.post::<Value>(path::REGISTER, &registration).await);
    assert_eq!(error.code, ErrorCode::Conflict);
    assert_eq!(error.message, "another gateway is registered as n1");
    assert!(error.hint.unwrap().contains("--node"));
    refused(second.post::<ReportReply>(path::ROUTES_REPORT, &report).await);
    first.post::<ReportReply>(path::ROUTES_REPORT, &report).await.unwrap();
    // The server notices the end of the connection a moment later.
    drop(lines);
    let registered = async {
        while second.post::<Value>(path::REGISTER, &registration).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(registered).await;
    refused(first.post::<ReportReply>(path::ROUTES_REPORT, &report).await);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn reports_of_an_agent_that_was_replaced_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let [first, second] = ["a", "b"].map(|id| daemon(&server, Daemon::Agent, id));
    let registration = json!({
        "node": "n1", "address": "127.0.0.1",
        "agent": {
            "id": "b", "port": 4041, "capacity": {"cpu": 1, "memory": "1GiB"}, "labels": {},
            "capabilities": [], "ports": [20000, 29999],
        },
    });
    second.post::<Value>(path::REGISTER, &registration).await.unwrap();
    let report = json!({"node": "n1", "generation": 0, "whole": true, "instances": []});
    let path = path::with(path::NODE_REPORT, "n1");
    second.post::<ReportReply>(&path, &report).await.unwrap();
    let error = refused(first.post::<ReportReply>(&path, &report).await);
    assert_eq!(error.message, "another agent is registered as n1");
    server.stop().await.unwrap();
}
