//! Gateways that cannot do what a document asks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Result;
use muster_tests::{Cluster, documents, free_port, get, wait_for};

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
