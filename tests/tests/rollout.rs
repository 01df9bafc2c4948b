//! Services of plain processes are upgraded, scaled, restarted, drained and broken under load, and
//! clients of the gateway notice nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use muster_tests::{Cluster, Daemon, Load, Seen, documents, free_port, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// A cluster with version 0.9 of the example service behind a gateway, under load.
fn under_load(agents: usize, instances: u32, more: &str) -> Result<(Cluster, Load, u16)> {
    let cluster = Cluster::start(agents)?;
    let port = free_port()?;
    let file = cluster.write("web.yaml", &documents("0.9", instances, port, more)?)?;
    cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "30s"])?;
    let responses = || Ok(muster_tests::get(port, "/endpoint0").ok());
    wait_for("the gateway to answer", LIMIT, responses)?;
    let load = Load::start(port, "/endpoint0", 8);
    wait_for("load", LIMIT, || Ok((load.requests() > 200).then_some(())))?;
    Ok((cluster, load, port))
}

fn upgrade(cluster: &Cluster, version: &str, instances: u32, port: u16, more: &str) -> Result<()> {
    let file = cluster.write("web.yaml", &documents(version, instances, port, more)?)?;
    cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "60s"]).map(drop)
}

/// Continues the load for a while after everything has settled, then ends it.
fn finish(load: Load) -> Result<Seen> {
    let so_far = load.requests();
    wait_for("more load", LIMIT, || Ok((load.requests() > so_far + 500).then_some(())))?;
    Ok(load.finish())
}

fn nothing_failed(seen: &Seen) {
    let shown: Vec<_> = seen.failed.iter().take(10).collect();
    assert!(
        seen.failed.is_empty(),
        "{} of {} failed: {shown:#?}",
        seen.failed.len(),
        seen.requests
    );
}

/// The runs and pids of instances, which must not change when daemons are killed.
fn runs(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let instances = cluster.instances("/shop/web")?;
    let run = |instance: &serde_json::Value| {
        let id = instance["instance"].as_str().unwrap().to_string();
        (id, instance["status"]["run"].as_u64().unwrap_or(0))
    };
    Ok(instances.iter().map(run).collect())
}

#[test]
fn an_upgrade_loses_no_request() -> Result<()> {
    let (cluster, load, port) = under_load(1, 4, "")?;
    upgrade(&cluster, "1.0", 4, port, "")?;
    let seen = finish(load)?;
    nothing_failed(&seen);
    assert!(seen.versions["0.9"] > 0 && seen.versions["1.0"] > 0, "{:?}", seen.versions);
    let response = muster_tests::get(port, "/endpoint0")?;
    assert!(response.contains("\"version\": \"1.0\""), "{response}");
    Ok(())
}

#[test]
fn minimal_overcapacity_keeps_at_most_five_live_instances() -> Result<()> {
    let budget = "rollout: { min_healthy: 25%, max_surge: 25% }";
    let (cluster, load, port) = under_load(1, 4, budget)?;
    let file = cluster.write("web.yaml", &documents("1.0", 4, port, budget)?)?;
    cluster.ok(&["apply", "-f", &file])?;
    let mut most = 0;
    wait_for("the rollout to end", LIMIT, || {
        let instances = cluster.instances("/shop/web")?;
        most = most.max(instances.len());
        let service = &cluster.json(&["get", "services", "/shop/web"])?[0];
        Ok((service["state"] == "running").then_some(()))
    })?;
    assert!((4..=5).contains(&most), "{most} live at once");
    nothing_failed(&finish(load)?);
    Ok(())
}

#[test]
fn scaling_restarting_and_undoing_lose_no_request() -> Result<()> {
    let (cluster, load, _) = under_load(1, 3, "")?;
    cluster.ok(&["scale", "/shop/web", "6", "--wait"])?;
    assert_eq!(cluster.instances("/shop/web")?.len(), 6);
    cluster.ok(&["restart", "/shop/web", "--wait"])?;
    cluster.ok(&["scale", "/shop/web", "2", "--wait"])?;
    assert_eq!(cluster.instances("/shop/web")?.len(), 2);
    nothing_failed(&finish(load)?);
    Ok(())
}

#[test]
fn a_killed_instance_is_restarted_without_a_failed_request() -> Result<()> {
    let (cluster, load, _) = under_load(1, 3, "")?;
    let before = runs(&cluster)?;
    let processes = cluster.processes("simpleservice");
    rustix::process::kill_process(processes[0], rustix::process::Signal::KILL)?;
    wait_for("a second run", LIMIT, || {
        let runs = runs(&cluster)?;
        Ok((runs.values().sum::<u64>() == before.values().sum::<u64>() + 1).then_some(()))
    })?;
    nothing_failed(&finish(load)?);
    Ok(())
}

#[test]
fn draining_a_node_moves_its_instances_first() -> Result<()> {
    let (cluster, load, _) = under_load(2, 4, "")?;
    cluster.ok(&["node", "drain", "n1", "--wait"])?;
    let instances = cluster.instances("/shop/web")?;
    assert_eq!(instances.len(), 4);
    assert!(instances.iter().all(|instance| instance["node"] == "n2"), "{instances:#?}");
    nothing_failed(&finish(load)?);
    Ok(())
}

#[test]
fn a_revision_that_never_becomes_healthy_is_rolled_back() -> Result<()> {
    let (cluster, load, port) = under_load(1, 3, "")?;
    let before = runs(&cluster)?;
    let deadline = "rollout: { deadline: 3s }";
    let bad = documents("1.0", 3, port, deadline)?
        .replace("LOG_REQUESTS:", "FAIL_HEALTH: \"1\", LOG_REQUESTS:");
    let file = cluster.write("bad.yaml", &bad)?;
    let run = cluster.muster(&["apply", "-f", &file, "--wait", "--timeout", "60s"])?;
    assert_eq!(run.code, 6, "{run:?}");
    assert!(format!("{run:?}").contains("made no progress"), "{run:?}");
    assert_eq!(runs(&cluster)?, before, "the old instances were left alone");
    let service = &cluster.json(&["get", "services", "/shop/web"])?[0];
    assert!(
        service["failed"]["reason"].as_str().unwrap().contains("made no progress"),
        "{service}"
    );
    // The same document again changes nothing: the service stays where it works.
    let again = cluster.ok(&["apply", "-f", &file])?;
    assert!(again.contains("unchanged"), "{again}");
    nothing_failed(&finish(load)?);
    Ok(())
}

#[test]
fn daemons_may_be_killed_at_any_time_of_an_upgrade() -> Result<()> {
    let budget = "rollout: { min_healthy: 75%, max_surge: 25% }";
    let (mut cluster, load, port) = under_load(1, 4, budget)?;
    for (round, victims) in [
        &[Daemon::Server][..],
        &[Daemon::Agent(1)],
        &[Daemon::Server, Daemon::Agent(1)],
        &[Daemon::Agent(1), Daemon::Server],
        &[Daemon::Server],
        &[Daemon::Agent(1)],
    ]
    .iter()
    .enumerate()
    {
        let version = format!("1.{round}");
        let file = cluster.write("web.yaml", &documents(&version, 4, port, budget)?)?;
        cluster.ok(&["apply", "-f", &file])?;
        wait_for("the upgrade to be under way", LIMIT, || {
            let current = |instance: &&serde_json::Value| instance["current"] == true;
            let count = cluster.instances("/shop/web")?.iter().filter(current).count();
            Ok((count > round % 3).then_some(()))
        })?;
        victims.iter().try_for_each(|victim| cluster.kill(*victim))?;
        victims.iter().rev().try_for_each(|victim| cluster.launch(*victim))?;
        wait_for("the upgrade to end", LIMIT, || {
            let service = &cluster.json(&["get", "services", "/shop/web"])?[0];
            Ok((service["state"] == "running").then_some(()))
        })?;
        let runs = runs(&cluster)?;
        assert_eq!(runs.len(), 4, "{runs:?}");
        assert!(runs.values().all(|run| *run == 1), "an instance was restarted: {runs:?}");
        let response = muster_tests::get(port, "/endpoint0")?;
        assert!(response.contains(&format!("\"version\": \"{version}\"")), "{response}");
    }
    nothing_failed(&finish(load)?);
    Ok(())
}
