//! Unusual requests of Marathon's clients: empty segments in paths, booleans of
//! Python, nulls, bodies where none belong, whole apps put back as they were got.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;

use anyhow::Result;
use muster_tests::Adapter;
use serde_json::{Value, json};

fn task_ids(tasks: &[Value]) -> BTreeSet<String> {
    tasks.iter().map(|task| task["id"].as_str().unwrap().to_string()).collect()
}

#[test]
fn empty_segments_and_prefixes_of_paths_make_no_difference() -> Result<()> {
    let adapter = Adapter::open()?;
    adapter.sleeper("/py/a", 1)?;
    let task = adapter.running("/py/a", 1)?[0]["id"].as_str().unwrap().to_string();
    for path in [
        "/v2/apps//py/a",
        "/v2/apps/py/a/",
        "//v2//apps///py//a//",
        "/service/marathon/v2/apps//py/a",
        "/service/marathon//v2/apps/py/a",
        "/marathon/v2/apps//py/a",
        "/v2/apps/%2Fpy%2Fa",
        "/v2/apps//py/a?embed=app.tasks&embed=app.nonsense",
    ] {
        assert_eq!(adapter.json(path)?["app"]["id"], "/py/a", "{path}");
    }
    for path in ["/v2/groups//", "/v2/groups", "/v2/groups/", "/service/marathon/v2/groups//"] {
        assert_eq!(adapter.json(path)?["id"], "/", "{path}");
    }
    assert_eq!(adapter.json("/v2/groups//py")?["id"], "/py");
    assert_eq!(adapter.json("/v2/apps//py/*")?["*"][0]["id"], "/py/a");
    let killed = adapter.request("DELETE", &format!("/v2/apps//py/a/tasks/{task}"), "")?.json()?;
    assert_eq!(killed["task"]["id"], task.as_str());
    Ok(())
}

#[test]
fn booleans_are_those_of_python_and_java() -> Result<()> {
    let adapter = Adapter::open()?;
    adapter.sleeper("/a", 2)?;
    let reply = adapter.done("DELETE", "/v2/apps/a/tasks?scale=True&wipe=False", json!(null))?;
    assert!(reply["deploymentId"].is_string(), "{reply}");
    assert_eq!(adapter.json("/v2/apps/a")?["app"]["instances"], 0);
    let stuck = adapter.stuck("/b")?;
    for force in ["force=False", "force=false", "force=1", "force=", "force", ""] {
        let response = adapter.request("PUT", &format!("/v2/apps/b?{force}"), r#"{"mem": 48}"#)?;
        assert_eq!(response.status, 409, "{force}");
    }
    // Apps are deleted by force by default, deployments are not.
    assert_eq!(adapter.request("DELETE", "/v2/apps/b?force=False", "")?.status, 409);
    let gone = adapter.request("DELETE", &format!("/v2/deployments/{stuck}?force=True"), "")?;
    assert_eq!((gone.status, gone.text().as_str()), (202, ""));
    adapter.request("PUT", "/v2/apps/b?force=TRUE", r#"{"cpus": 9998}"#)?;
    assert_eq!(adapter.request("DELETE", "/v2/apps/b", "")?.status, 200);
    Ok(())
}

#[test]
fn nulls_are_ignored_and_a_fetched_app_can_be_put_back() -> Result<()> {
    let adapter = Adapter::open()?;
    adapter.sleeper("/a", 1)?;
    let scaled = json!({ "id": "/a", "instances": 2, "ports": null, "dependencies": null });
    adapter.done("PUT", "/v2/apps/a", scaled)?;
    let before = task_ids(&adapter.running("/a", 2)?);
    let app =
        adapter.json("/v2/apps/a?embed=apps.tasks&embed=apps.lastTaskFailure")?["app"].clone();
    let mut back = app.clone();
    for key in ["version", "tasks", "fetch"] {
        // `version` says which version to go back to and may not come with anything else.
        back.as_object_mut().unwrap().remove(key);
    }
    adapter.done("PUT", "/v2/apps/a", back)?;
    let after = adapter.json("/v2/apps/a")?["app"].clone();
    for key in ["cmd", "env", "instances", "portDefinitions", "upgradeStrategy", "labels"] {
        assert_eq!(after[key], app[key], "{key}");
    }
    assert_eq!(task_ids(&adapter.running("/a", 2)?), before, "nothing was started anew");

    let nothing = json!({
        "id": "/b", "cmd": "sleep 1000", "args": null, "container": null, "env": null, "cpus": 0.1,
        "constraints": null, "healthChecks": null, "labels": null, "user": null, "mem": 32,
        "acceptedResourceRoles": null, "ipAddress": null, "residency": null, "uris": [],
        "fetch": [], "storeUrls": [], "dependencies": [], "readinessChecks": [], "secrets": {},
        "taskKillGracePeriodSeconds": null, "gpus": 0, "disk": 0, "executor": "",
    });
    adapter.done("POST", "/v2/apps", nothing)?;
    Ok(())
}

#[test]
fn unexpected_bodies_are_ignored() -> Result<()> {
    let adapter = Adapter::open()?;
    adapter.sleeper("/a", 1)?;
    assert_eq!(adapter.request("GET", "/v2/groups", r#""""#)?.json()?["id"], "/");
    for body in ["{}", "", r#""""#] {
        let response = adapter.request("POST", "/v2/apps/a/restart?force=true", body)?;
        assert_eq!(response.status, 200, "{body:?}: {}", response.text());
    }
    assert_eq!(adapter.request("DELETE", "/v2/apps/a", "{}")?.status, 200);
    Ok(())
}

#[test]
fn changes_are_merged_replaced_or_only_planned_on_request() -> Result<()> {
    let adapter = Adapter::open()?;
    let app = json!({
        "id": "/a", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32,
        "env": { "A": "1", "B": "2" }, "labels": { "x": "y" },
    });
    adapter.done("POST", "/v2/apps", app)?;
    // Merged key by key at the top; the id is that of the path.
    adapter.done("PUT", "/v2/apps/a", json!({ "id": "/other", "env": { "A": "3" } }))?;
    let app = adapter.json("/v2/apps/a")?["app"].clone();
    assert_eq!((&app["env"], &app["labels"]), (&json!({ "A": "3" }), &json!({ "x": "y" })));
    // Replaced as a whole.
    let whole = json!({ "id": "/a", "cmd": "sleep 1001", "cpus": 0.1, "mem": 32 });
    adapter.done("PUT", "/v2/apps/a?partialUpdate=false", whole)?;
    let app = adapter.json("/v2/apps/a")?["app"].clone();
    // An environment without variables is not shown.
    assert_eq!((&app["env"], &app["labels"]), (&json!(null), &json!({})));
    assert_eq!(app["cmd"], "sleep 1001");
    // Nothing to change is a change all the same, with a deployment that is over at once.
    let before = task_ids(&adapter.running("/a", 1)?);
    let reply = adapter.done("PUT", "/v2/apps/a", json!({ "cmd": "sleep 1001" }))?;
    assert!(reply["deploymentId"].is_string());
    assert_eq!(task_ids(&adapter.running("/a", 1)?), before);
    // Put where nothing is, it is created.
    let new = json!({ "cmd": "sleep 1000", "cpus": 0.1, "mem": 32 });
    let response = adapter.request("PUT", "/v2/apps/new", &new.to_string())?;
    assert_eq!(response.status, 201, "{}", response.text());
    assert!(response.json()?["deploymentId"].is_string());

    // A dry run of a group says the steps and changes nothing.
    let group = json!({ "id": "/g", "apps": [{ "id": "web", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32 }] });
    let plan = adapter.request("PUT", "/v2/groups/g?dryRun=true", &group.to_string())?.json()?;
    let actions: Vec<_> =
        plan["steps"].as_array().unwrap().iter().map(|step| &step["actions"][0]).collect();
    let action = |action: &str| json!({ "action": action, "app": "/g/web" });
    assert_eq!(actions, [&action("StartApplication"), &action("ScaleApplication")]);
    assert_eq!(adapter.request("GET", "/v2/groups/g", "")?.status, 404);
    Ok(())
}

#[test]
fn a_native_service_keeps_keys_that_apps_lack_when_its_app_changes() -> Result<()> {
    let adapter = Adapter::open()?;
    let text = "service: /native\nprocess: { command: sleep 1000, workdir: /tmp }\n\
                resources: { cpu: 0.1, memory: 32MiB }\n";
    let file = adapter.cluster.write("native.yaml", text)?;
    adapter.cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "60s"])?;
    let before = task_ids(&adapter.running("/native", 1)?);
    adapter.done("PUT", "/v2/apps/native", json!({ "instances": 2 }))?;
    let after = task_ids(&adapter.running("/native", 2)?);
    assert!(before.is_subset(&after), "{before:?} is started anew: {after:?}");
    let shown = adapter.cluster.ok(&["get", "services", "/native", "-o", "json"])?;
    assert!(shown.contains("\"workdir\"") && shown.contains("/tmp"), "{shown}");
    Ok(())
}
