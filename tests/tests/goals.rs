//! Services are stopped, paused and frozen under load: no request fails but by an honest 503 while no
//! instance serves, and none is lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::time::Duration;

use anyhow::Result;
use muster_tests::{Cluster, Daemon, Load, documents, free_port, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const SERVICE: &str = "/shop/web";

struct Loaded {
    cluster: Cluster,
    load: Load,
    port: u16,
}

/// The failures of a load by their beginnings, and the number of requests that succeeded.
struct Counted {
    served: u64,
    unavailable: u64,
}

impl Loaded {
    /// Three instances of the example service behind a gateway, under load.
    fn start() -> Result<Loaded> {
        Loaded::after(|_| Ok(()))
    }

    /// The same, with a change before the load begins.
    fn after(change: impl FnOnce(&Cluster) -> Result<()>) -> Result<Loaded> {
        let cluster = Cluster::start(1)?;
        let port = free_port()?;
        let file = cluster.write("web.yaml", &documents("0.9", 3, port, "")?)?;
        cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "30s"])?;
        wait_for(
            "the gateway to answer",
            LIMIT,
            || Ok(muster_tests::get(port, "/endpoint0").ok()),
        )?;
        change(&cluster)?;
        let load = Load::start(port, "/endpoint0", 6);
        let loaded = Loaded { cluster, load, port };
        loaded.more_requests()?;
        Ok(loaded)
    }

    /// Waits for a good number of further requests, whatever their result.
    fn more_requests(&self) -> Result<()> {
        let so_far = self.load.requests();
        wait_for("load", LIMIT, || Ok((self.load.requests() > so_far + 300).then_some(())))
    }

    fn ok(&self, args: &[&str]) -> Result<String> {
        self.cluster.ok(args)
    }

    fn service(&self) -> Result<Value> {
        Ok(self.cluster.json(&["get", "services", SERVICE])?[0].take())
    }

    /// The instances: each with its run and the report on its pause.
    fn instances(&self) -> Result<Vec<(String, u64, Value)>> {
        let instance = |view: &Value| {
            let id = view["instance"].as_str().unwrap().to_string();
            (id, view["status"]["run"].as_u64().unwrap_or(0), view["status"]["pause"]["is"].clone())
        };
        Ok(self.cluster.instances(SERVICE)?.iter().map(instance).collect())
    }

    /// The results so far. Fails if a request had any other result than 200 or 503.
    fn counted(&self) -> Counted {
        let seen = self.load.seen();
        let is_503 = |text: &str| text.starts_with("503: ");
        let others = seen.failed.iter().filter(|(_, error)| !is_503(error));
        let others: Vec<_> = others.take(10).collect();
        assert!(others.is_empty(), "of {} requests: {others:#?}", seen.requests);
        let unavailable = seen.failed.len() as u64;
        Counted { served: seen.requests - unavailable, unavailable }
    }

    /// Fails unless all requests during `change`, and some after it, are served.
    fn serves_during(&self, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.counted().unavailable;
        change()?;
        self.more_requests()?;
        assert_eq!(self.counted().unavailable, before, "requests were rejected");
        Ok(())
    }

    /// Fails unless requests are rejected now.
    fn rejects(&self) -> Result<()> {
        // Those in flight have been served before the instances were stopped or suspended.
        self.more_requests()?;
        let before = self.counted();
        self.more_requests()?;
        let after = self.counted();
        assert_eq!(after.served, before.served, "requests are served");
        assert!(after.unavailable > before.unavailable);
        Ok(())
    }
}

#[test]
fn a_stop_and_a_start_lose_no_request() -> Result<()> {
    let loaded = Loaded::start()?;
    loaded.ok(&["stop", SERVICE, "--wait"])?;
    assert_eq!(loaded.service()?["state"], "stopped");
    loaded.rejects()?;
    let explained = muster_tests::get(loaded.port, "/endpoint0").unwrap_err().to_string();
    assert!(explained.starts_with("503: "), "{explained}");
    loaded.ok(&["start", SERVICE, "--wait"])?;
    loaded.serves_during(|| Ok(()))
}

#[test]
fn a_pause_and_a_start_lose_no_request_and_restart_nothing() -> Result<()> {
    let mut loaded = Loaded::start()?;
    let before = loaded.instances()?;
    loaded.ok(&["pause", SERVICE, "--wait"])?;
    assert_eq!(loaded.service()?["state"], "paused");
    loaded.rejects()?;
    let suspended =
        || before.iter().map(|(id, run, _)| (id.clone(), *run, Value::from("suspended")));
    let suspended: Vec<_> = suspended().collect();
    assert_eq!(loaded.instances()?, suspended);
    let shown = loaded.ok(&["get", "instances", SERVICE])?;
    assert_eq!(shown.matches("running, paused").count(), 3, "{shown}");
    let described = loaded.ok(&["describe", "instance", &before[0].0])?;
    assert!(described.contains("it is paused"), "{described}");

    // Nothing of that changes while the daemons are restarted.
    for daemon in [Daemon::Agent(1), Daemon::Server] {
        loaded.cluster.kill(daemon)?;
        loaded.cluster.launch(daemon)?;
        wait_for("the instances to be reported", LIMIT, || {
            Ok(loaded.instances().is_ok_and(|found| found == suspended).then_some(()))
        })?;
    }
    for keeper in loaded.cluster.processes("keeper\0--dir") {
        rustix::process::kill_process(keeper, rustix::process::Signal::KILL)?;
    }
    loaded.rejects()?;
    assert_eq!(loaded.instances()?, suspended);

    loaded.ok(&["start", SERVICE, "--wait"])?;
    loaded.serves_during(|| Ok(()))?;
    assert_eq!(loaded.instances()?, before, "they continue where they were");
    // Paused once more, it can be stopped: each process receives its signal.
    loaded.ok(&["pause", SERVICE, "--wait"])?;
    loaded.ok(&["stop", SERVICE, "--wait", "--timeout", "20s"])?;
    wait_for("the processes to end", LIMIT, || {
        Ok(loaded.cluster.processes("simpleservice").is_empty().then_some(()))
    })?;
    loaded.counted();
    Ok(())
}

#[test]
fn a_pause_that_is_aborted_serves_again() -> Result<()> {
    let loaded = Loaded::start()?;
    let before = loaded.instances()?;
    for _ in 0..3 {
        loaded.ok(&["pause", SERVICE])?;
        loaded.ok(&["start", SERVICE, "--wait"])?;
        loaded.serves_during(|| Ok(()))?;
    }
    assert_eq!(loaded.instances()?, before);
    Ok(())
}

#[test]
fn what_a_frozen_service_holds_back_is_done_by_the_thaw() -> Result<()> {
    let ready = |cluster: &Cluster, count: u64| {
        wait_for("instances to be ready or not", LIMIT, || {
            let service = &cluster.json(&["get", "services", SERVICE])?[0];
            Ok((service["ready"] == count).then_some(()))
        })
    };
    let loaded = Loaded::after(|cluster| {
        cluster.ok(&["freeze", SERVICE])?;
        let victim = cluster.processes("simpleservice")[0];
        rustix::process::kill_process(victim, rustix::process::Signal::KILL)?;
        ready(cluster, 2)
    })?;
    let refused = loaded.cluster.muster(&["pause", SERVICE])?;
    assert!(refused.stderr.contains("is frozen"), "{refused:?}");
    let described = loaded.ok(&["describe", "service", SERVICE])?;
    assert!(described.contains("it has ended and its service is frozen"), "{described}");
    loaded.serves_during(|| {
        loaded.ok(&["thaw", SERVICE])?;
        ready(&loaded.cluster, 3)
    })?;
    // A forced pause holds although the service is frozen again after it.
    loaded.ok(&["freeze", SERVICE])?;
    loaded.ok(&["pause", SERVICE, "--force", "--wait"])?;
    loaded.rejects()?;
    loaded.ok(&["start", SERVICE, "--force", "--wait"])?;
    loaded.serves_during(|| Ok(()))
}

#[test]
fn single_resources_of_a_stack_are_frozen() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let resource = |name: &str, tags: &str| {
        let process = "process: { command: \"exec sleep 1000\" }";
        format!("- {{ name: {name}, tags: [{tags}], {process} }}\n")
    };
    let stack = [resource("db", "data"), resource("cache", "data"), resource("web", "")].concat();
    let file = cluster.write("stack.yaml", &format!("service: {SERVICE}\nstack:\n{stack}"))?;
    cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "30s"])?;
    let wrong = cluster.muster(&["freeze", SERVICE, "--resource", "cahe"])?;
    assert_eq!(wrong.code, 5, "{wrong:?}");
    assert!(wrong.stderr.contains("did you mean `cache`?"), "{wrong:?}");
    let wrong = cluster.muster(&["freeze", SERVICE, "--tag", "dato"])?;
    assert!(wrong.stderr.contains("did you mean `data`?"), "{wrong:?}");
    let frozen = cluster.ok(&["freeze", SERVICE, "--tag", "data"])?;
    assert!(frozen.contains("frozen: cache, db"), "{frozen}");
    let thawed = cluster.ok(&["thaw", SERVICE, "--resource", "db"])?;
    assert!(thawed.contains("thawed: db"), "{thawed}");
    let described = cluster.ok(&["describe", "service", SERVICE])?;
    assert!(described.contains("frozen: cache"), "{described}");
    for process in cluster.processes("sleep\x001000") {
        rustix::process::kill_process(process, rustix::process::Signal::KILL)?;
    }
    let runs = || -> Result<Vec<(u64, bool)>> {
        let instance = cluster.instances(SERVICE)?.remove(0);
        let resources = instance["status"]["resources"].as_array().unwrap();
        let run = |one: &Value| (one["run"].as_u64().unwrap(), one["phase"] == "running");
        Ok(resources.iter().map(run).collect())
    };
    let expected = [(2, true), (2, false), (2, true)];
    wait_for("the others to run again", LIMIT, || Ok((runs()? == expected).then_some(())))?;
    cluster.ok(&["thaw", SERVICE])?;
    wait_for("all to run again", LIMIT, || Ok((runs()? == [(2, true); 3]).then_some(())))
}
