//! The resources of an idle node and its server, and how long a dead node goes unnoticed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::dev::{self, PATIENT, request_each};
use super::node::{Node, Part, cpu_micros};
use super::server::{Server, millis};
use super::{Figure, Limit};
use crate::shell::Top;

const INSTANCES: usize = 100;
/// Time after which a started program is idle.
const REST: Duration = Duration::from_secs(4);
const WATCHED: Duration = Duration::from_secs(20);
/// Of one core.
const PERCENT_MAX: f64 = 0.5;

fn document(top: &Top, name: &str, instances: usize, checks: &str) -> String {
    format!(
        "service: /bench/{name}\ninstances: {instances}\n\
         process: {{ command: [\"{}\"] }}\nresources: {{ cpu: 0.001, memory: 64MiB }}\n\
         ports: [{{ name: http }}]\nenv: {{ LOG_REQUESTS: \"0\" }}\n\
         stop: {{ grace: 1s, drain: 0s }}\n{checks}",
        top.built("release/simpleservice").display()
    )
}

/// Waits until this number of instances of a service is ready, and returns their nodes.
fn ready(server: &Server, name: &str, instances: usize) -> Result<Vec<String>> {
    request_each(PATIENT, "the instances to be ready", || {
        let listed = server.get(&format!("/v1/instances?service=/bench/{name}"))?;
        let listed = listed.as_array().context("a list")?;
        let ready = listed.iter().filter(|instance| instance["status"]["ready"] == true);
        let ready = ready.filter(|instance| instance["status"]["phase"] == "running");
        let nodes: Vec<String> =
            ready.filter_map(|instance| instance["node"].as_str()).map(str::to_owned).collect();
        Ok((nodes.len() == instances).then_some(nodes))
    })
}

/// The processor time and memory of an agent and a server with 100 instances at rest.
pub(super) fn idle(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    let mut figures = Vec::new();
    for (what, checks) in [
        ("", ""),
        (" checked each 10 s", "health: [{ probe: { http: { path: /health } }, interval: 10s }]\n"),
    ] {
        let server = Server::start(top, &[])?;
        let node = Node::start(top, &server, "n1")?;
        server.apply(&document(top, "idle", INSTANCES, checks))?;
        ready(&server, "idle", INSTANCES)?;
        std::thread::sleep(REST);
        let keepers = node.pids(Part::Keeper);
        let of = |pids: &[u32]| pids.iter().map(|pid| cpu_micros(*pid)).sum::<Result<f64>>();
        let all = || -> Result<[f64; 3]> {
            Ok([of(&node.pids(Part::Agent))?, of(&keepers)?, of(&[server.pid()])?])
        };
        let (began, before) = (Instant::now(), all()?);
        std::thread::sleep(WATCHED);
        let (after, seconds) = (all()?, began.elapsed().as_secs_f64());
        let percent = |i: usize| (after[i] - before[i]) / seconds / 1e4;
        let mut figure = |of_whom: &str, i: usize| {
            let what = format!("{of_whom}, {INSTANCES} instances at rest{what}");
            figures.push(Figure::new(&what, "% of a core", percent(i), Limit::Max(PERCENT_MAX)));
        };
        figure("agent", 0);
        figure("keeper", 1);
        figure("server", 2);
        if checks.is_empty() {
            let (agent, keeper) = node.resident()?;
            let mebibytes = |kibibytes: u64| kibibytes as f64 / 1024.0;
            let what = format!("memory of an agent of {INSTANCES} instances");
            figures.push(Figure::new(&what, "MiB", mebibytes(agent), Limit::Max(15.0)));
            figures.push(Figure::new(
                "memory of its keeper",
                "MiB",
                mebibytes(keeper),
                Limit::None,
            ));
            let server = mebibytes(server.resident()?);
            figures.push(Figure::new("memory of its server", "MiB", server, Limit::None));
        }
    }
    Ok(figures)
}

/// From the death of a node with all that it runs until the same runs elsewhere.
pub(super) fn loss(top: &Top) -> Result<Vec<Figure>> {
    /// How long an agent may be silent; the least that makes sense with a sign of life each 2 s.
    const SILENCE: Duration = Duration::from_secs(5);
    const LOST: usize = 10;
    dev::build(top)?;
    let server = Server::start(top, &["--lost-after", &format!("{}s", SILENCE.as_secs())])?;
    let mut lost = Node::start(top, &server, "n1")?;
    let readiness = "readiness: { probe: { http: { path: /health } } }\n";
    server.apply(&document(top, "lost", LOST, readiness))?;
    ready(&server, "lost", LOST)?;
    let heir = Node::start(top, &server, "n2")?;
    let began = Instant::now();
    lost.lose()?;
    request_each(PATIENT, "the instances to be replaced", || {
        let nodes = ready(&server, "lost", LOST)?;
        Ok(nodes.iter().all(|node| node == heir.name()).then_some(()))
    })?;
    let what = format!("{LOST} instances of a dead node, ready elsewhere");
    let limit = Limit::Max(SILENCE.as_secs_f64() * 1000.0 + 1_000.0);
    let silence = Figure::new(&what, "ms", millis(began), limit);
    Ok(vec![silence.with_peer("silence allowed", SILENCE.as_secs_f64() * 1000.0)])
}
