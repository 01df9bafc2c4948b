//! The smaller endpoints of Marathon's API: what waits, who the server is, what there is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use model::{InstanceId, Status};
use serde_json::{Value, json};
use support::{Server, ready, refused, soon};

/// What is answered to a request with a body, as JSON; null if there is none.
async fn asked(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, _, body) = server.send_as(method, path, body).await;
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

/// The tasks of `/web`, once they are in these states: what was reported is shown when what follows
/// from it is durable.
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
async fn an_unhealthy_task_is_killed_before_the_next_one_is_launched_unless_a_label_asks_otherwise()
{
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    let report = async |status: Status| {
        let id: InstanceId = "/web~0.1".parse().unwrap();
        server.report("n1", true, vec![(id, status)]).await.unwrap();
    };
    let app = r#"{"id": "/web", "cmd": "run", "cpus": 0.1, "healthChecks": [{}]}"#;
    assert_eq!(asked(&server, "POST", "/v2/apps", app).await.0, 201);
    let (well, ill) = (ready(), ready());
    report(Status { healthy: Some(true), ..well }).await;
    report(Status { healthy: Some(false), ..ill.clone() }).await;
    let killed = tasks(&server, &["TASK_KILLING"]).await;
    report(Status { phase: model::Phase::Stopped, ..ill }).await;
    assert_ne!(tasks(&server, &["TASK_STAGING"]).await, killed);

    let label = r#"{"labels": {"MUSTER_REPLACE_FIRST": "true"}}"#;
    assert_eq!(asked(&server, "PUT", "/v2/apps//web?force=true", label).await.0, 200);
    let id: InstanceId = "/web~0.2".parse().unwrap();
    let ill = Status { healthy: Some(false), ..ready() };
    server.report("n1", true, vec![(id, ill)]).await.unwrap();
    tasks(&server, &["TASK_RUNNING", "TASK_STAGING"]).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_says_who_it_is_and_what_there_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let address = server.address.to_string();
    let info = get(&server, "/v2/info").await;
    assert_eq!((&info["name"], &info["version"]), (&json!("marathon"), &json!("1.9.109")));
    assert_eq!((&info["elected"], &info["leader"]), (&json!(true), &json!(address)));
    for key in ["frameworkId", "marathon_config", "zookeeper_config", "http_config", "buildref"] {
        assert!(info.get(key).is_some(), "{key}");
    }
    assert_eq!(get(&server, "/v2/leader").await, json!({ "leader": address }));
    assert_eq!(get(&server, "/v2/plugins").await, json!({ "plugins": [] }));
    let metrics = get(&server, "/metrics").await;
    assert_eq!(metrics["gauges"]["marathon.apps.active.gauge"]["value"], 0);

    assert_eq!(asked(&server, "HEAD", "/v2/pods", "").await.0, 200);
    assert_eq!(get(&server, "/v2/pods").await, json!([]));
    assert_eq!(get(&server, "/v2/pods/::status").await, json!([]));
    let (status, said) = asked(&server, "POST", "/v2/pods", r#"{"id": "/pod"}"#).await;
    assert!(status == 422 && said["message"].as_str().unwrap().contains("pods"), "{said}");
    for path in ["/v2/eventSubscriptions", "/v2/pods/pod", "/help", "/logging", "/config"] {
        let (status, said) = asked(&server, "GET", path, "").await;
        assert!(status == 404 && said["message"].is_string(), "{path}: {said}");
    }
    server.stop().await.unwrap();
}

/// What the service `/web` depends on, natively.
async fn depends_on(server: &Server) -> Value {
    let (_, _, body) = server.ask("GET", "/v1/services/web").await;
    let service: Value = serde_json::from_str(&body).unwrap();
    service["spec"]["depends_on"].clone()
}

#[tokio::test]
async fn what_an_app_depends_on_need_not_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let web = r#"{"id": "/web", "cmd": "run", "instances": 0, "dependencies": ["/db", "/none"]}"#;
    assert_eq!(asked(&server, "POST", "/v2/apps", web).await.0, 201);
    let shown = async || get(&server, "/v2/apps//web").await["app"]["dependencies"].take();
    assert_eq!(shown().await, json!(["/db", "/none"]));
    assert_eq!(depends_on(&server).await, Value::Null);

    let db = r#"{"id": "/db", "cmd": "run", "instances": 0}"#;
    assert_eq!(asked(&server, "POST", "/v2/apps", db).await.0, 201);
    let change = r#"{"labels": {"changed": "yes"}}"#;
    assert_eq!(asked(&server, "PUT", "/v2/apps//web?force=true", change).await.0, 200);
    assert_eq!(depends_on(&server).await, json!(["/db"]));

    assert_eq!(asked(&server, "DELETE", "/v2/apps//db", "").await.0, 200);
    assert_eq!((shown().await, depends_on(&server).await), (json!(["/db", "/none"]), Value::Null));

    // What is described natively depends on what there is, and keeps it.
    let native = "service: /native\nprocess: { command: [run] }\ndepends_on: [/none]\n";
    let body = refused(server.apply(native).await);
    assert!(format!("{body:?}").contains("/none"), "{body:?}");
    server.apply(&native.replace("/none", "/web")).await.unwrap();
    let (status, said) = asked(&server, "DELETE", "/v2/apps//web", "").await;
    assert!(status == 422 && said.to_string().contains("/native"), "{status} {said}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_app_of_a_file_is_shown_as_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
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

/// The epochs of the server, by what it has told.
async fn epochs(server: &Server) -> Vec<u32> {
    let (_, _, told) = server.ask("GET", "/v1/events").await;
    let led = told.split("it leads, epoch ").skip(1);
    led.map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn the_lead_is_taken_anew_and_nobody_has_to_notice() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    let app = r#"{"id": "/web", "cmd": "run", "cpus": 0.1}"#;
    assert_eq!(asked(&server, "POST", "/v2/apps", app).await.0, 201);
    let before = server.shown().await;
    for name in ["backup", "restore"] {
        let path = format!("/v2/leader?{name}=file:///tmp/state");
        let (status, said) = asked(&server, "DELETE", &path, "").await;
        assert!(status == 422 && said["message"].as_str().unwrap().contains(name), "{said}");
    }
    let leader = get(&server, "/v2/leader").await;
    let (status, said) = asked(&server, "DELETE", "/v2/leader", "").await;
    assert_eq!((status, said), (200, json!({ "message": "Leadership abdicated" })));
    assert_eq!(get(&server, "/v2/leader").await, leader);
    assert_eq!(server.shown().await, before);
    assert_eq!(epochs(&server).await, [1, 2]);
    server.kill().await;
    let server = Server::start(dir.path()).await;
    assert_eq!(epochs(&server).await, [1, 2, 3], "what was answered is durable");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_ping_is_answered_as_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    for (accept, status, pong) in [
        ("*/*", 200, "pong"),
        ("text/plain", 200, "pong"),
        ("application/json", 200, "\"pong\""),
        ("image/png", 204, ""),
    ] {
        let request = format!(
            "GET /ping HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        );
        let (got, _, body) = server.raw(request.as_bytes()).await;
        assert_eq!((got, body.as_str()), (status, pong), "{accept}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_tools_beside_marathon_find_nodes_and_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    let app = r#"{"id": "/shop/web", "cmd": "run", "cpus": 0.1}"#;
    assert_eq!(asked(&server, "POST", "/v2/apps", app).await.0, 201);
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
        // Nobody listens where the agent says it does: that is told, and not that there is no file.
        let path = format!("/slave/n1/files/read.json?path={file}/stdout&offset=-1&length=0");
        assert_eq!(asked(&server, "GET", &path, "").await.0, 502);
        let path = format!("/slave/n1/files/read.json?path={file}/other&offset=0&length=9");
        assert_eq!(asked(&server, "GET", &path, "").await.0, 404);
    }
    assert_eq!(asked(&server, "GET", "/slave/n2/state.json", "").await.0, 404);
    let hosts = get(&server, "/mesos_dns/v1/hosts/master.mesos").await;
    assert_eq!(hosts, json!([{ "host": "master.mesos.", "ip": "127.0.0.1" }]));
    assert!(get(&server, "/capabilities").await["capabilities"].is_array());
    let version = get(&server, "/dcos-metadata/dcos-version.json").await;
    assert_eq!(keys(&version), ["bootstrap-id", "dcos-image-commit", "version"]);
    server.stop().await.unwrap();
}
