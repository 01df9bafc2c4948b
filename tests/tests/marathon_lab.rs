//! The zero-downtime lab, typed as its text says, with the `dcos` command line it was written for
//! and with later ones. The output is compared with that of the lab, apart from ids, times
//! and addresses.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_tests::{Cluster, Dcos, get, http, lab, wait_for};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(100);

/// The keys of an object.
fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Adds an app of the lab in version 0.9 and waits for its deployment.
fn add(cluster: &Cluster, dcos: &Dcos, name: &str) -> Result<()> {
    let file = cluster.write("app.json", &lab(name, "0.9")?.to_string())?;
    finished(dcos, &dcos.ok(&["marathon", "app", "add", &file])?)
}

/// Updates an app of the lab to version 1.0 from a file.
fn update(cluster: &Cluster, dcos: &Dcos, name: &str) -> Result<String> {
    let app = lab(name, "1.0")?;
    let file = cluster.write("app.json", &app.to_string())?;
    dcos.fed(&["marathon", "app", "update", app["id"].as_str().unwrap()], &file)
}

/// Waits for the deployment that a command says it has created.
fn finished(dcos: &Dcos, printed: &str) -> Result<()> {
    let id = printed.trim().strip_prefix("Created deployment ").context(printed.to_string())?;
    // It ends when the deployment does.
    dcos.ok(&["marathon", "deployment", "watch", id]).map(drop)
}

/// The tasks of an app as `task show` prints them.
fn tasks(dcos: &Dcos, app: &str) -> Result<Vec<Value>> {
    let table = dcos.table(&["marathon", "task", "list", app])?;
    assert_eq!(table.heads, ["APP", "HEALTHY", "STARTED", "HOST", "ID"]);
    let show = |row: &std::collections::BTreeMap<String, String>| {
        assert_eq!((row["APP"].as_str(), row["HEALTHY"].as_str()), (app, "True"));
        let task = dcos.json(&["marathon", "task", "show", &row["ID"]])?;
        assert_eq!(task["startedAt"], row["STARTED"].as_str());
        assert_eq!(task["host"], row["HOST"].as_str());
        Ok(task)
    };
    table.rows.iter().map(show).collect()
}

/// The versions that tasks say they serve.
fn versions(tasks: &[Value]) -> Result<BTreeSet<String>> {
    let version = |task: &Value| {
        let port = task["ports"][0].as_u64().unwrap() as u16;
        let response: Value = serde_json::from_str(&get(port, "/endpoint0")?)?;
        assert_eq!(response["host"], format!("127.0.0.1:{port}"));
        assert_eq!(response["result"], "all is well");
        Ok(response["version"].as_str().unwrap().to_string())
    };
    tasks.iter().map(version).collect()
}

/// "Without health checks", to the letter.
fn without_health_checks(version: &str) -> Result<()> {
    let cluster = Cluster::start(1)?;
    let dcos = Dcos::new(&cluster, version)?;
    add(&cluster, &dcos, "base")?;
    let old = tasks(&dcos, "/zdd/base")?;
    assert_eq!(old.len(), 4);
    let shown = [
        "appId",
        "host",
        "id",
        "ipAddresses",
        "ports",
        "servicePorts",
        "slaveId",
        "stagedAt",
        "startedAt",
        "state",
        "version",
    ];
    for task in &old {
        assert_eq!(keys(task), BTreeSet::from(shown));
        assert!(task["id"].as_str().unwrap().starts_with("zdd_base."), "{task}");
        assert_eq!(task["ipAddresses"], json!([{ "ipAddress": task["host"], "protocol": "IPv4" }]));
        assert_eq!(task["servicePorts"], json!([10000]));
        assert_eq!(task["state"], "TASK_RUNNING");
    }
    assert_eq!(versions(&old)?, BTreeSet::from(["0.9".to_string()]));

    // The log of one of them, followed while it is asked.
    let task = old[0]["id"].as_str().unwrap();
    let port = old[0]["ports"][0].as_u64().unwrap() as u16;
    let log = dcos.follow(&["task", "log", "--follow", task, "stderr"])?;
    let begins = format!("This is simple service in version v0.9 listening on port {port}");
    wait_for("the log", LIMIT, || Ok(log.text().contains(&begins).then_some(())))?;
    let before = log.text().matches("/endpoint0 serving from").count();
    get(port, "/endpoint0")?;
    wait_for("the log to go on", LIMIT, || {
        Ok((log.text().matches("/endpoint0 serving from").count() > before).then_some(()))
    })?;

    // The new version, all of which starts before an old task goes.
    finished(&dcos, &update(&cluster, &dcos, "base")?)?;
    let new = tasks(&dcos, "/zdd/base")?;
    assert_eq!(new.len(), 4);
    assert_eq!(versions(&new)?, BTreeSet::from(["1.0".to_string()]));
    let none = dcos.run(&["marathon", "deployment", "list"])?;
    assert_eq!((none.code, none.stderr.trim()), (1, "There are no deployments"));

    finished(&dcos, &dcos.ok(&["marathon", "app", "update", "/zdd/base", "instances=5"])?)?;
    let scaled = tasks(&dcos, "/zdd/base")?;
    let id = |task: &Value| task["id"].to_string();
    let kept = scaled.iter().map(id).collect::<BTreeSet<_>>();
    assert!(new.iter().map(id).all(|id| kept.contains(&id)), "scaling starts nothing anew");
    assert_eq!(scaled.len(), 5);
    dcos.ok(&["marathon", "app", "remove", "/zdd/base"]).map(drop)
}

#[test]
fn without_health_checks_with_dcos_0_4() -> Result<()> {
    without_health_checks("0.4.17")
}

#[test]
fn without_health_checks_with_dcos_0_5() -> Result<()> {
    without_health_checks("0.5.7")
}

#[test]
fn without_health_checks_with_dcos_0_6() -> Result<()> {
    without_health_checks("0.6.1")
}

#[test]
fn with_health_checks_every_task_shows_their_results() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let dcos = Dcos::new(&cluster, "0.4.17")?;
    add(&cluster, &dcos, "base-health")?;
    let app = dcos.json(&["marathon", "app", "show", "/zdd/base-health"])?;
    assert_eq!(app["tasks"].as_array().unwrap().len(), 4);
    for task in app["tasks"].as_array().unwrap() {
        // The output of `jq '.tasks[].healthCheckResults[]'`, with all keys of the lab's text.
        let result = &task["healthCheckResults"][0];
        let shown = [
            "alive",
            "consecutiveFailures",
            "firstSuccess",
            "lastFailure",
            "lastFailureCause",
            "lastSuccess",
            "taskId",
        ];
        assert_eq!(keys(result), BTreeSet::from(shown));
        assert_eq!((&result["alive"], &result["consecutiveFailures"]), (&json!(true), &json!(0)));
        assert_eq!(
            (&result["lastFailure"], &result["lastFailureCause"]),
            (&json!(null), &json!(null))
        );
        assert!(result["firstSuccess"].is_string() && result["lastSuccess"].is_string());
        assert_eq!(result["taskId"], task["id"]);
    }
    let row = &dcos.table(&["marathon", "app", "list"])?.rows[0];
    assert_eq!((row["TASKS"].as_str(), row["HEALTH"].as_str()), ("4/4", "4/4"));

    // A check that some of the new tasks fail is changed together with the version.
    let mut checks = lab("base-health", "1.0")?["healthChecks"].clone();
    checks[0]["intervalSeconds"] = json!(30);
    checks[0]["maxConsecutiveFailures"] = json!(20);
    let mut changed = lab("base-health", "1.0")?;
    changed["healthChecks"] = checks.clone();
    let file = cluster.write("app.json", &changed.to_string())?;
    finished(&dcos, &dcos.fed(&["marathon", "app", "update", "/zdd/base-health"], &file)?)?;
    let app = dcos.json(&["marathon", "app", "show", "/zdd/base-health"])?;
    for (key, value) in checks[0].as_object().unwrap() {
        assert_eq!(&app["healthChecks"][0][key], value, "{key}");
    }
    let tasks = tasks(&dcos, "/zdd/base-health")?;
    assert!(tasks.iter().all(|task| task["healthCheckResults"][0]["alive"] == true));
    assert_eq!(versions(&tasks)?, BTreeSet::from(["1.0".to_string()]));
    Ok(())
}

#[test]
fn with_readiness_checks_the_app_shows_them_and_its_tasks_do_not() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let dcos = Dcos::new(&cluster, "0.6.1")?;
    add(&cluster, &dcos, "base-ready")?;
    let app = dcos.json(&["marathon", "app", "show", "/zdd/base-ready"])?;
    let checks = json!([{
        "httpStatusCodesForReady": [200],
        "intervalSeconds": 30,
        "name": "readinessCheck",
        "path": "/health",
        "portName": "main-api",
        "preserveLastResponse": false,
        "protocol": "HTTP",
        "timeoutSeconds": 10
    }]);
    assert_eq!(app["readinessChecks"], checks);
    assert_eq!(app["portDefinitions"][0]["name"], "main-api");
    for task in app["tasks"].as_array().unwrap() {
        let results = &task["healthCheckResults"];
        assert!(results.is_null() || *results == json!([]), "{results}");
    }
    finished(&dcos, &update(&cluster, &dcos, "base-ready")?)?;
    assert_eq!(versions(&tasks(&dcos, "/zdd/base-ready")?)?, BTreeSet::from(["1.0".to_string()]));
    Ok(())
}

/// The lab's `curl -H "Accept: text/event-stream" leader.mesos:8080/v2/events` during an upgrade.
#[test]
fn with_minimal_overcapacity_events_agree_with_the_recorded_session() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let dcos = Dcos::new(&cluster, "0.5.7")?;
    add(&cluster, &dcos, "base-min-over")?;
    let events = http::Events::follow(cluster.port(), "/v2/events")?;
    assert_eq!(events.head.status, 200);
    wait_for("the first event", LIMIT, || Ok((!events.seen()?.is_empty()).then_some(())))?;
    let created = update(&cluster, &dcos, "base-min-over")?;
    finished(&dcos, &created)?;
    let seen = wait_for("the last event", LIMIT, || {
        let seen = events.seen()?;
        let is_over = seen.iter().any(|(name, _)| name == "deployment_success");
        Ok(is_over.then_some(seen))
    })?;
    let (name, first) = &seen[0];
    assert_eq!(name, "event_stream_attached");
    assert_eq!(keys(first), BTreeSet::from(["eventType", "remoteAddress", "timestamp"]));
    assert!(seen.iter().all(|(name, data)| data["eventType"] == name.as_str()));

    // At most five at once, at least one left: three are killed and one starts at the beginning.
    let (mut live, mut most, mut least) = (4i64, 4, 4);
    let mut course = Vec::new();
    for (_, data) in seen.iter().filter(|(name, _)| name == "status_update_event") {
        assert_eq!(data["appId"], "/zdd/base-min-over");
        let state = data["taskStatus"].as_str().unwrap();
        match state {
            "TASK_RUNNING" => live += 1,
            "TASK_KILLED" => live -= 1,
            _ => continue,
        }
        course.push(state);
        (most, least) = (most.max(live), least.min(live));
    }
    assert_eq!(course.len(), 8, "{course:?}");
    assert!(most <= 5 && least >= 1, "{most} {least} {course:?}");
    assert_eq!(live, 4);
    Ok(())
}
