//! Servers with the wrong store: an empty one, that of another cluster, an old copy. None of them
//! stops an instance or changes a route until an operator decides.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_tests::{Cluster, Daemon, free_port, get, wait_for};
use rustix::process::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Two instances behind the gateway, which listens on the port.
fn begin(cluster: &Cluster) -> Result<u16> {
    let listen = free_port()?;
    let simpleservice = Cluster::simpleservice()?;
    let document = format!(
        "service: /shop/web\ninstances: 2\nprocess: {{ command: [{simpleservice}] }}\n\
         ports: [{{ name: http }}]\nresources: {{ cpu: 0.1, memory: 32MiB }}\n\
         readiness: {{ probe: {{ http: {{ path: /health }} }}, interval: 200ms }}\n\
         ---\ngateway: shop\nlisten: 127.0.0.1:{listen}\nroutes: [{{ to: \"/shop/web:http\" }}]\n",
        simpleservice = simpleservice.display(),
    );
    let file = cluster.write("web.yaml", &document)?;
    cluster.ok(&["apply", "-f", &file, "--wait"])?;
    Ok(listen)
}

/// The processes of the service.
fn running(cluster: &Cluster) -> BTreeSet<i32> {
    cluster.processes("simpleservice").into_iter().map(|pid| pid.as_raw_nonzero().get()).collect()
}

/// Starts the server on another store: `to` is put in the place of the present one, which becomes
/// `from`. Without `to`, the store is empty.
fn swap_store(cluster: &mut Cluster, from: &str, to: Option<&str>) -> Result<()> {
    cluster.end(Daemon::Server, Signal::TERM)?;
    let dir = cluster.dir().to_path_buf();
    fs::rename(dir.join("server"), dir.join(from))?;
    if let Some(to) = to {
        fs::rename(dir.join(to), dir.join("server"))?;
    }
    cluster.launch(Daemon::Server)
}

/// Waits until the server has refused the agent and the gateway; returns why, as data.
fn refused(cluster: &Cluster) -> Result<Vec<Value>> {
    wait_for("the daemons to be refused", LIMIT, || {
        let view = cluster.json(&["cluster"])?;
        let refused = view["refused"].as_array().context("a list")?;
        Ok((refused.len() == 2).then(|| refused.clone()))
    })
}

fn cluster_id(cluster: &Cluster) -> Result<String> {
    let versions = cluster.json(&["version"])?;
    Ok(versions["cluster"].as_str().context("an id")?.to_string())
}

/// Waits until the agent's node is ready.
fn ready(cluster: &Cluster) -> Result<()> {
    wait_for("the node to be ready", LIMIT, || {
        let nodes = cluster.json(&["get", "nodes"])?;
        let is_ready = |node: &Value| node["node"]["id"] == "n1" && node["state"] == "ready";
        Ok(nodes.as_array().context("a list")?.iter().any(is_ready).then_some(()))
    })
}

#[test]
fn a_server_with_an_empty_store_stops_no_instance() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let listen = begin(&cluster)?;
    let (own, before) = (cluster_id(&cluster)?, running(&cluster));
    assert_eq!(before.len(), 2);
    swap_store(&mut cluster, "right", None)?;
    let other = cluster_id(&cluster)?;
    assert_ne!(own, other);
    for one in refused(&cluster)? {
        assert_eq!(one["mismatch"]["mismatch"], "other-cluster", "{one}");
    }
    assert_eq!(running(&cluster), before);
    get(listen, "/health").context("the gateway keeps its routes")?;
    for daemon in ["n1", "gateway"] {
        let log = cluster.log(daemon);
        let expected = format!("the server is of cluster {other}, not of {own}");
        assert!(log.contains(&expected) && log.contains("--adopt-cluster"), "{daemon}: {log}");
    }
    let events = cluster.ok(&["events"])?;
    assert!(events.contains("its agent does not follow this server"), "{events}");
    swap_store(&mut cluster, "empty", Some("right"))?;
    ready(&cluster)?;
    assert_eq!(running(&cluster), before);
    // Ordinary removal still stops instances.
    cluster.ok(&["rm", "gateway/shop", "/shop/web", "--wait"])?;
    wait_for("the instances to stop", LIMIT, || Ok(running(&cluster).is_empty().then_some(())))
}

#[test]
fn an_agent_that_adopts_another_cluster_keeps_its_instances() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    begin(&cluster)?;
    let before = running(&cluster);
    swap_store(&mut cluster, "right", None)?;
    refused(&cluster)?;
    cluster.end(Daemon::Agent(1), Signal::TERM)?;
    let id = cluster_id(&cluster)?;
    cluster.launch_with(Daemon::Agent(1), &["--adopt-cluster", &id])?;
    let unknown = wait_for("the instances to be reported", LIMIT, || {
        let view = cluster.json(&["cluster"])?;
        let unknown = view["unknown"]["n1"].as_array().map_or(0, Vec::len);
        Ok((unknown == 2).then_some(view))
    })?;
    assert_eq!(running(&cluster), before, "{unknown}");
    let nodes = cluster.ok(&["get", "nodes"])?;
    assert!(nodes.contains("ready, 2 unknown instances"), "{nodes}");
    let document = "service: /other\nprocess: { command: [sleep, \"60\"] }\n";
    let file = cluster.write("other.yaml", document)?;
    cluster.ok(&["apply", "-f", &file])?;
    let waits = wait_for("the service to wait", LIMIT, || {
        let described = cluster.ok(&["describe", "service", "/other"])?;
        Ok(described.contains("unknown instances").then_some(described))
    })?;
    assert!(waits.contains("n1  runs unknown instances (2)"), "{waits}");
    cluster.ok(&["cluster", "stop-unknown", "n1"])?;
    wait_for("the instances to stop", LIMIT, || Ok(running(&cluster).is_empty().then_some(())))?;
    cluster.ok(&["rollout", "status", "/other"]).map(drop)
}

#[test]
fn an_old_copy_of_the_store_is_refused_until_its_loss_is_accepted() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let listen = begin(&cluster)?;
    cluster.end(Daemon::Server, Signal::TERM)?;
    fs::create_dir(cluster.dir().join("old"))?;
    fs::copy(cluster.dir().join("server/state.db"), cluster.dir().join("old/state.db"))?;
    cluster.launch(Daemon::Server)?;
    ready(&cluster)?;
    cluster.ok(&["scale", "/shop/web", "3", "--wait"])?;
    let before = running(&cluster);
    assert_eq!(before.len(), 3);
    let id = cluster_id(&cluster)?;
    swap_store(&mut cluster, "newest", Some("old"))?;
    assert_eq!(cluster_id(&cluster)?, id);
    for one in refused(&cluster)? {
        assert_eq!(one["mismatch"]["mismatch"], "older", "{one}");
    }
    for daemon in ["n1", "gateway", "server"] {
        let log = cluster.log(daemon);
        assert!(log.contains("the server's store is older than revision"), "{daemon}: {log}");
    }
    get(listen, "/health").context("the gateway keeps its routes")?;
    assert_ne!(cluster.muster(&["cluster", "accept-loss", "0123456789abcdef"])?.code, 0);
    cluster.ok(&["cluster", "accept-loss", &id])?;
    let unknown = wait_for("the lost instance to be reported", LIMIT, || {
        let view = cluster.json(&["cluster"])?;
        Ok(view["unknown"]["n1"].as_array().cloned())
    })?;
    assert_eq!(unknown, ["/shop/web~2.1"]);
    assert_eq!(running(&cluster), before);
    cluster.ok(&["cluster", "stop-unknown", "n1"])?;
    wait_for("it to stop", LIMIT, || Ok((running(&cluster).len() == 2).then_some(())))?;
    assert!(running(&cluster).is_subset(&before));
    Ok(())
}
