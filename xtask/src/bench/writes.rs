//! Durable writes, acknowledged once they are on the disk: ours, etcd's, and those of a plain file.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::dev::{self, free_port, wait_for};
use super::server::{Server, TempDir};
use super::{Figure, Limit};
use crate::apt::{self, Package};
use crate::shell::Top;

const PACKAGES: &[Package] = &[Package { program: "etcd", package: "etcd-server" }];
const LASTING: Duration = Duration::from_secs(3);
const WRITERS: [usize; 2] = [1, 64];

/// Applies a second by one writer and by many, compared with etcd's puts and the disk's flushes.
pub(super) fn durable(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    apt::ensure(top, PACKAGES)?;
    let etcd = Etcd::start()?;
    let flushes = flushes()?;
    let mut figures = Vec::new();
    for writers in WRITERS {
        // A server of its own for each: the data of one run must not slow down the next.
        let server = Server::start(top, &[])?;
        let ours = rate(server.port(), writers, |writer, n| {
            let text = format!(
                "service: /bench/w{writer}\ninstances: 0\nprocess: {{ command: [serve] }}\n\
                 env: {{ N: \"{n}\" }}\n"
            );
            let body = json!({ "sources": [{ "name": "bench", "text": text }] });
            ("/v1/apply", body.to_string())
        })?;
        // `/k0` and so on, and `value`, in base64, as its gateway takes them.
        let peer = rate(etcd.port, writers, |writer, n| {
            let key = base64(format!("/bench/w{writer}").as_bytes());
            let value = base64(format!("{{\"N\":\"{n}\"}}").as_bytes());
            ("/v3/kv/put", json!({ "key": key, "value": value }).to_string())
        })?;
        let what = format!("durable writes, {writers} at a time");
        figures.push(Figure::new(&what, "1/s", ours, Limit::RatioMin(0.5)).with_peer("etcd", peer));
        if writers == 1 {
            let what = "the same, beside the disk's flushes";
            figures
                .push(Figure::new(what, "1/s", ours, Limit::None).with_peer("fdatasync", flushes));
        }
    }
    Ok(figures)
}

/// How often a second a small write can be flushed to the disk that the servers write to.
fn flushes() -> Result<f64> {
    let dir = TempDir::new("flush");
    std::fs::create_dir_all(&dir.0)?;
    let mut file = std::fs::File::create(dir.0.join("file"))?;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < LASTING {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Requests per second of this number of writers, each with a connection of its own.
fn rate(
    port: u16,
    writers: usize,
    body: impl Fn(usize, usize) -> (&'static str, String) + Sync,
) -> Result<f64> {
    let began = Instant::now();
    let one = |writer: usize| -> Result<usize> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let mut count = 0;
        while began.elapsed() < LASTING {
            let (path, body) = body(writer, count);
            post(&mut stream, path, &body)?;
            count += 1;
        }
        Ok(count)
    };
    let one = &one;
    let count = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..writers).map(|writer| scope.spawn(move || one(writer))).collect();
        let joined = lanes.into_iter().map(|lane| match lane.join() {
            Ok(count) => count,
            Err(_) => anyhow::bail!("a writer panicked"),
        });
        joined.sum::<Result<usize>>()
    })?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// One request on a connection that stays open.
fn post(stream: &mut BufReader<TcpStream>, path: &str, body: &str) -> Result<()> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all((head + body).as_bytes())?;
    let (mut line, mut length, mut status) = (String::new(), 0, String::new());
    while line != "\r\n" {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the connection ended");
        if status.is_empty() {
            status = line.clone();
        }
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let is_good = status.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
    ensure!(is_good, "{path}: {} {}", status.trim(), String::from_utf8_lossy(&body));
    Ok(())
}

/// A single etcd with a directory of its own.
struct Etcd {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Etcd {
    fn start() -> Result<Etcd> {
        let (port, peer) = (free_port()?, free_port()?);
        let dir = TempDir::new(&format!("etcd-{port}"));
        let (url, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
        let cluster = format!("bench={peer}");
        let mut command = Command::new("etcd");
        command.args(["--name", "bench", "--log-level", "error"]).arg("--data-dir").arg(&dir.0);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &cluster]);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let etcd = Etcd { child: quiet.spawn().context("start etcd")?, port, _dir: dir };
        wait_for("etcd to answer", || {
            let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port))?);
            let body = json!({ "key": base64(b"ready"), "value": base64(b"yes") }).to_string();
            Ok(post(&mut stream, "/v3/kv/put", &body).ok())
        })?;
        Ok(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of_three = |three: &[u8]| {
        let word = (0..3).fold(0, |word, i| word << 8 | usize::from(*three.get(i).unwrap_or(&0)));
        let letter = |i: usize| match i <= three.len() {
            true => char::from(LETTERS[word >> (18 - 6 * i) & 63]),
            false => '=',
        };
        (0..4).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(of_three).collect()
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_padded() {
        let expected =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, coded) in expected {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
