//! A release `muster dev` to measure, and just enough HTTP to speak to it and to dockerd.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell::{self, Top};

/// A cluster of one, in one process. Dropping it stops it and all that it runs.
pub(super) struct Dev {
    child: Child,
    port: u16,
}

/// A free port.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Between two requests whose responses contain the time: the measured program needs the cores.
pub(super) const PATIENT: Duration = Duration::from_millis(20);

/// Asks, about each millisecond, until `condition` gives a value.
pub(super) fn wait_for<T>(what: &str, condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    request_each(Duration::from_millis(1), what, condition)
}

/// Asks at this interval until `condition` gives a value.
pub(super) fn request_each<T>(
    interval: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    const LIMIT: Duration = Duration::from_secs(60);
    let started = Instant::now();
    loop {
        if let Ok(Some(value)) = condition() {
            return Ok(value);
        }
        if started.elapsed() > LIMIT {
            bail!("waited {LIMIT:?} in vain for {what}");
        }
        std::thread::sleep(interval);
    }
}

/// Builds the programs for benches of a running cluster.
pub(super) fn build(top: &Top) -> Result<()> {
    let args = ["build", "--release", "-p", "muster-cli", "-p", "simpleservice"];
    shell::run(&mut top.cargo(&args))
}

impl Dev {
    /// Starts it and waits until its node is ready.
    pub(super) fn start(top: &Top) -> Result<Dev> {
        let port = free_port()?;
        let listen = format!("127.0.0.1:{port}");
        let mut command = top.command(&top.built("release/muster").to_string_lossy());
        command.args([
            "dev",
            "--ephemeral",
            "--cpu",
            "1000",
            "--memory",
            "1TiB",
            "--listen",
            &listen,
        ]);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let dev = Dev { child: child.context("start target/release/muster")?, port };
        wait_for("the node to be ready", || {
            let nodes = dev.get("/v1/nodes")?;
            Ok(nodes
                .as_array()
                .is_some_and(|nodes| {
                    !nodes.is_empty() && nodes.iter().all(|node| node["state"] == "ready")
                })
                .then_some(()))
        })?;
        Ok(dev)
    }

    /// `GET`s JSON.
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.send("GET", path, "")
    }

    /// Applies a document, and returns the response.
    pub(super) fn apply(&self, text: &str) -> Result<Value> {
        let body = serde_json::json!({ "sources": [{ "name": "bench", "text": text }] });
        self.send("POST", "/v1/apply", &body.to_string())
    }

    /// All events after a number, in order.
    pub(super) fn events(&self, after: u64) -> Result<Vec<Value>> {
        let response_bytes =
            request(self.stream()?, "GET", &format!("/v1/events?after={after}"), "")?;
        let lines = response_bytes.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Removes services and waits until they are gone.
    pub(super) fn remove(&self, service: &str) -> Result<()> {
        self.send("DELETE", &format!("/v1/services{service}"), "")?;
        wait_for("a service to be gone", || {
            Ok(self.get(&format!("/v1/services{service}")).is_err().then_some(()))
        })
    }

    fn stream(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        Ok(serde_json::from_str(&request(self.stream()?, method, path, body)?)?)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // On SIGTERM it stops its instances; SIGKILL would leave them to its keeper.
        let pid = self.child.id().to_string();
        let _ = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

/// One request to dockerd.
pub(super) fn docker(method: &str, path: &str, body: &str) -> Result<Value> {
    let stream = UnixStream::connect("/var/run/docker.sock").context("reach dockerd")?;
    let response_bytes = request(stream, method, path, body)?;
    Ok(serde_json::from_str(&response_bytes).unwrap_or(Value::Null))
}

/// A text as a part of a query.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let one =
        |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// One request on a connection of its own; the body, if the answer is a 2xx.
pub(crate) fn request(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    body: &str,
) -> Result<String> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    let mut response_bytes = Vec::new();
    stream.read_to_end(&mut response_bytes)?;
    let response_bytes = String::from_utf8_lossy(&response_bytes);
    let (head, body) = response_bytes.split_once("\r\n\r\n").context("an answer has a head")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunk(body),
        false => body.to_owned(),
    };
    if !status.starts_with('2') {
        bail!("{method} {path}: {status} {body}");
    }
    Ok(body)
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
