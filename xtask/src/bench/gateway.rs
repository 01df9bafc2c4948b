//! The gateway compared with HAProxy and nginx: the same backend, the same load, the same single core.
//!
//! All are started in front of a backend that answers as fast as a loop over sockets can, and
//! take turns under a load of kept connections; the best of each counts. The cost of a request is
//! processor time over requests, which hardly depends on other load.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::dev::{free_port, wait_for};
use super::node::cpu_micros;
use super::{Figure, Limit};
use crate::apt::{self, Package};
use crate::shell::{self, Top};

const PACKAGES: &[Package] = &[
    Package { program: "haproxy", package: "haproxy" },
    Package { program: "nginx", package: "nginx-light" },
    Package { program: "wrk", package: "wrk" },
    Package { program: "taskset", package: "util-linux" },
];

/// Turns of each.
const ROUNDS: usize = 3;
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

/// The result of one turn of load.
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

/// Requests a second, their processor time and their latencies, beside those of others.
pub(super) fn compare_with_peers(top: &Top) -> Result<Vec<Figure>> {
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
    let mut peers = [("HAProxy", haproxy(top, &backend)?), ("nginx", nginx(top, &backend)?)];
    for proxy in peers.iter().map(|(_, peer)| peer).chain([&ours]) {
        wait_for("a proxy to listen", || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", proxy.port)).ok())
        })?;
    }
    for _ in 0..ROUNDS {
        turn(&mut ours)?;
        peers.iter_mut().try_for_each(|(_, peer)| turn(peer))?;
    }
    let ours = ours.best.context("nothing was measured")?;
    let mut figures = Vec::new();
    for (name, peer) in peers {
        let peer = peer.best.context("nothing was measured")?;
        let mut figure = |what: &str, unit, value: fn(&Turn) -> f64, limit| {
            let figure = Figure::new(what, unit, value(&ours), limit);
            figures.push(figure.with_peer(name, value(&peer)));
        };
        figure("processor time of a request", "us", |t| t.micros_of_cpu, Limit::RatioMax(1.0));
        figure("requests", "1/s", |t| t.requests_per_second, Limit::RatioMin(1.0));
        figure("latency, median", "us", |t| t.p50, Limit::RatioMax(1.1));
        figure("latency, 99th percentile", "us", |t| t.p99, Limit::RatioMax(1.5));
    }
    Ok(figures)
}

fn haproxy(top: &Top, backend: &str) -> Result<Proxy> {
    let port = free_port()?;
    let config = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  \
         timeout client 60s\n  timeout server 60s\n  http-reuse always\n  option forwardfor\n\
         frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  server s {backend}\n"
    );
    peer(top, &["haproxy", "-db", "-f"], &config, port)
}

fn nginx(top: &Top, backend: &str) -> Result<Proxy> {
    let port = free_port()?;
    // One process, so that all that it uses is seen; connections are kept for as long as they last.
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off; keepalive_requests 1000000000;\n  \
         client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;\n  \
         uwsgi_temp_path tmp; scgi_temp_path tmp;\n  \
         upstream b {{ server {backend}; keepalive 256; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://b;\n      \
         proxy_http_version 1.1; proxy_set_header Connection \"\";\n      \
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n}}\n"
    );
    let folder = top.built("bench-nginx");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.to_str().context("the repository's path is text")?;
    peer(top, &["nginx", "-p", folder, "-c"], &config, port)
}

/// Starts another proxy on the core of the proxies, its configuration after its other arguments.
fn peer(top: &Top, words: &[&str], config: &str, port: u16) -> Result<Proxy> {
    let path = top.built(format!("bench-{}.conf", words[0]));
    std::fs::write(&path, config)?;
    let mut command = Command::new("taskset");
    command.args(["-c", PROXY_CORE]).args(words).arg(path);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let running = Running(child.with_context(|| format!("start {}", words[0]))?);
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

/// Reads the report of wrk.
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
