//! Requests that clients repeat under their ids.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use api::{ServiceView, path};
use serde_json::{Value, json};
use support::{Server, service};

/// `POST`s a request with an id; returns the status and the body.
async fn post(server: &Server, id: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         idempotency-key: {id}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (status, _, body) = server.raw(format!("{head}{body}").as_bytes()).await;
    (status, serde_json::from_str(&body).unwrap())
}

async fn instances(server: &Server) -> u32 {
    server.client.get::<ServiceView>("/v1/services/web").await.unwrap().instances
}

#[tokio::test]
async fn a_repeated_request_has_its_first_response_after_a_restart_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path()).await;
    server.apply(&service("/web", 1)).await.unwrap();
    let scale = |instances: u32| json!({"service": "/web", "instances": instances});
    let first = post(&server, "\"a-1\"", path::SCALE, &scale(3)).await;
    assert_eq!(first.0, 200, "{}", first.1);
    let documents = json!({"sources": [{"name": "-", "text": service("/api", 1)}]});
    let created = post(&server, "a-2", path::APPLY, &documents).await;
    assert_eq!(created.1["changes"][0]["verdict"], "created");
    let unknown = json!({"service": "/later", "instances": 1});
    let refused = post(&server, "a-3", path::SCALE, &unknown).await;
    assert_eq!(refused.0, 404);
    assert_eq!(post(&server, "a-4", path::SCALE, &scale(5)).await.0, 200);
    server.apply(&service("/later", 2)).await.unwrap();
    for round in 0..3 {
        assert_eq!(post(&server, "a-1", path::SCALE, &scale(3)).await, first, "round {round}");
        assert_eq!(post(&server, "a-2", path::APPLY, &documents).await, created);
        assert_eq!(post(&server, "a-3", path::SCALE, &unknown).await, refused);
        assert_eq!(instances(&server).await, 5, "no repetition has an effect");
        match round {
            0 => server.stop().await.unwrap(),
            _ => server.kill().await,
        }
        server = Server::start(dir.path()).await;
    }
    server.stop().await.unwrap();
}

/// The service of the request is not being deployed any more, so that a new request is rejected.
#[tokio::test]
async fn a_repetition_does_not_depend_on_the_present_state() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.apply(&service("/web", 1)).await.unwrap();
    server.apply(&service("/web", 2)).await.unwrap();
    let pause = json!({"service": "/web", "how": "pause"});
    let first = post(&server, "p", path::ROLLOUT, &pause).await;
    assert_eq!(first.0, 200, "{}", first.1);
    let _: Value = server.client.delete("/v1/services/web").await.unwrap();
    assert_eq!(post(&server, "p", path::ROLLOUT, &pause).await, first);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_id_belongs_to_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.apply(&service("/web", 1)).await.unwrap();
    let scale = |instances: u32| json!({"service": "/web", "instances": instances});
    assert_eq!(post(&server, "a", path::SCALE, &scale(3)).await.0, 200);
    for (path, body) in [(path::SCALE, scale(4)), (path::RESTART, json!({"service": "/web"}))] {
        let (status, error) = post(&server, "a", path, &body).await;
        assert_eq!((status, &error["code"]), (422, &json!("invalid")));
        let message = "the request id `a` belongs to another request: each request needs an id of \
                       its own";
        assert_eq!(error["message"], message);
    }
    assert_eq!(instances(&server).await, 3);
    for id in ["", "a b", "a/b", "\"\""] {
        let (status, error) = post(&server, id, path::SCALE, &scale(4)).await;
        assert_eq!((status, &error["code"]), (400, &json!("bad-request")), "{id}: {error}");
    }
    server.stop().await.unwrap();
}
