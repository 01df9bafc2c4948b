//! Apps that a server of the first version (0.1.0) stored go on with a server of this version.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

extern crate server as muster_server;

#[path = "../../../crates/server/tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use api::{Assignments, path};
use model::{ScaleDown, Software};
use muster_adapter_marathon::Marathon;
use serde_json::{Value, json};
use server::adapter::{Adapter, Adapters};
use support::{Server, soon};

fn fixture(name: &str) -> PathBuf {
    let fixtures = "../../crates/server/tests/fixtures/first-version";
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(fixtures).join(name)
}

fn read(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

/// A server on a state of the first version, and its directory.
async fn start() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture("state.db"), dir.path().join("state.db")).unwrap();
    let marathon: Arc<dyn Adapter> = Arc::new(Marathon::default());
    let adapters = Adapters::new([(marathon, Vec::new())]).unwrap();
    (Server::start_once(dir.path(), adapters).await, dir)
}

/// The first assignments of an agent that has registered.
async fn assignments(server: &Server, registration: &Value) -> Value {
    let _: Value = server.client.post(path::REGISTER, registration).await.unwrap();
    let report = path::with(path::NODE_REPORT, "n1");
    let _: Value = server.client.post(&report, &read("report.json")).await.unwrap();
    let stream = path::with(path::NODE_ASSIGNMENTS, "n1");
    let mut lines = server.client.follow(&stream).await.unwrap();
    soon(lines.next_document()).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_agent_of_the_first_version_gets_the_variables_that_it_got_before() {
    let (server, _dir) = start().await;
    let now = assignments(&server, &read("registration.json")).await;
    let variables = |assignments: &Value| -> Vec<(Value, Value)> {
        let set = assignments["set"].as_array().unwrap().iter();
        set.map(|one| (one["env"].clone(), one["spec"]["env"].clone())).collect()
    };
    assert_eq!(variables(&now), variables(&read("assignments.json")));
    let now: Assignments = serde_json::from_value(now).unwrap();
    let mut before: Assignments = serde_json::from_value(read("assignments.json")).unwrap();
    for assignment in &mut before.set {
        // Keys of servers that such an agent is not sent.
        let spec = Arc::make_mut(&mut assignment.spec);
        (spec.rollout, spec.scale_down) = (model::Rollout::default(), ScaleDown::default());
    }
    assert_eq!(now.set, before.set);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_stored_app_gets_its_variables_and_does_not_restart() {
    let (server, _dir) = start().await;
    let mut registration = read("registration.json");
    registration["agent"]["software"] = json!(Software::current());
    let now = assignments(&server, &registration).await;
    let app = &now["set"][0];
    assert_eq!((&app["instance"], &app["goal"]), (&json!("/m/app~0.1"), &json!("run")));
    assert_eq!(app["env"], Value::Null);
    assert_eq!(app["spec"]["env"]["MESOS_SANDBOX"], json!({ "template": "${dir}" }));
    assert_eq!(app["spec"]["env"]["A"], "b");
    // The stored app and its translation are the same: an equal app changes nothing.
    let (status, _, before) = server.send_as("GET", "/v2/apps//m/app", "").await;
    assert_eq!(status, 200, "{before}");
    let (status, _, body) =
        server.send_as("PUT", "/v2/apps//m/app", r#"{"env": {"A": "b"}}"#).await;
    assert_eq!(status, 200, "{body}");
    let (_, _, after) = server.send_as("GET", "/v2/apps//m/app", "").await;
    assert_eq!(before, after);
    server.stop().await.unwrap();
}
