//! The smaller endpoints of Marathon's API: what waits, who the server is, what there is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use serde_json::{Value, json};
use support::Server;

/// What is answered to a request with a body, as JSON; null if there is none.
async fn asked(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let len = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n\
         {body}"
    );
    let (status, _, body) = server.raw(request.as_bytes()).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

async fn get(server: &Server, path: &str) -> Value {
    let (status, body) = asked(server, "GET", path, "").await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn what_waits_is_shown_and_need_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    let app = r#"{"id": "/shop/web", "cmd": "run", "cpus": 9999, "instances": 2}"#;
    assert_eq!(asked(&server, "POST", "/v2/apps", app).await.0, 201);
    let queue = get(&server, "/v2/queue").await["queue"].clone();
    assert_eq!(keys(&queue[0]), ["app", "count", "delay", "processedOffersSummary", "since"]);
    assert_eq!((&queue[0]["app"]["id"], &queue[0]["count"]), (&json!("/shop/web"), &json!(2)));
    let path = "/service/marathon/v2/queue?embed=lastUnusedOffers&embed=waits";
    let queue = get(&server, path).await["queue"].clone();
    assert_eq!(queue[0]["lastUnusedOffers"][0]["reason"][0], "InsufficientCpus");
    assert_eq!(queue[0]["waits"][0], "no node of 1 can take it; n1: cpu: 9999 needed, 100 free");
    assert_eq!(asked(&server, "DELETE", "/v2/queue//shop/web/delay", "").await.0, 204);
    let (status, refused) = asked(&server, "DELETE", "/v2/queue/none/delay", "").await;
    let message = "Application /none not found in tasks queue.";
    assert_eq!((status, &refused["message"]), (404, &json!(message)));
    server.stop().await.unwrap();
}
