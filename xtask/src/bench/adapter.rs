//! An adapter (the one of `/v2/apps`) with a large cluster behind it. This program plays the nodes: it registers them
//! and reports their instances as running, so that only the server is measured.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::dev;
use super::server::{Server, best, millis, running};
use super::{Figure, Limit};
use crate::shell::Top;

const NODE: &str = "n-0";
const APPS: usize = 1000;
const TASKS: usize = 10;
const GROUP: usize = 2000;
const SUBSCRIBERS: usize = 1000;
const EVENTS_PER_SECOND: usize = 1000;
const VERSIONS: usize = 300;
const VERSION_BYTES: usize = 500_000;

fn group(name: &str, apps: usize, instances: usize) -> String {
    let app = |i: usize| {
        json!({
            "id": format!("a{i}"), "cmd": "sleep 100", "instances": instances, "cpus": 0.01,
            "mem": 1, "portDefinitions": [],
            "healthChecks": [{
                "protocol": "COMMAND", "command": { "value": "true" }, "maxConsecutiveFailures": 0,
            }],
        })
    };
    let apps: Vec<Value> = (0..apps).map(app).collect();
    json!({ "id": name, "apps": apps }).to_string()
}

/// Reads, writes and events of a large cluster.
pub(super) fn large_cluster(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    let server = Server::start(top, &[])?;
    server.register(NODE)?;
    let figure = Figure::new;
    server.send("PUT", "/v2/groups//many?force=True", &group("/many", APPS, TASKS))?;
    let ids = server.instances(APPS * TASKS)?;
    let statuses: Vec<Value> = ids.iter().map(|id| running(id, true)).collect();
    server.report(NODE, &statuses, true)?;
    let mut figures = Vec::new();
    let list = || {
        let body = server.send("GET", "/v2/apps", "")?;
        if body.len() < APPS * 100 {
            bail!("that is no list of {APPS} apps");
        }
        Ok(())
    };
    figures.push(figure("GET /v2/apps, 1,000 apps of 10", "ms", best(20, list)?, Limit::Max(50.0)));
    let with_tasks = || server.send("GET", "/v2/apps?embed=apps.tasks", "").map(drop);
    let taken = best(20, with_tasks)?;
    figures.push(figure("the same with all tasks", "ms", taken, Limit::Max(150.0)));
    let before = server.resident()?;
    for _ in 0..100 {
        with_tasks()?;
    }
    let grown = server.resident()?.saturating_sub(before) as f64 / 1024.0;
    figures.push(figure("memory grown by 100 such reads", "MiB", grown, Limit::Max(32.0)));
    figures.extend(events(&server, &ids)?);
    figures.extend(versions(top)?);
    let body = group("/large", GROUP, 1);
    let began = Instant::now();
    server.send("PUT", "/v2/groups//large", &body)?;
    figures.push(figure(
        "a group of 2,000 apps, answered",
        "ms",
        millis(began),
        Limit::Max(2000.0),
    ));
    Ok(figures)
}

/// The memory that many versions of a large app take, and what of it remains after its removal.
fn versions(top: &Top) -> Result<Vec<Figure>> {
    let server = Server::start(top, &[])?;
    let before = server.resident()?;
    let grown =
        || Ok::<_, anyhow::Error>(server.resident()?.saturating_sub(before) as f64 / 1024.0);
    for version in 0..VERSIONS {
        let text = format!("{version}{}", "x".repeat(VERSION_BYTES));
        let app = json!({ "id": "/large", "cmd": "true", "instances": 0, "env": { "TEXT": text } });
        server.send("PUT", "/v2/apps//large?force=true", &app.to_string())?;
    }
    let (name, most) = ("memory of 300 versions of an app of 500 kB", grown()?);
    server.send("DELETE", "/v2/apps//large?force=true", "")?;
    // The cache is pruned with a commit.
    let app = json!({ "id": "/small", "cmd": "true", "instances": 0 });
    server.send("PUT", "/v2/apps//small?force=true", &app.to_string())?;
    Ok(vec![
        Figure::new(name, "MiB", most, Limit::Max(128.0)),
        Figure::new("the same after its removal", "MiB", grown()?, Limit::Max(96.0)),
    ])
}

/// The latency of a change with many followers, compared with the latency without followers.
fn events(server: &Server, ids: &[String]) -> Result<Vec<Figure>> {
    let alone = commands(server, ids)?;
    let stop = Arc::new(AtomicBool::new(false));
    let received = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port()))?;
        stream.write_all(
            b"GET /v2/events?plan-format=light HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n\r\n",
        )?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let (stop, received) = (Arc::clone(&stop), Arc::clone(&received));
        let read = move || {
            let mut buffer = vec![0; 64 << 10];
            while !stop.load(Ordering::Relaxed) {
                match stream.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(count) => drop(received.fetch_add(count as u64, Ordering::Relaxed)),
                    Err(_) => {}
                }
            }
            true
        };
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(read);
        readers.push(thread.context("start a subscriber")?);
    }
    let followed = commands(server, ids)?;
    stop.store(true, Ordering::Relaxed);
    let kept = readers.into_iter().filter_map(|reader| reader.join().ok()).filter(|kept| *kept);
    let kept = kept.count();
    println!(
        "a change takes {alone:.2} ms alone, {followed:.2} ms with {kept} followers, which received {} MiB",
        received.load(Ordering::Relaxed) >> 20
    );
    Ok(vec![
        Figure::new(
            "followers that kept up, of 1,000",
            "",
            kept as f64,
            Limit::Min(SUBSCRIBERS as f64),
        ),
        Figure::new("a change, while 1,000 follow", "ms", followed, Limit::RatioMax(2.0))
            .with_peer("alone", alone),
    ])
}

/// The median time of a change while things happen at the given rate, for some seconds.
fn commands(server: &Server, ids: &[String]) -> Result<f64> {
    const TICKS: usize = 60;
    const TICK: Duration = Duration::from_millis(50);
    let per_tick = EVENTS_PER_SECOND / 20;
    let mut times = Vec::new();
    for tick in 0..TICKS {
        let began = Instant::now();
        let chosen = ids.iter().cycle().skip(tick / 2 * per_tick).take(per_tick);
        let statuses: Vec<Value> = chosen.map(|id| running(id, tick % 2 == 1)).collect();
        server.report(NODE, &statuses, false)?;
        let sent_at = Instant::now();
        let availability = if tick % 2 == 0 { "\"cordoned\"" } else { "\"active\"" };
        server.send("POST", "/v1/nodes/n-0/availability", availability)?;
        times.push(millis(sent_at));
        std::thread::sleep(TICK.saturating_sub(began.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
