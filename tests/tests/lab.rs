//! The modes of a classic zero-downtime lab, as Marathon apps on Docker: default behaviour, with
//! health checks, with readiness checks, and with minimal overcapacity. Each is upgraded under
//! load by changing one variable; kills and starts must come in the order the budget says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use muster_tests::{Cluster, Load, free_port, lab, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// The largest number of instances that were live, and the smallest that were in traffic, from
/// the events of an upgrade of four instances.
struct Extremes {
    most_live: i64,
    least_serving: i64,
    /// Starts and departures of the first batch.
    first: (usize, usize),
}

fn extremes(events: &[Value]) -> Extremes {
    let kind = |event: &Value| event["kind"].as_str().unwrap_or_default().to_string();
    let (mut live, mut serving) = (4i64, 4i64);
    let mut extremes = Extremes { most_live: live, least_serving: serving, first: (0, 0) };
    let mut left = BTreeSet::new();
    let first_at = events.iter().find(|event| kind(event) == "placed").map(|event| &event["at"]);
    for event in events {
        let subject = event["subject"].to_string();
        match kind(event).as_str() {
            "placed" => live += 1,
            "stopped" => live -= 1,
            "ready" => serving += 1,
            "draining" | "stopping" if left.insert(subject.clone()) => serving -= 1,
            _ => {}
        }
        if Some(&event["at"]) == first_at {
            extremes.first.0 += usize::from(kind(event) == "placed");
            extremes.first.1 += usize::from(kind(event) == "draining");
        }
        extremes.most_live = extremes.most_live.max(live);
        extremes.least_serving = extremes.least_serving.min(serving);
    }
    extremes
}

/// Applies version 0.9 of an app, upgrades it to 1.0 under load, and returns the events.
fn upgraded(name: &str) -> Result<Extremes> {
    let (old, new) = (lab(name, "0.9")?, lab(name, "1.0")?);
    let id = old["id"].as_str().unwrap();
    let cluster = Cluster::start(1)?;
    let port = free_port()?;
    let file = cluster.write("app.json", &old.to_string())?;
    cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "120s"])?;
    let gateway = format!("gateway: lab\nlisten: 127.0.0.1:{port}\nroutes: [{{ to: {id} }}]\n");
    let gateway = cluster.write("gateway.yaml", &gateway)?;
    cluster.ok(&["apply", "-f", &gateway])?;
    let responses = || Ok(muster_tests::get(port, "/endpoint0").ok());
    wait_for("the gateway to answer", LIMIT, responses)?;
    let load = Load::start(port, "/endpoint0", 4);
    wait_for("load", LIMIT, || Ok((load.requests() > 200).then_some(())))?;

    let mark = last_event(&cluster)?;
    let file = cluster.write("app.json", &new.to_string())?;
    cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "120s"])?;
    let so_far = load.requests();
    wait_for("more load", LIMIT, || Ok((load.requests() > so_far + 200).then_some(())))?;
    let seen = load.finish();
    assert!(seen.failed.is_empty(), "{:#?}", seen.failed);
    assert!(seen.versions["0.9"] > 0 && seen.versions["1.0"] > 0, "{:?}", seen.versions);

    let events = cluster.json(&["get", "events"])?;
    let later = |event: &&Value| event["number"].as_u64() > Some(mark);
    let ours = |event: &&Value| event["service"] == id;
    let events: Vec<Value> =
        events.as_array().unwrap().iter().filter(later).filter(ours).cloned().collect();
    cluster.ok(&["rm", id, "gateway/lab", "--wait"])?;
    Ok(extremes(&events))
}

fn last_event(cluster: &Cluster) -> Result<u64> {
    let events = cluster.json(&["get", "events"])?;
    Ok(events.as_array().and_then(|events| events.last()?["number"].as_u64()).unwrap_or(0))
}

#[test]
fn without_checks_all_new_instances_start_before_an_old_one_stops() -> Result<()> {
    let extremes = upgraded("base")?;
    assert_eq!(extremes.first, (4, 0));
    assert!(extremes.most_live <= 8 && extremes.least_serving >= 4);
    Ok(())
}

#[test]
fn with_health_checks_old_instances_stop_as_new_ones_become_healthy() -> Result<()> {
    let extremes = upgraded("base-health")?;
    assert_eq!(extremes.first, (4, 0));
    assert!(extremes.most_live <= 8 && extremes.least_serving >= 4);
    Ok(())
}

#[test]
fn with_a_readiness_check_old_instances_stop_as_new_ones_become_ready() -> Result<()> {
    let extremes = upgraded("base-ready")?;
    assert_eq!(extremes.first, (4, 0));
    assert!(extremes.most_live <= 8 && extremes.least_serving >= 4);
    Ok(())
}

#[test]
fn with_minimal_overcapacity_three_stop_and_one_starts_at_once() -> Result<()> {
    let extremes = upgraded("base-min-over")?;
    assert_eq!(extremes.first, (1, 3), "one starts and three leave in the first batch");
    assert!(extremes.most_live <= 5, "{} live", extremes.most_live);
    assert!(extremes.least_serving >= 1, "{} in traffic", extremes.least_serving);
    Ok(())
}
