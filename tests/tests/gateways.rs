//! Gateways that cannot do what a document asks, or not on every thread.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use muster_tests::{Cluster, Daemon, documents, free_port, get, wait_for};
use rustix::process::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn apply_fails_if_a_gateway_cannot_listen_and_the_previous_listener_stays_open() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let (port, taken) = (free_port()?, TcpListener::bind("127.0.0.1:0")?);
    let file = cluster.write("web.yaml", &documents("0.9", 1, port, "")?)?;
    cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "30s"])?;
    get(port, "/endpoint0")?;
    let next = taken.local_addr()?.port();
    let moved = cluster.write("moved.yaml", &documents("0.9", 1, next, "")?)?;
    let run = cluster.muster(&["apply", "-f", &moved, "--wait", "--timeout", "30s"])?;
    assert_eq!(run.code, 6, "{run:?}");
    let message = format!("gateway public cannot listen on 127.0.0.1:{next}");
    assert!(run.stderr.contains(&message) && run.stderr.contains("in use"), "{run:?}");
    get(port, "/endpoint0")?;
    drop(taken);
    wait_for("the new listener", LIMIT, || Ok(get(next, "/endpoint0").ok()))?;
    wait_for("the old one to close", LIMIT, || Ok(get(port, "/endpoint0").err().map(drop)))?;
    cluster.ok(&["apply", "-f", &moved, "--wait", "--timeout", "30s"])?;
    Ok(())
}

/// `--spin-on` stands for any loop without an end.
#[test]
fn a_gateway_with_a_stuck_thread_is_reported_serves_and_ends() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let port = free_port()?;
    let file = cluster.write("web.yaml", &documents("0.9", 1, port, "")?)?;
    cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "30s"])?;
    cluster.end(Daemon::Gateway, Signal::TERM)?;
    cluster.set_gateway_args(&["--threads", "2", "--spin-on", "/spin"]);
    cluster.launch(Daemon::Gateway)?;
    wait_for("the gateway to serve", LIMIT, || Ok(get(port, "/endpoint0").ok()))?;
    let mut spinning = TcpStream::connect(("127.0.0.1", port))?;
    spinning.write_all(b"GET /spin HTTP/1.1\r\nhost: a\r\n\r\n")?;
    let stuck = || -> Result<Vec<Value>> {
        let events = cluster.json(&["get", "events"])?;
        let events = events.as_array().context("a list")?;
        let is_stuck = |event: &&Value| event["kind"] == "gateway-thread-stuck";
        Ok(events.iter().filter(is_stuck).cloned().collect())
    };
    let event = wait_for("the report", LIMIT, || Ok(stuck()?.pop()))?;
    let task = format!("is stuck in a connection of {}", spinning.local_addr()?);
    assert!(event["message"].as_str().is_some_and(|text| text.contains(&task)), "{event}");
    let described = cluster.ok(&["describe", "gateway", "public"])?;
    assert!(described.contains(&task), "{described}");
    // The kernel gives new connections to the other thread only.
    for _ in 0..50 {
        get(port, "/endpoint0")?;
    }
    assert_eq!(stuck()?.len(), 1);
    assert!(cluster.end(Daemon::Gateway, Signal::TERM)?.success());
    Ok(())
}
