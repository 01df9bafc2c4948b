//! The gateway beside HAProxy: the same backend, the same load, the same single core.
//!
//! Both are started in front of a backend that answers as fast as a loop over sockets can, and
//! take turns under a load of kept connections; the best of each counts. What a request costs is
//! processor time over requests, which hardly depends on what else the machine does.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::dev::{free_port, wait_for};
use super::{Figure, Limit};
use crate::apt::{self, Package};
use crate::shell::{self, Top};

const PACKAGES: &[Package] = &[
    Package { program: "haproxy", package: "haproxy" },
    Package { program: "wrk", package: "wrk" },
    Package { program: "taskset", package: "util-linux" },
];

/// Turns of each.
const ROUNDS: usize = 4;
const SECONDS: u32 = 4;
const CONNECTIONS: u32 = 50;
/// The core of the proxies, and that of the load and the backend.
const PROXY_CORE: &str = "0";
const OTHER_CORE: &str = "1";

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a turn of load has shown.
#[derive(Debug, Clone, Copy)]
struct Turn {
    requests_per_second: f64,
    micros_of_cpu: f64,
    p50: f64,
    p99: f64,
}

/// A proxy under measurement.
struct Proxy {
    running: Running,
    port: u16,
    best: Option<Turn>,
}

/// Requests a second, their processor time and their latencies, beside HAProxy's.
pub(super) fn beside_haproxy(top: &Top) -> Result<Vec<Figure>> {
    apt::ensure(top, PACKAGES)?;
    let build =
        ["build", "--release", "--quiet", "-p", "muster-gateway", "--example", "bench_proxy"];
    shell::run(&mut top.cargo(&build))?;
    let program = top.built("release/examples/bench_proxy");
    let program = program.to_str().context("the repository's path is text")?;
    let backend_port = free_port()?;
    let backend = format!("127.0.0.1:{backend_port}");
    let _backend = start(OTHER_CORE, &[program, "--serve", &backend])?;

    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let arguments = [program, "--listen", &listen, "--backend", &backend, "--threads", "1"];
    let mut ours = Proxy { running: start(PROXY_CORE, &arguments)?, port, best: None };
    let mut peer = haproxy(top, &backend)?;
    for proxy in [&ours, &peer] {
        wait_for("a proxy to listen", || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", proxy.port)).ok())
        })?;
    }
    for _ in 0..ROUNDS {
        turn(&mut ours)?;
        turn(&mut peer)?;
    }
    let (Some(ours), Some(peer)) = (ours.best, peer.best) else { bail!("nothing was measured") };
    println!("ours {ours:?}\nHAProxy {peer:?}");
    let figure = |what: &str, unit, value: fn(&Turn) -> f64, limit| Figure {
        what: what.into(),
        unit,
        ours: value(&ours),
        peer: Some(("HAProxy", value(&peer))),
        limit,
    };
    Ok(vec![
        figure("processor time of a request", "us", |t| t.micros_of_cpu, Limit::RatioMax(1.0)),
        figure("requests", "1/s", |t| t.requests_per_second, Limit::RatioMin(1.0)),
        figure("latency, median", "us", |t| t.p50, Limit::RatioMax(1.1)),
        figure("latency, 99th percentile", "us", |t| t.p99, Limit::RatioMax(1.5)),
    ])
}

fn haproxy(top: &Top, backend: &str) -> Result<Proxy> {
    let port = free_port()?;
    let config = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  \
         timeout client 60s\n  timeout server 60s\n  http-reuse always\n  option forwardfor\n\
         frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  server s {backend}\n"
    );
    let path = top.join("target/bench-haproxy.cfg");
    std::fs::write(&path, config)?;
    let path = path.to_str().context("the repository's path is text")?;
    let mut command = Command::new("taskset");
    command.args(["-c", PROXY_CORE, "haproxy", "-db", "-f", path]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let running = Running(child.context("start haproxy")?);
    Ok(Proxy { running, port, best: None })
}

/// Starts something on one core and waits for its first line.
fn start(core: &str, words: &[&str]) -> Result<Running> {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).args(words).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().with_context(|| format!("start {}", words[0]))?);
    let stdout = running.0.stdout.take().context("its output is piped")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() != "ready" {
        bail!("{} did not get ready", words[0]);
    }
    Ok(running)
}

/// One turn of load on a proxy; the best of each figure is kept.
fn turn(proxy: &mut Proxy) -> Result<()> {
    let before = cpu_micros(proxy.running.0.id())?;
    let url = format!("http://127.0.0.1:{}/", proxy.port);
    let (connections, time) = (format!("-c{CONNECTIONS}"), format!("-d{SECONDS}s"));
    let arguments = ["-c", OTHER_CORE, "wrk", "-t1", &connections, &time, "--latency", &url];
    let report = shell::output(Command::new("taskset").args(arguments))?;
    let used = cpu_micros(proxy.running.0.id())? - before;
    let turn = read(&report, used).with_context(|| format!("wrk said:\n{report}"))?;
    let best = proxy.best.unwrap_or(turn);
    proxy.best = Some(Turn {
        requests_per_second: best.requests_per_second.max(turn.requests_per_second),
        micros_of_cpu: best.micros_of_cpu.min(turn.micros_of_cpu),
        p50: best.p50.min(turn.p50),
        p99: best.p99.min(turn.p99),
    });
    Ok(())
}

/// Reads what wrk reports.
fn read(report: &str, used: f64) -> Result<Turn> {
    if report.contains("Non-2xx") || report.contains("Socket errors") {
        bail!("some requests failed");
    }
    let after = |label: &str| {
        let line = report.lines().find_map(|line| line.trim().strip_prefix(label));
        line.map(str::trim).with_context(|| format!("there is no `{label}`"))
    };
    let total = report.lines().find(|line| line.contains(" requests in "));
    let total = total.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(Turn {
        requests_per_second: after("Requests/sec:")?.parse()?,
        micros_of_cpu: used / total.context("there is no number of requests")?,
        p50: micros(after("50%")?)?,
        p99: micros(after("99%")?)?,
    })
}

fn micros(text: &str) -> Result<f64> {
    let end = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..end].parse().with_context(|| format!("`{text}` is no time"))?;
    Ok(match &text[end..] {
        "us" => number,
        "ms" => number * 1e3,
        _ => number * 1e6,
    })
}

/// The processor time that a process has used, all its threads together.
fn cpu_micros(pid: u32) -> Result<f64> {
    /// What the kernel counts in, on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let ticks: f64 = ticks.collect::<Result<Vec<_>, _>>()?.into_iter().sum();
    Ok(ticks * 1e6 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let report = "Running 4s test\n  Latency Distribution\n     50%  812.00us\n     \
                      75%    1.00ms\n     99%    2.50ms\n  240000 requests in 4.00s, 30MB read\n\
                      Requests/sec:  60000.00\nTransfer/sec: 7MB\n";
        let turn = read(report, 2_400_000.0).unwrap();
        assert_eq!((turn.requests_per_second, turn.micros_of_cpu), (60_000.0, 10.0));
        assert_eq!((turn.p50, turn.p99), (812.0, 2500.0));
        assert!(read(&format!("{report}  Non-2xx or 3xx responses: 3\n"), 1.0).is_err());
    }
}
