//! Clients that ask a gateway without end, as strict as can be: no retries, and whatever is not a
//! whole answer with status 200 counts as failed.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::http;

/// The results of a load.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Requests that were answered or failed.
    pub requests: u64,
    /// Failures, each with the time since the start.
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
                    let response = send(&mut connection, port, &path);
                    count.fetch_add(1, Ordering::Relaxed);
                    let Ok(mut seen) = seen.lock() else { return };
                    seen.requests += 1;
                    match response {
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

    /// The results up to now.
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
    send(&mut None, port, path)
}

fn send(connection: &mut Option<BufReader<TcpStream>>, port: u16, path: &str) -> Result<String> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(http::connect(port)?),
    };
    let request = http::head(port, "GET", path, &[], None);
    stream.get_mut().write_all(request.as_bytes()).context("send")?;
    let response = http::response(stream, "GET")?;
    if response.closes() {
        *connection = None;
    }
    if response.status != 200 {
        bail!("{}: {}", response.status, response.text());
    }
    Ok(response.text())
}
