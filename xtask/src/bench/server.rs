//! A release `muster server` whose nodes are this program: they register, follow their assignments and report their
//! instances as running, so that only the server is measured.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::dev::{free_port, request, wait_for};
use crate::shell::Top;

/// A server without any node but ours.
pub(super) struct Server {
    child: Child,
    port: u16,
    _dir: TempDir,
}

/// A directory that is removed when this is dropped.
pub(super) struct TempDir(pub(super) PathBuf);

impl TempDir {
    /// A new directory's path; `name` makes it unique in this program.
    pub(super) fn new(name: &str) -> TempDir {
        TempDir(std::env::temp_dir().join(format!("muster-bench-{}-{name}", std::process::id())))
    }
}

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
    /// Starts one with these arguments in addition to the usual ones.
    pub(super) fn start(top: &Top, more: &[&str]) -> Result<Server> {
        let port = free_port()?;
        let dir = TempDir::new(&port.to_string());
        let data_dir = dir.0.to_string_lossy().into_owned();
        let listen = format!("127.0.0.1:{port}");
        let mut command = Command::new(top.built("release/muster"));
        command.args(["server", "--data-dir", &data_dir, "--listen", &listen]).args(more);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server { child: quiet.spawn().context("start muster")?, port, _dir: dir };
        wait_for("the server to answer", || Ok(server.send("GET", "/v1/health", "").ok()))?;
        Ok(server)
    }

    /// The port it listens on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One request; the body of its answer.
    pub(super) fn send(&self, method: &str, path: &str, body: &str) -> Result<String> {
        request(TcpStream::connect(("127.0.0.1", self.port))?, method, path, body)
    }

    /// `GET`s JSON.
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.send("GET", path, "")?)?)
    }

    /// Applies documents.
    pub(super) fn apply(&self, text: &str) -> Result<()> {
        let body = json!({ "sources": [{ "name": "bench", "text": text }] });
        self.send("POST", "/v1/apply", &body.to_string()).map(drop)
    }

    /// Introduces a node that can take everything, and on which nothing runs.
    pub(super) fn register(&self, node: &str) -> Result<()> {
        let registration = json!({
            "node": node, "address": "10.0.0.1",
            "agent": {
                "port": 1, "capacity": { "cpu": 1000000, "memory": "1000TiB" }, "labels": {},
                "capabilities": ["process"], "ports": [1024, 65535],
            },
        });
        self.send("POST", "/v1/register", &registration.to_string())?;
        self.report(node, &[], true)
    }

    /// Reports for a node.
    pub(super) fn report(&self, node: &str, instances: &[Value], whole: bool) -> Result<()> {
        let report =
            json!({ "node": node, "generation": 0, "whole": whole, "instances": instances });
        self.send("POST", &format!("/v1/nodes/{node}/report"), &report.to_string()).map(drop)
    }

    /// The ids of all instances, once there is this number.
    pub(super) fn instances(&self, count: usize) -> Result<Vec<String>> {
        wait_for("the instances to be placed", || {
            let all: Vec<Value> = serde_json::from_str(&self.send("GET", "/v1/instances", "")?)?;
            let id = |instance: &Value| Some(instance["instance"].as_str()?.to_string());
            Ok(Some(all.iter().filter_map(id).collect::<Vec<_>>()).filter(|ids| ids.len() == count))
        })
    }

    /// The memory that it holds, in KiB.
    pub(super) fn resident(&self) -> Result<u64> {
        resident(self.child.id())
    }
}

/// The memory that a process holds, in KiB.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("the kernel reports the memory of a process")
}

/// An instance as an agent reports it.
pub(super) fn running(id: &str, healthy: bool) -> Value {
    let at = "2026-01-01T00:00:00.000Z";
    let check = match healthy {
        true => json!({ "consecutive_failures": 0, "first_success": at, "last_success": at }),
        false => json!({ "consecutive_failures": 1, "last_success": at, "last_failure": at }),
    };
    json!([id, {
        "phase": "running", "run": 1, "since": at, "started_at": at, "healthy": healthy,
        "ready": true, "checks": [check],
    }])
}

/// Nodes that follow their assignments, as agents do, and ignore them.
pub(super) struct Followers {
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Followers {
    /// Follows for all these nodes.
    pub(super) fn start(server: &Server, nodes: &[String]) -> Result<Followers> {
        /// The largest delay of a follower.
        const INTERVAL: Duration = Duration::from_millis(50);
        let mut streams = Vec::new();
        for node in nodes {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
            let head = format!("GET /v1/nodes/{node}/assignments HTTP/1.1\r\nhost: bench\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            stream.set_nonblocking(true)?;
            streams.push(stream);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while !stopped.load(Ordering::Relaxed) {
                for stream in &mut streams {
                    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
                }
                std::thread::sleep(INTERVAL);
            }
        });
        Ok(Followers { stop, reader: Some(reader) })
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// The milliseconds since then.
pub(super) fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

/// The milliseconds of the fastest of some runs.
pub(super) fn best(rounds: usize, mut measure: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let began = Instant::now();
        measure()?;
        best = best.min(millis(began));
    }
    Ok(best)
}
