//! Pulls from a registry, a minimal one in the test itself: the daemon trusts 127.0.0.1.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent::drivers::{Driver as _, DriverEvent};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::json;

use crate::engine::{Engine, layer};
use crate::harness::Harness;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// `ann:s3cret`
const LOGIN: &str = "YW5uOnMzY3JldA==";

struct Registry {
    blobs: HashMap<String, Vec<u8>>,
    manifest: String,
    pulls: AtomicU32,
}

fn digest(bytes: &[u8]) -> String {
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("x"), bytes).unwrap();
    let sum = Command::new("sha256sum").arg(dir.path().join("x")).output().unwrap().stdout;
    format!("sha256:{}", String::from_utf8(sum).unwrap().split_whitespace().next().unwrap())
}

fn registry() -> Registry {
    let layer = std::fs::read(layer().path().join("layer.tar")).unwrap();
    let layer_digest = digest(&layer);
    // Different in each test process, so that no other image has the same digest.
    let mark = format!("MARK={}", std::process::id());
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": ["/probe"], "Env": [mark]},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        "history": [{"created_by": "test"}],
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": config.len(), "digest": digest(&config),
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "size": layer.len(), "digest": layer_digest,
        }],
    });
    let blobs = HashMap::from([(digest(&config), config), (layer_digest, layer)]);
    Registry { blobs, manifest: manifest.to_string(), pulls: AtomicU32::new(0) }
}

fn refusal(headers: &HeaderMap) -> Option<Response> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given == Some(&format!("Basic {LOGIN}")) {
        return None;
    }
    let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
    let mut response = (StatusCode::UNAUTHORIZED, body.to_string()).into_response();
    let wanted = HeaderValue::from_static("Basic realm=\"test\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, wanted);
    Some(response)
}

async fn manifest(
    State(registry): State<Arc<Registry>>,
    Path(tag): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refusal(&headers) {
        return refusal;
    }
    if tag != "1" && !tag.starts_with("sha256:") {
        let body = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
        return (StatusCode::NOT_FOUND, body.to_string()).into_response();
    }
    if tag == "1" {
        // Each pull resolves the tag; missing layers are requested by digest.
        registry.pulls.fetch_add(1, Ordering::Relaxed);
    }
    let digest = digest(registry.manifest.as_bytes());
    let headers = [("content-type", MANIFEST.to_string()), ("docker-content-digest", digest)];
    (headers, registry.manifest.clone()).into_response()
}

async fn blob(
    State(registry): State<Arc<Registry>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Response {
    match refusal(&headers) {
        Some(refusal) => refusal,
        None => registry.blobs[&digest].clone().into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_starts_pull_an_image_once_with_its_login() {
    let Some(engine) = Engine::of_machine() else { return };
    let registry = Arc::new(registry());
    let router = Router::new()
        .route(
            "/v2/",
            get(|headers: HeaderMap| async move { refusal(&headers).unwrap_or_default() }),
        )
        .route("/v2/team/probe/manifests/{tag}", get(manifest))
        .route("/v2/team/probe/blobs/{digest}", get(blob))
        .with_state(registry.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let image = format!("{host}/team/probe:1");
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let dir = tempfile::TempDir::new().unwrap();
    let mut harness = Harness::unadopted(engine, Some(dir.path().into()));
    harness.adopt().await.unwrap();
    let launch = |harness: &Harness, slot, image: &str, pull: &str| {
        harness.launch(slot, 1, "wait", json!({"container": {"image": image, "pull": pull}}))
    };

    // Without credentials, the message explains which are missing.
    let config = |auth: serde_json::Value| {
        let config = json!({"auths": {&host: auth}, "credsStore": "desk"}).to_string();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
    };
    config(json!({}));
    harness.driver.start(launch(&harness, 0, &image, "missing"));
    let (message, unavailable) = harness.failure(&harness.instance(0), 1).await;
    assert!(message.contains("docker-credential-desk") && !unavailable, "{message}");

    config(json!({"auth": LOGIN}));
    let other = format!("{host}/team/probe:other");
    harness.driver.start(launch(&harness, 0, &other, "missing"));
    let (message, _) = harness.failure(&harness.instance(0), 1).await;
    assert!(message.contains("check the name and the tag"), "{message}");

    for slot in 1..=6 {
        harness.driver.start(launch(&harness, slot, &image, "missing"));
    }
    for slot in 1..=6 {
        harness.started(&harness.instance(slot), 1).await;
    }
    assert_eq!(registry.pulls.load(Ordering::Relaxed), 1);
    let words = format!("pulling the image {image}");
    let is_emitted = |event: &DriverEvent| matches!(event, DriverEvent::Preparing { message, .. } if *message == words);
    assert!(harness.events().iter().any(is_emitted));

    harness.driver.start(launch(&harness, 7, &image, "always"));
    harness.started(&harness.instance(7), 1).await;
    assert_eq!(registry.pulls.load(Ordering::Relaxed), 2);

    // A stop must not wait for a pull.
    server.abort();
    harness.driver.start(launch(&harness, 8, &image, "always"));
    harness.stop(&harness.instance(8), 1, std::time::Duration::ZERO);
    assert!(!harness.failure(&harness.instance(8), 1).await.1);

    let engine = harness.engine.clone();
    drop(harness);
    let _ = engine.try_docker(&["rmi", "-f", &image]);
}
