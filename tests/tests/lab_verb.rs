//! `muster lab --from-cluster` predicts the loss of a node without changing the cluster.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use anyhow::Result;
use muster_tests::{Cluster, documents, free_port, get, wait_for};
use serde_json::Value;

#[test]
fn a_simulated_node_loss_does_not_affect_the_cluster() -> Result<()> {
    let cluster = Cluster::start(2)?;
    let port = free_port()?;
    // Two for each node at most: one of three has nowhere to go once a node is lost.
    let more = "constraints: [[hostname, MAX_PER, \"2\"]]";
    let file = cluster.write("web.yaml", &documents("1", 3, port, more)?)?;
    cluster.ok(&["apply", "-f", &file, "--wait"])?;
    let limit = std::time::Duration::from_secs(20);
    wait_for("the gateway to answer", limit, || Ok(get(port, "/health").ok()))?;

    let stored = || -> Result<Value> {
        let state: Value = serde_json::from_str(&get(cluster.port(), "/v1/state")?)?;
        Ok(state["objects"].clone())
    };
    let before = (stored()?, cluster.ok(&["events", "-o", "json"])?);
    let script = "lose n1; tick 31s; run; settle; show";
    let commands = cluster.json(&["lab", "--from-cluster", "-e", script])?;
    let printed = |command: &str| -> Vec<String> {
        let all = commands.as_array().unwrap().iter();
        let of = all.filter(|output| output["command"] == command);
        let lines = of.flat_map(|output| output["printed"].as_array().unwrap());
        lines.map(|line| line.as_str().unwrap().to_string()).collect()
    };
    println!("{commands:#}");

    let instances = cluster.instances("/shop/web")?;
    let on = |node: &str| -> Vec<&str> {
        let there = instances.iter().filter(|instance| instance["node"] == node);
        there.map(|instance| instance["instance"].as_str().unwrap()).collect()
    };
    let (lost, kept) = (on("n1"), on("n2"));
    assert_eq!(lost.len() + kept.len(), 3);
    let has = |lines: &[String], text: &str| lines.iter().any(|line| line.contains(text));
    let (run, show) = (printed("run"), printed("show"));
    // There is room for two on the node that is left.
    let moved = 2 - kept.len();
    assert_eq!(run.iter().filter(|line| line.starts_with("place ")).count(), moved, "{run:?}");
    assert!(has(&run, "its node is lost"), "{run:?}");
    assert!(has(&run, "n1: its agent is silent"), "{run:?}");
    assert_eq!(show.iter().filter(|line| line.contains(" on n2: running, healthy")).count(), 2);

    let after = (stored()?, cluster.ok(&["events", "-o", "json"])?);
    assert_eq!(before, after, "nothing of it has happened");
    assert_eq!(cluster.instances("/shop/web")?.len(), 3);

    // Lines that are not understood say where, also when they come with a cluster.
    let wrong = cluster.muster(&["lab", "--from-cluster", "-e", "show; lose n11"])?;
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert!(wrong.stderr.contains("-e:2:8"), "{wrong:?}");
    assert!(wrong.stderr.contains("did you mean `n1`?"), "{wrong:?}");
    assert!(wrong.stdout.contains("/shop/web~0.1 @1 on "), "what came before is shown: {wrong:?}");
    Ok(())
}

#[test]
fn scripts_are_checked_and_updated() -> Result<()> {
    let cluster = Cluster::start(0)?;
    let script = "> node n1 cpu=1\n> apply /web instances=2\n> settle\n";
    let file = cluster.write("small.txt", script)?;
    let wrong = cluster.muster(&["lab", "--check", &file])?;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stdout.contains("+   wait /web: no node of 1 can take it"), "{wrong:?}");
    assert!(wrong.stderr.contains("muster lab --update"), "{wrong:?}");
    cluster.ok(&["lab", "--update", &file])?;
    assert_eq!(cluster.ok(&["lab", "--check", &file])?, "");
    assert_eq!(cluster.ok(&["lab", &file])?, std::fs::read_to_string(&file)?);
    Ok(())
}
