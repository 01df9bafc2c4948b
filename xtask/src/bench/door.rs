//! The Marathon door with a large cluster behind it. The nodes are this program: it registers, and
//! reports what is placed as running, so that nothing but the server is measured.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::dev::{self, free_port, request, wait_for};
use super::{Figure, Limit};
use crate::shell::Top;

const APPS: usize = 1000;
const TASKS: usize = 10;
const GROUP: usize = 2000;
const SUBSCRIBERS: usize = 1000;
const EVENTS_PER_SECOND: usize = 1000;

/// A server without any node but ours.
struct Server {
    child: Child,
    port: u16,
    _dir: TempDir,
}

/// A directory that goes away with it.
struct TempDir(std::path::PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(top: &Top) -> Result<Server> {
        let port = free_port()?;
        let dir = TempDir(std::env::temp_dir().join(format!("muster-bench-{port}")));
        let data_dir = dir.0.to_string_lossy().into_owned();
        let listen = format!("127.0.0.1:{port}");
        let mut command = Command::new(top.built("release/muster"));
        command.args(["server", "--data-dir", &data_dir, "--listen", &listen]);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server { child: quiet.spawn().context("start muster")?, port, _dir: dir };
        wait_for("the server to answer", || Ok(server.ask("GET", "/v1/health", "").ok()))?;
        Ok(server)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        request(TcpStream::connect(("127.0.0.1", self.port))?, method, path, body)
    }

    /// Introduces a node that can take everything.
    fn register(&self) -> Result<()> {
        let node = json!({
            "node": "bench", "address": "10.0.0.1",
            "agent": {
                "port": 1, "capacity": { "cpu": 1000000, "memory": "1000TiB" }, "labels": {},
                "capabilities": ["process"], "ports": [1024, 65535],
            },
        });
        self.ask("POST", "/v1/register", &node.to_string())?;
        self.report(&[], true)
    }

    fn report(&self, instances: &[Value], whole: bool) -> Result<()> {
        let report =
            json!({ "node": "bench", "generation": 0, "whole": whole, "instances": instances });
        self.ask("POST", "/v1/nodes/bench/report", &report.to_string()).map(drop)
    }

    /// The ids of all instances, once there are so many.
    fn instances(&self, count: usize) -> Result<Vec<String>> {
        wait_for("the instances to be placed", || {
            let all: Vec<Value> = serde_json::from_str(&self.ask("GET", "/v1/instances", "")?)?;
            let id = |instance: &Value| Some(instance["instance"].as_str()?.to_string());
            Ok(Some(all.iter().filter_map(id).collect::<Vec<_>>()).filter(|ids| ids.len() == count))
        })
    }

    /// The memory that the server holds, in KiB.
    fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.context("the kernel tells how much memory a process holds")
    }
}

fn running(id: &str, healthy: bool) -> Value {
    let at = "2026-01-01T00:00:00.000Z";
    let check = match healthy {
        true => json!({ "consecutive_failures": 0, "last_success": at }),
        false => json!({ "consecutive_failures": 1, "last_success": at, "last_failure": at }),
    };
    json!([id, {
        "phase": "running", "run": 1, "since": at, "started_at": at, "healthy": healthy,
        "ready": true, "checks": [check],
    }])
}

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

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

fn best(rounds: usize, mut measure: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let began = Instant::now();
        measure()?;
        best = best.min(millis(began));
    }
    Ok(best)
}

/// Reads, writes and events of a large cluster.
pub(super) fn marathon(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    let server = Server::start(top)?;
    server.register()?;
    let figure = |what: &str, unit, ours, limit| Figure {
        what: what.to_string(),
        unit,
        ours,
        peer: None,
        limit,
    };
    server.ask("PUT", "/v2/groups//many?force=True", &group("/many", APPS, TASKS))?;
    let ids = server.instances(APPS * TASKS)?;
    let statuses: Vec<Value> = ids.iter().map(|id| running(id, true)).collect();
    server.report(&statuses, true)?;
    let mut figures = Vec::new();
    let list = || {
        let body = server.ask("GET", "/v2/apps", "")?;
        if body.len() < APPS * 100 {
            bail!("that is no list of {APPS} apps");
        }
        Ok(())
    };
    figures.push(figure("GET /v2/apps, 1,000 apps of 10", "ms", best(20, list)?, Limit::Max(50.0)));
    let with_tasks = || server.ask("GET", "/v2/apps?embed=apps.tasks", "").map(drop);
    let taken = best(20, with_tasks)?;
    figures.push(figure("the same with all tasks", "ms", taken, Limit::Max(150.0)));
    let before = server.resident()?;
    for _ in 0..100 {
        with_tasks()?;
    }
    let grown = server.resident()?.saturating_sub(before) as f64 / 1024.0;
    figures.push(figure("memory grown by 100 such reads", "MiB", grown, Limit::Max(32.0)));
    figures.extend(events(&server, &ids, figure)?);
    let body = group("/large", GROUP, 1);
    let began = Instant::now();
    server.ask("PUT", "/v2/groups//large", &body)?;
    figures.push(figure(
        "a group of 2,000 apps, answered",
        "ms",
        millis(began),
        Limit::Max(2000.0),
    ));
    Ok(figures)
}

/// How long a change takes while so many follow so much, beside the same with nobody following.
fn events(
    server: &Server,
    ids: &[String],
    figure: impl Fn(&str, &'static str, f64, Limit) -> Figure,
) -> Result<Vec<Figure>> {
    let alone = commands(server, ids)?;
    let stop = Arc::new(AtomicBool::new(false));
    let received = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
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
        "a change takes {alone:.2} ms alone, {followed:.2} ms with {kept} followers, who were told {} MiB",
        received.load(Ordering::Relaxed) >> 20
    );
    Ok(vec![
        figure("followers that kept up, of 1,000", "", kept as f64, Limit::Min(SUBSCRIBERS as f64)),
        Figure {
            what: "a change, while 1,000 follow".into(),
            unit: "ms",
            ours: followed,
            peer: Some(("alone", alone)),
            limit: Limit::RatioMax(2.0),
        },
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
        server.report(&statuses, false)?;
        let asked = Instant::now();
        let availability = if tick % 2 == 0 { "\"cordoned\"" } else { "\"active\"" };
        server.ask("POST", "/v1/nodes/bench/availability", availability)?;
        times.push(millis(asked));
        std::thread::sleep(TICK.saturating_sub(began.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
