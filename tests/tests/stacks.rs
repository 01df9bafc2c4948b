//! A stack of two containers and a process: it starts in order, its logs and states are shown by
//! resource, and when one resource cannot start the others are rolled back in reverse order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use muster_tests::{Cluster, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
const IMAGE: &str = "mhausenblas/simpleservice:0.4.0";

/// Whether there is a Docker daemon with the image of the example service.
fn has_docker() -> bool {
    let found = Command::new("docker").args(["image", "inspect", IMAGE]).output();
    let found = found.is_ok_and(|output| output.status.success());
    let needed = std::env::var_os("MUSTER_NEED_DOCKER").is_some();
    assert!(found || !needed, "no Docker daemon with {IMAGE}: run `cargo xtask image`");
    if !found {
        eprintln!("NOT TESTED: no Docker daemon with {IMAGE}");
    }
    found
}

/// Two containers, then a process that runs `command`.
fn document(service: &str, command: &str) -> String {
    let container = |name: &str| {
        format!(
            "- name: {name}\n  container: {{ image: \"{IMAGE}\" }}\n  \
             ports: [{{ name: {name}, container: 9876 }}]\n  env: {{ PORT0: \"9876\" }}\n  resources: {{ cpu: 0.1, memory: 64MiB }}\n  \
             readiness: {{ probe: {{ tcp: {{ port: {name} }} }}, interval: 200ms }}\n"
        )
    };
    format!(
        "service: {service}\nrollout: {{ on_failure: hold }}\nstack:\n{}{}\
         - name: log\n  process: {{ command: {command} }}\n  \
           resources: {{ cpu: 0.1, memory: 32MiB }}\n",
        container("db"),
        container("web"),
    )
}

/// The resources whose containers have ended, in that order.
fn ended(service: &str, since: &str) -> Result<Vec<String>> {
    let now = unix_seconds();
    let label = format!("label=muster.service={service}");
    let output = Command::new("docker")
        .args(["events", "--since", since, "--until", &now, "--filter", &label])
        .args(["--filter", "event=die", "--format"])
        .arg("{{index .Actor.Attributes \"muster.resource\"}}")
        .output()?;
    Ok(String::from_utf8(output.stdout)?.lines().map(String::from).collect())
}

fn unix_seconds() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs().to_string()
}

#[test]
fn a_stack_of_containers_and_a_process_starts_in_order() -> Result<()> {
    if !has_docker() {
        return Ok(());
    }
    let cluster = Cluster::start(1)?;
    let lines = "\"echo first; echo second; exec sleep 1000\"";
    let file = cluster.write("stack.yaml", &document("/shop/stack", lines))?;
    cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "90s"])?;
    let instance = cluster.instances("/shop/stack")?.remove(0);
    let id = instance["instance"].as_str().unwrap();
    let resources = instance["status"]["resources"].as_array().unwrap();
    let phases: Vec<_> = resources.iter().map(|r| (&r["name"], &r["phase"])).collect();
    let [db, web, log, running] = ["db", "web", "log", "running"].map(Value::from);
    assert_eq!(phases, [(&db, &running), (&web, &running), (&log, &running)]);

    let described = cluster.ok(&["describe", "instance", id])?;
    for name in ["db", "web", "log"] {
        assert!(described.contains(&format!("{name}: running")), "{described}");
    }
    let logs = cluster.ok(&["logs", id])?;
    assert!(logs.contains("log | first\nlog | second\n"), "{logs}");
    assert_eq!(cluster.ok(&["logs", "--resource", "log", id])?, "first\nsecond\n");
    let wrong = cluster.muster(&["logs", "--resource", "cache", id])?;
    assert!(wrong.stderr.contains("no resource `cache`, only db, web, log"), "{wrong:?}");
    Ok(())
}

#[test]
fn a_resource_that_cannot_start_rolls_back_the_others() -> Result<()> {
    if !has_docker() {
        return Ok(());
    }
    let cluster = Cluster::start(1)?;
    let service = "/shop/broken";
    let file = cluster.write("broken.yaml", &document(service, "[\"no-such-program\"]"))?;
    let since = unix_seconds();
    cluster.ok(&["apply", "-f", &file])?;
    // The failed instance itself is shown only until it has been removed, so its event is awaited.
    let failed = wait_for("an instance to fail", LIMIT, || {
        let printed = cluster.ok(&["events", "--service", service, "-o", "json"])?;
        let events: Vec<Value> =
            printed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(events.into_iter().find(|event| event["kind"] == "failed"))
    })?;
    let message = failed["message"].as_str().unwrap();
    assert!(message.starts_with("log: there is no program `no-such-program`"), "{message}");
    // Docker lists the events of a second once the second is over.
    let ended = wait_for("the containers to end", LIMIT, || {
        Ok(Some(ended(service, &since)?).filter(|ended| ended.len() >= 2))
    })?;
    assert_eq!(ended[..2], ["web", "db"], "{ended:?}");

    // Which resource and why is shown, also once the instance itself has been removed.
    let described = cluster.muster(&["describe", "service", service])?.stdout;
    assert!(described.contains("log: there is no program `no-such-program`"), "{described}");
    Ok(())
}
