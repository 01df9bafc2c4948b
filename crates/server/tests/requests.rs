//! Requests and their responses: accepted commands, rejected ones, and the errors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use api::{ApplyReply, ClusterState, ErrorCode, Health, ServiceState, ServiceView, path};
use model::ChangeKind;
use serde_json::{Value, json};
use support::{Server, refused, service, soon};

#[tokio::test]
async fn documents_are_applied_and_planned() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let health: Health = server.client.get(path::HEALTH).await.unwrap();
    assert_eq!(health.status, "ok");
    server.register("n1").await.unwrap();

    let before = server.shown().await;
    let planned = server.apply_as("-", &service("/shop/web", 3), true).await.unwrap();
    assert_eq!(planned.changes[0].verdict, ChangeKind::Created);
    assert!(!planned.waves.is_empty());
    assert_eq!(before, server.shown().await, "a plan changes nothing");

    let applied = server.apply(&service("/shop/web", 3)).await.unwrap();
    assert_eq!(applied.changes[0].verdict, ChangeKind::Created);
    // A client that has the response sees the change.
    let web: ServiceView = server.client.get("/v1/services/shop/web").await.unwrap();
    assert_eq!((web.state, web.instances), (ServiceState::Deploying, 3));
    assert_eq!(web.deployment, applied.deployment);
    assert_eq!(web.revisions.len(), 1);
    let again = server.apply(&service("/shop/web", 3)).await.unwrap();
    assert_eq!(again.changes[0].verdict, ChangeKind::Unchanged);
    assert_eq!(again.deployment, None);

    let base = service("/zdd/base", 4) + "rollout: { min_healthy: 25% }\n";
    let base = server.apply(&base).await.unwrap();
    assert_eq!(base.changes[0].name, "/zdd/base");
    let base: ServiceView = server.client.get("/v1/services/zdd/base").await.unwrap();
    assert_eq!(base.spec.rollout.min_healthy.to_string(), "25%");
    let known: ClusterState = server.client.get(path::STATE).await.unwrap();
    let (state, observed, now) = known.clone().parts();
    let services: Vec<_> = state.services().map(|service| service.id.to_string()).collect();
    assert_eq!(services, ["/shop/web", "/zdd/base"]);
    assert_eq!(state.violations(), []);
    assert_eq!(ClusterState::new(&state, &observed, now), known, "nothing is lost on the way");
    let shop: Vec<ServiceView> = server.client.get("/v1/services?group=/shop").await.unwrap();
    assert_eq!(shop.len(), 1);
    let instances: Vec<Value> = server.client.get("/v1/instances?service=/zdd/base").await.unwrap();
    assert!(instances.len() <= 4);
    server.stop().await.unwrap();
}

/// A plan used to list what other services waited for as its own outcome, and no changed keys.
#[tokio::test]
async fn a_plan_shows_changed_keys_and_only_its_own_services() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let document = |version: &str, content: &str| {
        let file = format!("files: [{{ path: conf/web, text: {content:?} }}]\n");
        format!("{}env: {{ VERSION: {version:?} }}\n{file}", service("/web", 1))
    };
    // No node takes either of them.
    server.apply(&service("/other", 1)).await.unwrap();
    server.apply(&document("1", "a")).await.unwrap();
    let plan = async |text: &str| server.apply_as("-", text, true).await.unwrap();
    let unchanged = plan(&document("1", "a")).await;
    assert!(unchanged.differences.is_empty());
    assert!(unchanged.waits.iter().all(|wait| wait.service.as_str() == "/web"));
    let changed = plan(&document("2", "b")).await;
    let keys: Vec<_> = changed.differences[0].keys.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["env.VERSION", "files[conf/web].text"]);
    let version = &changed.differences[0].keys[0];
    assert_eq!((&version.from, &version.to), (&Some(json!("1")), &Some(json!("2"))));
    assert!(changed.waits.iter().all(|wait| wait.service.as_str() == "/web"));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn services_are_steered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let client = &server.client;
    server.register("n1").await.unwrap();
    server.apply(&service("/web", 1)).await.unwrap();
    let post = async |path: &str, body: Value| client.post::<ApplyReply>(path, &body).await;

    let scaled = post(path::SCALE, json!({"service": "/web", "instances": 3})).await.unwrap();
    assert_eq!(scaled.changes[0].verdict, ChangeKind::Updated);
    let deployment = scaled.deployment.unwrap();
    let paused = json!({"service": "/web", "how": "pause"});
    post(path::ROLLOUT, paused.clone()).await.unwrap();
    let unchanged = post(path::ROLLOUT, paused).await.unwrap();
    assert_eq!(unchanged.changes[0].verdict, ChangeKind::Unchanged);
    post(path::ROLLOUT, json!({"deployment": deployment, "how": "resume"})).await.unwrap();
    post(path::RESTART, json!({"service": "/web"})).await.unwrap();
    let undone = post(path::UNDO, json!({"service": "/web", "to": 1})).await.unwrap();
    assert_eq!(undone.changes[0].revision, Some(4));
    let unknown = refused(post(path::UNDO, json!({"service": "/web", "to": 77})).await);
    assert_eq!(unknown.code, ErrorCode::Conflict);
    let many =
        refused(post(path::SCALE, json!({"service": "/web", "instances": 2_000_000_000})).await);
    assert_eq!(many.code, ErrorCode::Conflict);

    let cordoned = post("/v1/nodes/n1/availability", json!("cordoned")).await.unwrap();
    assert_eq!(cordoned.changes[0].verdict, ChangeKind::Updated);
    let used = refused(client.delete::<ApplyReply>("/v1/nodes/n1").await);
    assert!(used.message.contains("drain it first"), "{}", used.message);
    let bad = refused(post("/v1/nodes/n1/availability", json!("asleep")).await);
    assert_eq!(bad.code, ErrorCode::BadRequest);

    let gateway = "gateway: public\nlisten: 18080\nroutes: [{ to: /web:http }]\n";
    server.apply(gateway).await.unwrap();
    client.delete::<ApplyReply>("/v1/gateways/public").await.unwrap();
    let gone = refused(client.delete::<ApplyReply>("/v1/gateways/public").await);
    assert_eq!(gone.code, ErrorCode::NotFound);
    let removed = client.delete::<ApplyReply>("/v1/services/web").await.unwrap();
    assert_eq!(removed.changes[0].verdict, ChangeKind::Removed);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn mutually_dependent_services_are_removed_together() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let web = format!("{}depends_on: [/shop/db]\n", service("/shop/web", 1));
    server.apply(&format!("{}---\n{web}", service("/shop/db", 1))).await.unwrap();
    let remove = async |services: Value| {
        server.client.post::<ApplyReply>(path::REMOVE, &json!({ "services": services })).await
    };
    let needed = refused(remove(json!(["/shop/db"])).await);
    assert!(needed.message.contains("/shop/web depends on /shop/db"), "{}", needed.message);
    assert_eq!(refused(remove(json!(["/shop/db", "/shop/wep"])).await).code, ErrorCode::NotFound);
    assert_eq!(refused(remove(json!([])).await).code, ErrorCode::BadRequest);
    let removed = remove(json!(["/shop/db", "/shop/web"])).await.unwrap();
    let verdicts: Vec<_> = removed.changes.iter().map(|change| change.verdict).collect();
    assert_eq!(verdicts, [ChangeKind::Removed, ChangeKind::Removed]);
    assert!(removed.changes.iter().all(|change| change.deployment == removed.deployment));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn every_error_has_a_json_body() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    server.apply(&service("/shop/web", 1)).await.unwrap();
    let before = server.shown().await;
    let deep = "[".repeat(100_000);
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", "/v1/apply", "{", 400, "cannot be read"),
        ("POST", "/v1/apply", r#"{"sources": [], "plann": true}"#, 400, "plann"),
        ("POST", "/v1/apply", &deep, 400, "cannot be read"),
        ("POST", "/v1/scale", r#"{"service": "/shop/web", "instances": -1}"#, 400, "-1"),
        ("POST", "/v1/scale", r#"{"service": "/shop/wep", "instances": 1}"#, 404, "/shop/web"),
        ("POST", "/v1/rollout", r#"{"service": "/shop/wep", "how": "pause"}"#, 404, "/shop/web"),
        ("POST", "/v1/rollout", r#"{"service": "/shop/web"}"#, 400, "say how"),
        ("POST", "/v1/rollout", r#"{"how": "pause"}"#, 400, "name a service"),
        ("POST", "/v1/restart", "{}", 400, "name the service"),
        ("POST", "/v1/register", r#"{"node": "N 1", "address": ""}"#, 400, "N 1"),
        ("POST", "/v1/register", r#"{"node": "n2", "address": ""}"#, 422, "address"),
        ("GET", "/v1/services/shop/wep", "", 404, "did you mean `/shop/web`"),
        ("GET", "/v1/services/Shop", "", 400, "Shop"),
        ("GET", "/v1/services/%ff", "", 400, ""),
        ("GET", "/v1/instances?service=/shop/wep", "", 404, "/shop/web"),
        ("GET", "/v1/instances?servise=/shop/web", "", 400, "servise"),
        ("GET", "/v1/services?grup=/", "", 400, "grup"),
        ("GET", "/v1/events?after=x", "", 400, ""),
        ("GET", "/v1/logs?instance=/shop/web~7.7", "", 404, "/shop/web~7.7"),
        ("GET", "/v1/logs", "", 400, "instance"),
        ("GET", "/v1/nodes/n7/assignments", "", 404, "n7"),
        ("GET", "/v1/nothing", "", 404, "/v1/nothing"),
        ("GET", "/", "", 404, ""),
        ("PUT", "/v1/services", "", 405, "/v1/services"),
        ("DELETE", "/v1/services", "", 405, ""),
        ("OPTIONS", "/v1/services", "", 405, ""),
        ("POST", "/v1/health", "", 405, ""),
        ("DELETE", "/v1/nodes/n7", "", 404, "n7"),
        ("DELETE", "/v1/services/shop/wep", "", 404, "/shop/web"),
        (
            "POST",
            "/v1/nodes/n7/report",
            r#"{"node": "n7", "generation": 0, "whole": true, "instances": []}"#,
            409,
            "register",
        ),
        (
            "POST",
            "/v1/routes/report",
            r#"{"node": "n1", "generation": 0, "busy": []}"#,
            409,
            "register",
        ),
    ];
    for (method, path, body, status, words) in cases {
        let (found, error) = soon(server.send(method, path, body)).await;
        assert_eq!(found, *status, "{method} {path}: {}", error.message);
        assert_eq!(error.code.status(), *status, "{method} {path}");
        let serialized = serde_json::to_string(&error).unwrap();
        assert!(serialized.contains(words), "{method} {path}: {serialized}");
    }
    let (status, head, body) = server.request("HEAD", "/v1/services").await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("application/json"));
    let (_, head, _) = server.request("PUT", "/v1/services/shop/web").await;
    assert!(head.contains("allow: get,head,delete"), "{head}");
    assert_eq!(before, server.shown().await);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn cross_site_requests_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let document = service("/shop/web", 1);
    let apply = json!({"sources": [{"name": "a.yaml", "text": document}]}).to_string();
    let before = server.shown().await;
    let ask = async |from: &str, method: &str, path: &str, body: &str| {
        let len = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost:4040\r\n{from}\r\ncontent-type: text/plain\r\n\
             connection: close\r\ncontent-length: {len}\r\n\r\n{body}"
        );
        let (status, _, response) = server.raw(request.as_bytes()).await;
        (status, response)
    };
    for from in ["origin: http://evil.example", "sec-fetch-site: cross-site", "origin: null"] {
        for (method, path, body) in [
            ("POST", "/v1/apply", apply.as_str()),
            ("DELETE", "/v1/services/shop/web", ""),
            ("POST", "/nowhere", ""),
        ] {
            let (status, response) = ask(from, method, path, body).await;
            let error: api::ErrorBody = serde_json::from_str(&response).unwrap();
            assert_eq!((status, error.code), (403, ErrorCode::Forbidden), "{from} {method} {path}");
            assert!(error.hint.unwrap().contains("curl"));
        }
        let (status, _) = ask(from, "GET", "/v1/services", "").await;
        assert_eq!(status, 200, "to look changes nothing");
    }
    assert_eq!(before, server.shown().await);
    for from in ["origin: http://localhost:4040", "sec-fetch-site: same-origin", "x: y"] {
        let (status, response) = ask(from, "POST", "/v1/apply", &apply).await;
        assert_eq!(status, 200, "{from}: {response}");
    }
    server.stop().await.unwrap();
}

/// A page of another site can make a browser resolve the name of its site to the server's address.
#[tokio::test]
async fn requests_to_unknown_host_names_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    let ask = async |host: &str, method: &str| {
        let request = format!(
            "{method} /v1/services HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\n\
             connection: close\r\n\r\n"
        );
        let (status, _, response) = server.raw(request.as_bytes()).await;
        (status, response)
    };
    for host in ["evil.example", "evil.example:4040", "localhost.evil.example"] {
        for method in ["GET", "POST", "DELETE"] {
            let (status, response) = ask(host, method).await;
            let error: api::ErrorBody = serde_json::from_str(&response).unwrap();
            assert_eq!((status, error.code), (421, ErrorCode::WrongHost), "{method} {host}");
            let name = host.trim_end_matches(":4040");
            assert!(error.hint.unwrap().contains(&format!("--host-name {name}")));
        }
    }
    for host in ["localhost:4040", "127.0.0.1", "[::1]:4040", "192.0.2.7", "n1", "muster.example"] {
        assert_eq!(ask(host, "GET").await.0, 200, "{host}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn errors_of_documents_have_positions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let text = "service: /a\nprocess: { command: [run] }\ninstnces: 3\n";
    let wrong = refused(server.apply_as("shop.yaml", text, false).await);
    assert_eq!(wrong.code, ErrorCode::Invalid);
    let detail = &wrong.details[0];
    assert_eq!(detail.source.as_deref(), Some("shop.yaml"));
    assert_eq!((detail.line, detail.column), (Some(3), Some(1)));
    assert!(detail.message.contains("instances"), "{}", detail.message);

    // Problems that only the state reveals are located as well, in a dry run and when applying.
    let text = format!("{}---\n{}depends_on: [/b]\n", service("/a", 1), service("/c", 1));
    for plan in [true, false] {
        let wrong = refused(server.apply_as("shop.yaml", &text, plan).await);
        assert_eq!(wrong.code, ErrorCode::Invalid);
        let detail = &wrong.details[0];
        assert_eq!((detail.line, detail.key.as_deref()), (Some(12), Some("depends_on")));
    }
    let services: Vec<ServiceView> = server.client.get(path::SERVICES).await.unwrap();
    assert!(services.is_empty(), "all or nothing");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_oversized_body_is_rejected_with_a_response() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let text = "#".repeat(17 << 20);
    let refused = refused(server.apply(&text).await);
    assert_eq!(refused.code, ErrorCode::TooLarge, "{}", refused.message);
    assert!(refused.message.contains("16 MiB"), "{}", refused.message);
    server.client.get::<Health>(path::HEALTH).await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_changes_fit_into_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    let documents: Vec<_> = (0..2_000).map(|i| service(&format!("/s{i}"), 0)).collect();
    let applied = soon(server.apply(&documents.join("---\n"))).await.unwrap();
    assert_eq!(applied.changes.len(), 2_000);
    assert!(applied.changes.iter().all(|change| change.verdict == ChangeKind::Created));

    let scaled = (0..1_000).map(|i| {
        let client = server.client.clone();
        let body = json!({"service": format!("/s{i}"), "instances": 1});
        tokio::spawn(async move { client.post::<ApplyReply>(path::SCALE, &body).await })
    });
    let scaled: Vec<_> = scaled.collect();
    for scaled in scaled {
        soon(scaled).await.unwrap().unwrap();
    }
    let all: Vec<ServiceView> = server.client.get(path::SERVICES).await.unwrap();
    assert_eq!(all.iter().filter(|service| service.instances == 1).count(), 1_000);
    server.stop().await.unwrap();

    let store = store::Embedded::open(dir.path()).unwrap();
    let page = store::Store::range(&store, "", None, 1).await.unwrap();
    assert!(page.revision.0 < 700, "{} commits for 1,000 requests", page.revision.0);
}
