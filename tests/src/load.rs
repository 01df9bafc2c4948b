//! Clients that ask a gateway without end, as strict as can be: no retries, and whatever is not a
//! whole answer with status 200 counts as failed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a load has seen.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Requests that were answered or failed.
    pub requests: u64,
    /// What went wrong, each with the time since the start.
    pub failed: Vec<(Duration, String)>,
    /// Answers by version.
    pub versions: BTreeMap<String, u64>,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts clients of `http://127.0.0.1:port/path`: half of them keep their connection, half
    /// make a new one for each request.
    pub fn start(port: u16, path: &str, clients: usize) -> Load {
        let load = Load {
            stop: Arc::default(),
            count: Arc::default(),
            seen: Arc::default(),
            clients: Vec::new(),
        };
        let started = Instant::now();
        let spawn = |i: usize| {
            let (stop, count) = (Arc::clone(&load.stop), Arc::clone(&load.count));
            let (seen, path) = (Arc::clone(&load.seen), path.to_string());
            std::thread::spawn(move || {
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    if i.is_multiple_of(2) {
                        connection = None;
                    }
                    let answer = ask(&mut connection, port, &path);
                    count.fetch_add(1, Ordering::Relaxed);
                    let Ok(mut seen) = seen.lock() else { return };
                    seen.requests += 1;
                    match answer {
                        Ok(body) => {
                            let version = serde_json::from_str::<serde_json::Value>(&body)
                                .ok()
                                .and_then(|body| body["version"].as_str().map(String::from));
                            *seen.versions.entry(version.unwrap_or_default()).or_insert(0) += 1;
                        }
                        Err(error) => {
                            connection = None;
                            seen.failed.push((started.elapsed(), format!("{error:#}")));
                        }
                    }
                }
            })
        };
        let clients = (0..clients).map(spawn).collect();
        Load { clients, ..load }
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// What has been seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    /// Ends all clients after the request they are at.
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            if client.join().is_err() {
                let seen = Seen {
                    failed: vec![(Duration::ZERO, "a client panicked".into())],
                    ..Seen::default()
                };
                return seen;
            }
        }
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }
}

/// One request on a new connection; its body, if the answer is a 200.
pub fn get(port: u16, path: &str) -> Result<String> {
    ask(&mut None, port, path)
}

fn ask(connection: &mut Option<BufReader<TcpStream>>, port: u16, path: &str) -> Result<String> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(("127.0.0.1", port)).context("connect")?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.set_nodelay(true)?;
            connection.insert(BufReader::new(stream))
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).context("send")?;
    let mut line = String::new();
    stream.read_line(&mut line).context("read the status")?;
    let status = line.split(' ').nth(1).unwrap_or("nothing").to_string();
    let (mut length, mut chunked, mut close) = (0usize, false, false);
    loop {
        line.clear();
        if stream.read_line(&mut line).context("read a header")? == 0 {
            bail!("the answer ended in its headers (status {status})");
        }
        let header = line.trim_end().to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = value.trim().parse()?,
            Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
            Some(("connection", value)) => close = value.contains("close"),
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    while chunked {
        line.clear();
        stream.read_line(&mut line).context("read a chunk's size")?;
        let size = usize::from_str_radix(line.trim(), 16).context("a chunk's size")?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).context("read a chunk")?;
        stream.read_exact(&mut [0; 2]).context("read a chunk's end")?;
        chunked = size > 0;
    }
    let start = body.len();
    body.resize(start + length, 0);
    stream.read_exact(&mut body[start..]).context("read the body")?;
    if close {
        *connection = None;
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    if status != "200" { bail!("{status}: {body}") } else { Ok(body) }
}
