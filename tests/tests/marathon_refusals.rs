//! Requests that the adapter for Marathon's clients rejects, and the messages: invalid, locked,
//! and hostile ones.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::time::Duration;

use anyhow::Result;
use muster_tests::{Adapter, Daemon, http, wait_for};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn errors_have_the_status_and_the_message_of_marathon() -> Result<()> {
    let adapter = Adapter::open()?;
    let app = adapter.sleeper("/there", 1)?;
    let version = app["version"].as_str().unwrap();
    let good = r#"{"id": "/there", "cmd": "sleep 1000"}"#;
    let old = format!("/v2/apps/there/versions/{version}");
    assert_eq!(adapter.json(&old)?["id"], "/there");
    let too_much = format!(r#"{{"version": "{version}", "mem": 64}}"#);
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", "/v2/apps", "{", 400, "Invalid JSON"),
        ("POST", "/v2/apps", "", 400, "Invalid JSON"),
        ("PUT", "/v2/apps/there", "not json", 400, "Invalid JSON"),
        ("PUT", "/v2/groups/there", "[", 400, "Invalid JSON"),
        ("POST", "/v2/tasks/delete", "{", 400, "Invalid JSON"),
        ("POST", "/v2/apps", r#"{"id": "/a", "cmd": "sleep 1", "cpus": "much"}"#, 422, ""),
        ("POST", "/v2/apps", r#"{"id": "/a", "cmd": "sleep 1", "instances": 1.5}"#, 422, ""),
        ("POST", "/v2/apps", r#"{"id": "/a", "cmd": ["sleep"]}"#, 422, ""),
        ("POST", "/v2/apps", r#"{"cmd": "sleep 1"}"#, 422, ""),
        ("POST", "/v2/apps", "[]", 422, ""),
        (
            "POST",
            "/v2/apps",
            r#"{"id": "/a", "cmd": "sleep 1", "cpus": -1}"#,
            422,
            "Object is not valid",
        ),
        (
            "POST",
            "/v2/apps",
            r#"{"id": "/a", "cmd": "sleep 1", "instances": -1}"#,
            422,
            "Object is not valid",
        ),
        ("POST", "/v2/apps", r#"{"id": "/a"}"#, 422, "Object is not valid"),
        ("POST", "/v2/apps", r#"{"id": "/A", "cmd": "sleep 1"}"#, 422, "Object is not valid"),
        ("POST", "/v2/apps", good, 409, "An app with id [/there] already exists."),
        ("PUT", "/v2/apps/there", &too_much, 422, "may only be combined with the 'id' field."),
        ("PUT", "/v2/apps/there", r#"{"version": "yesterday"}"#, 422, ""),
        ("PUT", "/v2/apps/there", r#"{"version": "2001-01-01T00:00:00.000Z"}"#, 404, ""),
        ("GET", "/v2/apps/none", "", 404, "App '/none' does not exist"),
        ("DELETE", "/v2/apps/none", "", 404, "App '/none' does not exist"),
        ("POST", "/v2/apps/none/restart", "{}", 404, "App '/none' does not exist"),
        ("GET", "/v2/apps/none/tasks", "", 404, "App '/none' does not exist"),
        ("GET", "/v2/apps/none/versions", "", 404, "App '/none' does not exist"),
        ("PATCH", "/v2/apps/none", r#"{"instances": 1}"#, 404, "App '/none' does not exist"),
        (
            "GET",
            "/v2/apps/there/versions/2001-01-01T00:00:00.000Z",
            "",
            404,
            "App '/there' does not exist in version",
        ),
        ("GET", "/v2/apps/there/versions/yesterday", "", 422, ""),
        ("DELETE", "/v2/apps/there/tasks/none", "", 404, "Task 'none' does not exist"),
        ("DELETE", "/v2/apps/there/tasks?scale=true&wipe=true", "", 400, ""),
        ("POST", "/v2/tasks/delete", r#"{"ids": ["none"]}"#, 400, "Invalid task id 'none'"),
        ("GET", "/v2/apps?label=a%20b%20c", "", 422, ""),
        ("GET", "/v2/groups/none", "", 404, "Group '/none' does not exist"),
        (
            "POST",
            "/v2/groups",
            r#"{"id": "/there"}"#,
            409,
            "An app with the path /there already exists.",
        ),
        ("DELETE", "/v2/deployments/none", "", 404, "DeploymentPlan none does not exist"),
        ("DELETE", "/v2/queue/none/delay", "", 404, "Application /none not found in tasks queue."),
        ("GET", "/v2/none", "", 404, "URI not found"),
        ("GET", "/v2", "", 404, "URI not found"),
        ("GET", "/service/marathon/v2/none", "", 404, "URI not found"),
    ];
    let mut wrong = Vec::new();
    for (method, path, body, status, message) in cases {
        let response = adapter.request(method, path, body)?;
        let has_message = response.json().is_ok_and(|json| json["message"].is_string());
        if response.status != *status || !has_message || !response.text().contains(message) {
            wrong.push(format!("{method} {path} {body}: {} {}", response.status, response.text()));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    // An invalid value is named by its path.
    let bad = r#"{"id": "/a", "cmd": "sleep 1", "upgradeStrategy": {"minimumHealthCapacity": 2}}"#;
    let details = adapter.request("POST", "/v2/apps", bad)?.json()?["details"].clone();
    assert_eq!(details[0]["path"], "/upgradeStrategy/minimumHealthCapacity");
    assert!(details[0]["errors"][0].is_string(), "{details}");
    let around = json!({ "id": "/round", "apps": [
        { "id": "a", "cmd": "sleep 1", "dependencies": ["b"] },
        { "id": "b", "cmd": "sleep 1", "dependencies": ["a"] },
    ]});
    let details =
        adapter.request("POST", "/v2/groups", &around.to_string())?.json()?["details"].clone();
    assert_eq!(details[0]["path"], "/dependencies", "{details}");
    assert_eq!(adapter.json("/v2/apps")?["apps"].as_array().unwrap().len(), 1);
    Ok(())
}

#[test]
fn an_app_is_locked_until_its_deployment_ends_or_is_superseded() -> Result<()> {
    let adapter = Adapter::open()?;
    let events = http::Events::follow(adapter.cluster.port(), "/v2/events")?;
    let stuck = adapter.stuck("/group/a")?;
    for (method, path, body) in [
        ("PUT", "/v2/apps/group/a", r#"{"mem": 48}"#),
        ("PATCH", "/v2/apps/group/a", r#"{"mem": 48}"#),
        ("POST", "/v2/apps/group/a/restart", "{}"),
        ("DELETE", "/v2/apps/group/a?force=false", ""),
        ("DELETE", "/v2/apps/group/a/tasks?scale=true", ""),
        ("PUT", "/v2/groups/group", r#"{"scaleBy": 2}"#),
        ("DELETE", "/v2/groups/group", ""),
        ("PUT", "/v2/apps", r#"[{"id": "/group/a", "mem": 48}]"#),
    ] {
        let response = adapter.request(method, path, body)?;
        assert_eq!(response.status, 409, "{method} {path}: {}", response.text());
        let body = response.json()?;
        let message = "App is locked by one or more deployments. Override with the option \
                       '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.";
        assert_eq!(body["message"], message);
        assert_eq!(body["deployments"], json!([{ "id": stuck }]));
    }
    assert_eq!(adapter.json("/v2/apps/group/a")?["app"]["mem"], 32);
    wait_for("a refused change to be told", LIMIT, || {
        Ok(events.seen()?.iter().any(|(name, _)| name == "group_change_failed").then_some(()))
    })?;
    let good = json!({ "cpus": 0.1, "mem": 48 });
    adapter.done("PUT", "/v2/apps/group/a?force=true", good)?;
    assert_eq!(adapter.json("/v2/apps/group/a")?["app"]["mem"], 48);
    let failed = events.seen()?.into_iter().find(|(name, _)| name == "deployment_failed");
    assert_eq!(failed.unwrap().1["id"], stuck.as_str());
    Ok(())
}

#[test]
fn hostile_requests_are_rejected_with_bounded_memory() -> Result<()> {
    let adapter = Adapter::open()?;
    let rss = |adapter: &Adapter| -> Result<u64> {
        let pid = adapter.cluster.pid(Daemon::Server)?.as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let long = "a".repeat(10_000);
    let paths = [
        "/v2/apps/../../../etc/passwd",
        "/v2/apps/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v2/apps/..",
        "/v2/apps/a%00b",
        "/v2/apps/a%0d%0aSet-Cookie:%20x",
        "/v2/apps/%ff%fe",
        "/v2/apps/%",
        "/v2/apps/%zz",
        "/v2/apps/a%20b",
        "/v2/apps/%F0%9F%92%A3",
        &format!("/v2/apps/{long}"),
        &format!("/v2/apps/{}", "a/".repeat(3_000)),
        "/v2/groups/..%2f..",
        "/v2/deployments/..%2f..",
        "/v2/apps/a/versions/..%2f..",
        "/mesos/../v2/../../etc/passwd",
        "/slave/..%2f../files/read.json?path=/etc/passwd&offset=0&length=100",
        "/slave/n1/files/read.json?path=/etc/passwd&offset=0&length=100",
        "/slave/n1/files/read.json?path=../../../etc/passwd&offset=0&length=100",
    ];
    let mut wrong = Vec::new();
    for path in paths {
        for method in ["GET", "DELETE", "PUT"] {
            let response = adapter.request(method, path, r#"{"instances": 1}"#)?;
            if !(400..500).contains(&response.status) || response.header("set-cookie").is_some() {
                wrong.push(format!(
                    "{method} {path:.80}: {} {:.200}",
                    response.status,
                    response.text()
                ));
            }
        }
    }
    let ids = ["/", "", "/a b", "/a\n", "/a\u{0}", "/a//b c", "/é", "/-a", "/a_", &long];
    for id in ids {
        let app = json!({ "id": id, "cmd": "sleep 1000", "cpus": 9999 });
        let response = adapter.request("POST", "/v2/apps", &app.to_string())?;
        if response.status != 422 {
            wrong.push(format!("POST {id:.80?}: {} {:.200}", response.status, response.text()));
        }
    }
    let before = rss(&adapter)?;
    let huge = format!(r#"{{"id": "/a", "cmd": "{}"}}"#, "x".repeat(50_000_000));
    let many = format!("[{}0]", "0,".repeat(5_000_000));
    let deep = "[".repeat(1_000_000);
    for (method, path, body) in [
        ("POST", "/v2/apps", &huge),
        ("PUT", "/v2/apps", &many),
        ("POST", "/v2/apps", &deep),
        ("PUT", "/v2/groups", &huge),
        ("POST", "/v2/tasks/delete", &deep),
    ] {
        match adapter.request(method, path, body) {
            Ok(response) if (400..500).contains(&response.status) => {}
            Ok(response) => wrong.push(format!("{method} {path}: {}", response.status)),
            Err(error) => wrong.push(format!("{method} {path}: {error:#}")),
        }
    }
    let after = rss(&adapter)?;
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(after < before + 64 * 1024, "{before} kB before, {after} kB after");
    assert_eq!(adapter.json("/v2/apps")?["apps"], json!([]));
    assert_eq!(adapter.json("/v2/groups")?["groups"], json!([]));
    Ok(())
}
