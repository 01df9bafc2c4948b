//! A server with many instances: memory per instance, and latency of reads.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::dev::{self, request_each};
use super::server::{Followers, Server, best, running};
use super::{Figure, Limit};
use crate::shell::Top;

const NODES: usize = 1_000;
const SERVICES: usize = 1_000;
/// Of each service.
const INSTANCES: usize = 100;
/// Services that are applied together.
const APPLIED: usize = 100;

/// Memory and latency of a server with 100,000 instances.
pub(super) fn instances(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    // Agents that are measured with must not count as lost while they fall silent.
    let server = Server::start(top, &["--lost-after", "1h"])?;
    let nodes: Vec<String> = (0..NODES).map(|i| format!("n-{i}")).collect();
    for node in &nodes {
        server.register(node)?;
    }
    let _followers = Followers::start(&server, &nodes)?;
    let before = settled(&server)?;
    for first in (0..SERVICES).step_by(APPLIED) {
        let documents = (first..first + APPLIED).map(document).collect::<Vec<_>>();
        server.apply(&documents.join("---\n"))?;
    }
    report_all(&server)?;
    let after = settled(&server)?;
    let bytes = after.saturating_sub(before) as f64 * 1024.0 / (SERVICES * INSTANCES) as f64;
    println!("{before} KiB before, {after} KiB after, {bytes:.0} bytes an instance");
    let mut figures =
        vec![Figure::new("memory of one of 100,000 instances", "B", bytes, Limit::Max(1024.0))];
    figures.extend(reads(&server)?);
    Ok(figures)
}

fn document(i: usize) -> String {
    format!(
        "service: /large/part-{}/web-{i}\ninstances: {INSTANCES}\n\
         process: {{ command: [serve, --port, \"${{port.0}}\"] }}\n\
         resources: {{ cpu: 0.1, memory: 64MiB }}\nports: [{{ name: http }}]\n\
         env: {{ MODE: production, GREETING: hello }}\n\
         health: [{{ probe: {{ http: {{ path: /health }} }} }}]\n",
        i % 10
    )
}

/// Reports everything as running, node by node, as agents do.
fn report_all(server: &Server) -> Result<()> {
    let mut of_nodes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for i in 0..SERVICES {
        let path = format!("/v1/instances?service=/large/part-{}/web-{i}", i % 10);
        let listed =
            request_each(Duration::from_millis(100), "the instances to be placed", || {
                let listed = server.get(&path)?;
                Ok(listed.as_array().filter(|listed| listed.len() == INSTANCES).cloned())
            })?;
        for instance in listed {
            let id = instance["instance"].as_str().context("an instance has an id")?;
            let node = instance["node"].as_str().context("an instance has a node")?;
            of_nodes.entry(node.to_owned()).or_default().push(running(id, true));
        }
    }
    for (node, instances) in of_nodes {
        server.report(&node, &instances, true)?;
    }
    request_each(Duration::from_millis(200), "the services to arrive", || {
        let deployments = server.get("/v1/deployments")?;
        let moving = |deployment: &Value| deployment["deployment"]["stage"]["is"] == "running";
        let deployments = deployments.as_array().context("a list")?;
        Ok((!deployments.iter().any(moving)).then_some(()))
    })
}

/// Its resident memory once that is stable, in KiB.
fn settled(server: &Server) -> Result<u64> {
    const STILL: Duration = Duration::from_secs(2);
    let mut last = 0;
    request_each(STILL, "its memory to stay the same", || {
        let now = server.resident()?;
        let is_still = now.abs_diff(last) * 100 <= now;
        last = now;
        Ok(is_still.then_some(now))
    })
}

/// Latency and size of reads.
fn reads(server: &Server) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (what, path, rounds, limit) in [
        ("GET all 100,000 instances", "/v1/instances", 3, 2_000.0),
        (
            "GET the 100 instances of a service",
            "/v1/instances?service=/large/part-0/web-0",
            20,
            20.0,
        ),
        ("GET one service", "/v1/services/large/part-0/web-0", 20, 5.0),
        ("GET all 1,000 nodes", "/v1/nodes", 10, 100.0),
    ] {
        let mut size = 0;
        let taken = best(rounds, || {
            size = server.send("GET", path, "")?.len();
            Ok(())
        })?;
        ensure!(size > 100, "{path} shows nothing");
        figures.push(Figure::new(what, "ms", taken, Limit::Max(limit)));
        let what = format!("size of the answer, {what}");
        figures.push(Figure::new(&what, "KiB", size as f64 / 1024.0, Limit::None));
    }
    Ok(figures)
}
