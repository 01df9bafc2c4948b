//! The smaller endpoints of Marathon's API: queue, server information, and unsupported features.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

extern crate server as muster_server;

#[path = "../../../crates/server/tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;

use model::{InstanceId, Status};
use muster_adapter_marathon::Marathon;
use serde_json::{Value, json};
use server::adapter::{Adapter, Adapters, Mount};
use support::{Server, ready, refused, soon};

/// A server with the adapter.
async fn start(data_dir: &Path) -> Server {
    let adapters = || {
        let marathon: Arc<dyn Adapter> = Arc::new(Marathon::default());
        Adapters::new([(marathon, Vec::new())]).unwrap()
    };
    Server::start_with(data_dir, adapters).await
}

/// Sends a request with a body. Returns the response as JSON, or null if it has no body.
async fn send(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, _, body) = server.send_as(method, path, body).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

async fn get(server: &Server, path: &str) -> Value {
    let (status, body) = send(server, "GET", path, "").await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_queue_shows_waiting_apps_and_resets_their_delay() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    server.register("n1").await.unwrap();
    let app = r#"{"id": "/shop/web", "cmd": "run", "cpus": 9999, "instances": 2}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", app).await.0, 201);
    let queue = get(&server, "/v2/queue").await["queue"].clone();
    assert_eq!(keys(&queue[0]), ["app", "count", "delay", "processedOffersSummary", "since"]);
    assert_eq!((&queue[0]["app"]["id"], &queue[0]["count"]), (&json!("/shop/web"), &json!(2)));
    let path = "/service/marathon/v2/queue?embed=lastUnusedOffers&embed=waits";
    let queue = get(&server, path).await["queue"].clone();
    assert_eq!(queue[0]["lastUnusedOffers"][0]["reason"][0], "InsufficientCpus");
    assert_eq!(queue[0]["waits"][0], "no node of 1 can take it; n1: cpu: 9999 needed, 100 free");
    assert_eq!(send(&server, "DELETE", "/v2/queue//shop/web/delay", "").await.0, 204);
    let (status, refused) = send(&server, "DELETE", "/v2/queue/none/delay", "").await;
    let message = "Application /none not found in tasks queue.";
    assert_eq!((status, &refused["message"]), (404, &json!(message)));
    server.stop().await.unwrap();
}

/// Waits until the tasks of `/web` have these states. A reported status is shown once its
/// consequences are durable.
async fn tasks(server: &Server, states: &[&str]) -> Vec<String> {
    let until = async {
        loop {
            let tasks = get(server, "/v2/apps//web/tasks").await["tasks"].take();
            let texts = |key: &str| {
                let tasks = tasks.as_array().unwrap().iter();
                tasks.map(|task| task[key].as_str().unwrap().to_string()).collect::<Vec<_>>()
            };
            if texts("state") == states {
                return texts("id");
            }
        }
    };
    soon(until).await
}

#[tokio::test]
async fn an_unhealthy_task_is_killed_before_its_replacement_starts_unless_labelled() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    server.register("n1").await.unwrap();
    let report = async |status: Status| {
        let id: InstanceId = "/web~0.1".parse().unwrap();
        server.report("n1", true, vec![(id, status)]).await.unwrap();
    };
    let app = r#"{"id": "/web", "cmd": "run", "cpus": 0.1, "healthChecks": [{}]}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", app).await.0, 201);
    let (well, ill) = (ready(), ready());
    report(Status { healthy: Some(true), ..well }).await;
    report(Status { healthy: Some(false), ..ill.clone() }).await;
    let killed = tasks(&server, &["TASK_KILLING"]).await;
    report(Status { phase: model::Phase::Stopped, ..ill }).await;
    assert_ne!(tasks(&server, &["TASK_STAGING"]).await, killed);

    let label = r#"{"labels": {"MUSTER_REPLACE_FIRST": "true"}}"#;
    assert_eq!(send(&server, "PUT", "/v2/apps//web?force=true", label).await.0, 200);
    let id: InstanceId = "/web~0.2".parse().unwrap();
    let ill = Status { healthy: Some(false), ..ready() };
    server.report("n1", true, vec![(id, ill)]).await.unwrap();
    tasks(&server, &["TASK_RUNNING", "TASK_STAGING"]).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn info_endpoints_identify_the_server_and_reject_unsupported_ones() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let address = server.address.to_string();
    let info = get(&server, "/v2/info").await;
    assert_eq!((&info["name"], &info["version"]), (&json!("marathon"), &json!("1.9.109")));
    assert_eq!((&info["elected"], &info["leader"]), (&json!(true), &json!(address)));
    for key in ["frameworkId", "marathon_config", "zookeeper_config", "http_config", "buildref"] {
        assert!(info.get(key).is_some(), "{key}");
    }
    assert_eq!(get(&server, "/v2/leader").await, json!({ "leader": address }));
    assert_eq!(get(&server, "/v2/plugins").await, json!({ "plugins": [] }));
    let metrics = get(&server, "/service/marathon/metrics").await;
    assert_eq!(metrics["gauges"]["marathon.apps.active.gauge"]["value"], 0);

    assert_eq!(send(&server, "HEAD", "/v2/pods", "").await.0, 200);
    assert_eq!(get(&server, "/v2/pods").await, json!([]));
    assert_eq!(get(&server, "/v2/pods/::status").await, json!([]));
    let (status, reply) = send(&server, "POST", "/v2/pods", r#"{"id": "/pod"}"#).await;
    assert!(status == 422 && reply["message"].as_str().unwrap().contains("pods"), "{reply}");
    for path in ["/v2/eventSubscriptions", "/v2/pods/pod", "/help", "/logging", "/config"] {
        let (status, reply) = send(&server, "GET", path, "").await;
        assert!(status == 404 && reply["message"].is_string(), "{path}: {reply}");
    }
    server.stop().await.unwrap();
}

/// The dependencies of the service `/web`, from the native API.
async fn depends_on(server: &Server) -> Value {
    let (_, _, body) = server.request("GET", "/v1/services/web").await;
    let service: Value = serde_json::from_str(&body).unwrap();
    service["spec"]["depends_on"].clone()
}

#[tokio::test]
async fn an_app_may_depend_on_an_app_that_does_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let web = r#"{"id": "/web", "cmd": "run", "instances": 0, "dependencies": ["/db", "/none"]}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", web).await.0, 201);
    let shown = async || get(&server, "/v2/apps//web").await["app"]["dependencies"].take();
    assert_eq!(shown().await, json!(["/db", "/none"]));
    assert_eq!(depends_on(&server).await, Value::Null);

    let db = r#"{"id": "/db", "cmd": "run", "instances": 0}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", db).await.0, 201);
    let change = r#"{"labels": {"changed": "yes"}}"#;
    assert_eq!(send(&server, "PUT", "/v2/apps//web?force=true", change).await.0, 200);
    assert_eq!(depends_on(&server).await, json!(["/db"]));

    // A removed app does not change the apps that depended on it: they are not moved or stopped
    // first.
    let version = async || get(&server, "/v2/apps//web").await["app"]["version"].take();
    let before = version().await;
    let (status, reply) = send(&server, "DELETE", "/v2/apps//db?force=false", "").await;
    assert_eq!(status, 200, "{reply}");
    let plan = reply["deploymentId"].as_str().unwrap().to_string();
    let gone = async {
        while !get(&server, "/v2/deployments").await.as_array().unwrap().is_empty() {
            let shown = get(&server, "/v2/deployments").await;
            assert!(shown.as_array().unwrap().iter().all(|one| one["id"] == *plan), "{shown}");
        }
    };
    soon(gone).await;
    assert_eq!((shown().await, version().await), (json!(["/db", "/none"]), before));

    // A native service may depend only on existing services, and prevents their removal.
    let native = "service: /native\nprocess: { command: [run] }\ndepends_on: [/none]\n";
    let body = refused(server.apply(native).await);
    assert!(format!("{body:?}").contains("/none"), "{body:?}");
    server.apply(&native.replace("/none", "/web")).await.unwrap();
    let (status, reply) = send(&server, "DELETE", "/v2/apps//web", "").await;
    assert!(status == 422 && reply.to_string().contains("/native"), "{status} {reply}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_app_applied_from_a_file_is_shown_with_its_document() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let text = r#"{"id": "/web", "cmd": "run", "instances": 0, "executor": "//cmd",
        "portDefinitions": [{"port": 0, "name": "web", "labels": {"a": "b"}}],
        "networks": [{"mode": "host"}], "unreachableStrategy": "disabled"}"#;
    let first = server.apply_as("web.json", text, false).await.unwrap();
    assert_eq!(first.changes[0].revision, Some(1));
    let shown = get(&server, "/v2/apps//web").await["app"].take();
    let port = json!([{ "port": 10_000, "protocol": "tcp", "name": "web", "labels": {"a": "b"} }]);
    assert_eq!(shown["portDefinitions"], port);
    assert_eq!(
        (&shown["executor"], &shown["unreachableStrategy"]),
        (&json!("//cmd"), &json!("disabled"))
    );
    let again = server.apply_as("web.json", text, false).await.unwrap();
    assert_eq!(again.changes[0].revision, Some(1), "nothing has changed");
    let other = text.replace("/web", "/other");
    server.apply_as("other.json", &other, false).await.unwrap();
    let shown = get(&server, "/v2/apps//other").await["app"]["portDefinitions"][0]["port"].take();
    assert_eq!(shown, 10_001);
    server.stop().await.unwrap();
}

/// The epochs of the server, from its events.
async fn epochs(server: &Server) -> Vec<u32> {
    let (_, _, events) = server.request("GET", "/v1/events").await;
    let led = events.split("became leader, epoch ").skip(1);
    led.map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn abdication_starts_a_new_epoch_and_changes_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    server.register("n1").await.unwrap();
    let app = r#"{"id": "/web", "cmd": "run", "cpus": 0.1}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", app).await.0, 201);
    let before = server.shown().await;
    for name in ["backup", "restore"] {
        let path = format!("/v2/leader?{name}=file:///tmp/state");
        let (status, reply) = send(&server, "DELETE", &path, "").await;
        assert!(status == 422 && reply["message"].as_str().unwrap().contains(name), "{reply}");
    }
    let leader = get(&server, "/v2/leader").await;
    let (status, reply) = send(&server, "DELETE", "/v2/leader", "").await;
    assert_eq!((status, reply), (200, json!({ "message": "Leadership abdicated" })));
    assert_eq!(get(&server, "/v2/leader").await, leader);
    assert_eq!(server.shown().await, before);
    assert_eq!(epochs(&server).await, [1, 2]);
    server.kill().await;
    let server = start(dir.path()).await;
    assert_eq!(epochs(&server).await, [1, 2, 3], "what was answered is durable");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_ping_is_answered_in_the_accepted_media_type() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    for (accept, status, pong) in [
        ("*/*", 200, "pong"),
        ("text/plain", 200, "pong"),
        ("application/json", 200, "\"pong\""),
        ("image/png", 204, ""),
    ] {
        let request = format!(
            "GET /ping HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        );
        let (got, _, body) = server.raw(request.as_bytes()).await;
        assert_eq!((got, body.as_str()), (status, pong), "{accept}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn mesos_endpoints_show_nodes_and_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    server.register("n1").await.unwrap();
    let app = r#"{"id": "/shop/web", "cmd": "run", "cpus": 0.1}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", app).await.0, 201);
    for path in ["/mesos/master/state.json", "/mesos/master/state", "/mesos/state-summary"] {
        let state = get(&server, path).await;
        assert_eq!(state["slaves"][0]["id"], "n1", "{path}");
        assert_eq!(state["frameworks"][0]["tasks"][0]["name"], "web.shop", "{path}");
    }
    assert_eq!(get(&server, "/mesos/slaves").await["slaves"][0]["hostname"], "127.0.0.1");
    for path in ["/slave/n1/state.json", "/agent/n1/state"] {
        let state = get(&server, path).await;
        let executor = &state["frameworks"][0]["executors"][0];
        assert_eq!(executor["tasks"][0]["slave_id"], "n1", "{path}");
        let file = executor["directory"].as_str().unwrap();
        // The agent is unreachable at its address, so the response is not that for a missing file.
        let path = format!("/slave/n1/files/read.json?path={file}/stdout&offset=-1&length=0");
        assert_eq!(send(&server, "GET", &path, "").await.0, 502);
        let path = format!("/slave/n1/files/read.json?path={file}/other&offset=0&length=9");
        assert_eq!(send(&server, "GET", &path, "").await.0, 404);
    }
    assert_eq!(send(&server, "GET", "/slave/n2/state.json", "").await.0, 404);
    let hosts = get(&server, "/mesos_dns/v1/hosts/master.mesos").await;
    assert_eq!(hosts, json!([{ "host": "master.mesos.", "ip": "127.0.0.1" }]));
    assert!(get(&server, "/capabilities").await["capabilities"].is_array());
    let version = get(&server, "/dcos-metadata/dcos-version.json").await;
    assert_eq!(keys(&version), ["bootstrap-id", "dcos-image-commit", "version"]);
    server.stop().await.unwrap();
}

/// The number of instances and the command of an app.
async fn aim(server: &Server, id: &str) -> (Value, Value) {
    let mut app = get(server, &format!("/v2/apps/{id}")).await["app"].take();
    (app["instances"].take(), app["cmd"].take())
}

#[tokio::test]
async fn deleting_a_deployment_returns_to_the_previous_document() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    // There is no node, so that deployments do not complete.
    let app = r#"{"id": "/web", "cmd": "first", "instances": 1}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", app).await.0, 201);
    let put = async |change: &str| {
        let (status, reply) = send(&server, "PUT", "/v2/apps//web?force=true", change).await;
        assert_eq!(status, 200, "{reply}");
        reply["deploymentId"].as_str().unwrap().to_string()
    };
    put(r#"{"cmd": "second"}"#).await;
    let third = put(r#"{"instances": 3}"#).await;
    let shown = get(&server, "/v2/deployments").await;
    assert_eq!(shown[0]["steps"][0]["actions"][0]["action"], "ScaleApplication", "{shown}");
    let (status, reply) = send(&server, "DELETE", &format!("/v2/deployments/{third}"), "").await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(aim(&server, "/web").await, (json!(1), json!("second")));

    // A cancelled deployment keeps the new target, and does not succeed.
    let last = put(r#"{"instances": 2}"#).await;
    let path = format!("/v2/deployments/{last}?force=true");
    assert_eq!(send(&server, "DELETE", &path, "").await.0, 202);
    assert_eq!(aim(&server, "/web").await, (json!(2), json!("second")));
    assert_eq!(get(&server, "/v2/deployments").await, json!([]));

    // The new app is removed.
    let new = r#"{"id": "/new", "cmd": "run"}"#;
    let (_, made) = send(&server, "POST", "/v2/apps", new).await;
    let made = made["deployments"][0]["id"].as_str().unwrap();
    assert_eq!(send(&server, "DELETE", &format!("/v2/deployments/{made}"), "").await.0, 200);
    assert_eq!(send(&server, "GET", "/v2/apps//new", "").await.0, 404);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn version_info_distinguishes_scaling_from_other_changes() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let app = r#"{"id": "/web", "cmd": "first", "instances": 0}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", app).await.0, 201);
    let change = async |change: &str| {
        let (status, reply) = send(&server, "PUT", "/v2/apps//web?force=true", change).await;
        assert_eq!(status, 200, "{reply}");
        let info = get(&server, "/v2/apps//web").await["app"].take();
        let at = info["version"].clone();
        assert_eq!((&reply["version"], &info["versionInfo"]["lastScalingAt"]), (&at, &at));
        let configured = info["versionInfo"]["lastConfigChangeAt"].clone();
        let plans = get(&server, "/v2/deployments").await;
        (configured == at, plans.pointer("/0/steps/0/actions/0/action").cloned())
    };
    let first = get(&server, "/v2/apps//web").await["app"]["version"].take();
    let (scale, restart) = (Some(json!("ScaleApplication")), Some(json!("RestartApplication")));
    assert_eq!(change(r#"{"instances": 2}"#).await, (false, scale.clone()));
    assert_eq!(change(r#"{"instances": 1}"#).await, (false, scale));
    assert_eq!(change(r#"{"backoffSeconds": 5}"#).await, (true, restart.clone()));
    let labelled = r#"{"labels": {"a": "b"}, "instances": 3}"#;
    assert_eq!(change(labelled).await, (true, restart.clone()));
    let back = json!({ "version": first }).to_string();
    assert!(change(&back).await.0, "what goes back is a change of today");
    server.stop().await.unwrap();
}

/// `PUT`s a group with these apps, each with its command; returns the version.
async fn put_group(server: &Server, apps: &[(&str, &str)]) -> String {
    let apps: Vec<_> =
        apps.iter().map(|(id, cmd)| json!({ "id": id, "cmd": cmd, "instances": 0 })).collect();
    change_group(server, json!({ "id": "/shop", "apps": apps })).await
}

async fn change_group(server: &Server, body: Value) -> String {
    let path = "/v2/groups//shop?force=true";
    let (status, reply) = send(server, "PUT", path, &body.to_string()).await;
    assert_eq!(status, 200, "{reply}");
    reply["version"].as_str().unwrap().to_string()
}

/// The commands of the apps in a group as the API shows it.
fn commands(group: &Value) -> Vec<(&str, &str)> {
    let apps = group["apps"].as_array().unwrap().iter();
    apps.map(|app| (app["id"].as_str().unwrap(), app["cmd"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_rollback_of_a_group_restores_removed_apps() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path()).await;
    let first = put_group(&server, &[("db", "pg"), ("web", "first")]).await;
    let second = put_group(&server, &[("web", "second")]).await;
    let third = put_group(&server, &[("api", "third"), ("web", "second")]).await;
    assert_eq!(send(&server, "DELETE", "/v2/apps//shop/api?force=true", "").await.0, 200);
    server.stop().await.unwrap();
    server = start(dir.path()).await;
    let group = get(&server, "/v2/groups//shop").await;
    assert_eq!(commands(&group), [("/shop/web", "second")]);
    let versions = get(&server, "/v2/groups//shop/versions").await;
    for (version, apps) in [
        (&third, &[("/shop/api", "third"), ("/shop/web", "second")][..]),
        (&first, &[("/shop/db", "pg"), ("/shop/web", "first")]),
        (&second, &[("/shop/web", "second")]),
    ] {
        assert!(versions.as_array().unwrap().contains(&json!(version)), "{version}: {versions}");
        let then = get(&server, &format!("/v2/groups//shop/versions/{version}")).await;
        assert_eq!(commands(&then), apps);
        change_group(&server, json!({ "version": version })).await;
        assert_eq!(commands(&get(&server, "/v2/groups//shop").await), apps, "back at {version}");
    }
    server.stop().await.unwrap();
}

/// The group above describes what a subgroup contained.
#[tokio::test]
async fn a_rollback_restores_a_removed_subgroup() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let app = json!({ "id": "pg", "cmd": "pg", "instances": 0 });
    let whole = json!({ "id": "/shop", "groups": [{ "id": "db", "apps": [app] }] });
    let first = change_group(&server, whole).await;
    change_group(&server, json!({ "id": "/shop", "groups": [] })).await;
    assert_eq!(send(&server, "GET", "/v2/groups//shop/db", "").await.0, 404);
    change_group(&server, json!({ "version": first })).await;
    assert_eq!(commands(&get(&server, "/v2/groups//shop/db").await), [("/shop/db/pg", "pg")]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn no_app_has_a_path_within_another_app() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let app = |id: &str| json!({ "id": id, "cmd": "run", "instances": 0 });
    let post = async |path: &str, body: Value| send(&server, "POST", path, &body.to_string()).await;
    assert_eq!(post("/v2/apps", app("/shop/web")).await.0, 201);
    let what = "Groups and Applications may not have the same identifier:";
    for (path, body, which) in [
        ("/v2/apps", app("/shop/web/sub"), "/shop/web"),
        ("/v2/apps", app("/shop"), "/shop"),
        (
            "/v2/groups",
            json!({ "id": "/a", "apps": [app("x")],
                "groups": [{ "id": "x", "apps": [app("y")] }] }),
            "/a/x",
        ),
    ] {
        let (status, reply) = post(path, body).await;
        let error = &reply["details"][0]["errors"][0];
        assert_eq!((status, error), (422, &json!(format!("{what} {which}"))), "{reply}");
    }
    for id in ["/../../etc", "/shop/../../x", "../x"] {
        let (status, reply) = post("/v2/apps", app(id)).await;
        assert_eq!((status, &reply["details"][0]["path"]), (422, &json!("/id")), "{id}: {reply}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn terminated_tasks_are_ignored_when_killing() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    server.register("n1").await.unwrap();
    let app = r#"{"id": "/web", "cmd": "run", "instances": 1}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", app).await.0, 201);
    let task = tasks(&server, &["TASK_STAGING"]).await.remove(0);
    let dead = task.replace("instance-00000000", "instance-00000009");
    let kill = async |query: &str, ids: &[&str]| {
        let body = json!({ "ids": ids }).to_string();
        send(&server, "POST", &format!("/v2/tasks/delete?{query}"), &body).await
    };
    let (status, reply) = kill("scale=true&force=true", &[&dead]).await;
    assert!(status == 200 && reply["deploymentId"].is_string(), "{reply}");
    assert_eq!(kill("scale=true", &[]).await.0, 200);
    assert_eq!(kill("scale=true&wipe=true", &[&dead]).await.0, 400);
    let unknown = dead.replace("web.", "none.");
    let (status, reply) = kill("scale=true", &[&unknown]).await;
    assert_eq!((status, &reply["message"]), (404, &json!("App '/none' does not exist")));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn head_requests_and_invalid_paths_get_the_responses_of_marathon() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    for path in ["/v2/apps", "/v2/info", "/service/marathon/v2/groups", "/ping"] {
        let (status, _, body) = server.request("HEAD", path).await;
        assert_eq!((status, body.as_str()), (200, ""), "{path}");
    }
    let (status, reply) = send(&server, "GET", "/v2/apps/%ff", "").await;
    assert_eq!((status, &reply["message"]), (400, &json!("the path is not UTF-8")));
    let (status, reply) = send(&server, "GET", "/v2/apps/none/*", "").await;
    assert_eq!((status, &reply["message"]), (404, &json!("Group '/none' does not exist")));
    server.stop().await.unwrap();
}

/// The document of an app in a file.
const BASE: &str = r#"{
    "id": "/zdd/base",
    "cmd": "run",
    "instances": 4,
    "cpus": 0.1,
    "mem": 32,
    "upgradeStrategy": {"minimumHealthCapacity": 0.25, "maximumOverCapacity": 0.25}
}"#;

#[tokio::test]
async fn apps_in_files_are_applied_like_native_documents() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let applied = server.apply_as("base.json", BASE, false).await.unwrap();
    assert_eq!(applied.changes[0].name, "/zdd/base");
    let base: api::ServiceView = server.client.get("/v1/services/zdd/base").await.unwrap();
    assert_eq!(base.spec.rollout.min_healthy.to_string(), "25%");
    let app = get(&server, "/v2/apps//zdd/base").await["app"].clone();
    assert_eq!(app["upgradeStrategy"]["minimumHealthCapacity"], 0.25);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn cross_site_requests_cannot_change_apps() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    for (method, path) in [("POST", "/v2/apps"), ("PUT", "/service/marathon/v2/apps//zdd/base")] {
        let len = BASE.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost:4040\r\norigin: http://evil.example\r\n\
             connection: close\r\ncontent-length: {len}\r\n\r\n{BASE}"
        );
        assert_eq!(server.raw(request.as_bytes()).await.0, 403, "{method} {path}");
    }
    assert_eq!(get(&server, "/v2/apps").await["apps"], json!([]));
    server.stop().await.unwrap();
}

/// A server with the adapter at these mounts only.
async fn start_at(data_dir: &Path, mounts: fn() -> Vec<Mount>) -> Server {
    let marathon: Arc<dyn Adapter> = Arc::new(Marathon::default());
    let adapters = Adapters::new([(marathon, mounts())]).unwrap();
    Server::start_once(data_dir, adapters).await
}

#[tokio::test]
async fn metrics_at_the_root_need_the_media_type_of_the_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let (status, _, body) = server.request("GET", "/metrics").await;
    let error: api::ErrorBody = serde_json::from_str(&body).unwrap();
    let hint = "the adapter `marathon` has it with `Accept: application/json`, or below \
                /service/marathon, or below /marathon";
    assert_eq!((status, error.hint.as_deref()), (404, Some(hint)));
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n\
                   connection: close\r\n\r\n";
    let (status, _, body) = server.raw(request.as_bytes()).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("marathon.apps.active.gauge"), "{body}");
    for prefix in ["/service/marathon", "/marathon"] {
        let metrics = get(&server, &format!("{prefix}/metrics")).await;
        assert_eq!(metrics["version"], "3.0.0");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_dedicated_listener_serves_all_paths_of_the_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let mounts = || vec![Mount::Listener(([127, 0, 0, 1], 0).into())];
    let mut server = start_at(dir.path(), mounts).await;
    assert_eq!(server.request("GET", "/v2/apps").await.0, 404, "nothing is mounted at the root");
    let (name, address) = server.adapters[0];
    assert_eq!(name, "marathon");
    server.address = address;
    for path in ["/v2/apps", "//v2//apps", "/service/marathon/v2/apps"] {
        assert_eq!(get(&server, path).await["apps"], json!([]), "{path}");
    }
    assert!(get(&server, "/metrics").await["gauges"].is_object());
    assert_eq!(get(&server, "/v2/leader").await, json!({ "leader": address.to_string() }));
    let (status, body) = send(&server, "GET", "/v1/services", "").await;
    assert_eq!((status, &body["message"]), (404, &json!("URI not found")));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_prefix_is_configurable() {
    let dir = tempfile::tempdir().unwrap();
    let server = start_at(dir.path(), || vec!["/old/one".parse().unwrap()]).await;
    assert_eq!(get(&server, "/old/one/v2/apps?embed=apps.tasks").await["apps"], json!([]));
    for path in ["/v2/apps", "/marathon/v2/apps", "/old/one/v3"] {
        assert_eq!(server.request("GET", path).await.0, 404, "{path}");
    }
    server.stop().await.unwrap();
}

/// go-marathon derives the app from the id of the task, which on this server has another form.
#[tokio::test]
async fn a_task_is_killed_by_its_id_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    server.register("n1").await.unwrap();
    let app = r#"{"id": "/web", "cmd": "run", "cpus": 0.1}"#;
    assert_eq!(send(&server, "POST", "/v2/apps", app).await.0, 201);
    let task = tasks(&server, &["TASK_STAGING"]).await.remove(0);
    let app = task.rsplit_once('.').unwrap().0.replace('_', "/");
    let (status, killed) =
        send(&server, "DELETE", &format!("/v2/apps/{app}/tasks/{task}"), "").await;
    assert_eq!((status, &killed["task"]["id"]), (200, &json!(task)), "{killed}");
    let other = format!("/v2/apps//other/tasks/{task}");
    assert_eq!(send(&server, "DELETE", &other, "").await.0, 404);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_group_that_does_not_exist_cannot_be_scaled() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let (status, refused) = send(&server, "PUT", "/v2/groups/none", r#"{"scaleBy": 2}"#).await;
    assert_eq!((status, &refused["message"]), (404, &json!("Group '/none' does not exist")));
    server.stop().await.unwrap();
}

/// `dcos package` ends in a traceback if a response has another media type than it asked for.
#[tokio::test]
async fn packages_are_answered_in_the_media_type_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let asked = "application/vnd.dcos.package.list-response+json;charset=utf-8;version=v1";
    let request = format!(
        "POST /package/list HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: {asked}\r\n\
         content-length: 2\r\n\r\n{{}}"
    );
    let (status, head, body) = server.raw(request.as_bytes()).await;
    assert_eq!((status, body.as_str()), (200, r#"{"packages":[]}"#), "{head}");
    assert!(head.contains(&format!("content-type: {asked}")), "{head}");
    let unknown = r#"{"packageName": "kafka"}"#;
    let (status, head, body) = server.send_as("POST", "/package/describe", unknown).await;
    assert!(head.contains("application/vnd.dcos.package.error+json"), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["type"]), (400, &json!("PackageNotFound")));
    let message = body["message"].as_str().unwrap();
    assert!(message.starts_with("Package [kafka] not found") && message.contains("muster apply"));
    server.stop().await.unwrap();
}

/// A client that repeats a request under its id gets the first outcome, not `already exists`.
#[tokio::test]
async fn a_repeated_request_is_executed_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let app = r#"{"id": "/web", "cmd": "run"}"#;
    let request = format!(
        "POST /v2/apps HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nidempotency-key: first\r\n\
         content-length: {}\r\n\r\n{app}",
        app.len()
    );
    let mut deployments = Vec::new();
    for _ in 0..2 {
        let (status, _, body) = server.raw(request.as_bytes()).await;
        assert_eq!(status, 201, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        deployments.push(body["deployments"][0]["id"].clone());
    }
    assert_eq!(deployments[0], deployments[1]);
    assert_eq!(send(&server, "POST", "/v2/apps", app).await.0, 409, "without the id");
    server.stop().await.unwrap();
}
