//! Requests without end through both gateways, each counted, and the times in which a failure proves nothing.
//!
//! Clients are as strict as can be: no retries, and every result except a complete response with status 200 is a failure. Half
//! of them keep their connection. A failure is excused only by a window in which the gateway that was asked was not
//! running by construction; the product must hide the effects of other faults.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

const CLIENTS_OF_A_GATEWAY: usize = 4;
/// Between two requests of a client: the cluster needs the cores.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest silence before a request has failed: longer than a cable is pulled, and than TCP then takes to notice.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A request that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) gateway: usize,
    pub(super) from: Instant,
    pub(super) to: Instant,
    pub(super) why: String,
}

/// The results of the clients.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) latency_max: Duration,
    pub(super) failures: Vec<Failure>,
    /// When failures of a gateway prove nothing: its number, from, to.
    windows: Vec<(usize, Instant, Option<Instant>)>,
}

impl Seen {
    /// Whether the gateway was not running at some time of a failed request.
    pub(super) fn excuses(&self, failure: &Failure) -> bool {
        self.windows.iter().any(|(gateway, from, to)| {
            *gateway == failure.gateway
                && *from <= failure.to
                && to.is_none_or(|to| failure.from <= to)
        })
    }
}

/// Clients at work.
pub(super) struct Load {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    clients: Mutex<Vec<JoinHandle<()>>>,
}

impl Load {
    /// Starts clients of gateways at these addresses.
    pub(super) fn start(gateways: &[Ipv4Addr], port: u16, path: &'static str) -> Load {
        let load = Load { seen: Arc::default(), stop: Arc::default(), clients: Mutex::default() };
        let mut clients = Vec::new();
        for (gateway, address) in gateways.iter().copied().enumerate() {
            for number in 0..CLIENTS_OF_A_GATEWAY {
                let (seen, stop) = (Arc::clone(&load.seen), Arc::clone(&load.stop));
                clients.push(std::thread::spawn(move || {
                    let mut client = Client { to: (address, port), connection: None };
                    while !stop.load(Ordering::Relaxed) {
                        if number % 2 == 0 {
                            client.connection = None;
                        }
                        let from = Instant::now();
                        let read_response = client.get(path);
                        let to = Instant::now();
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.requests += 1;
                        seen.latency_max = seen.latency_max.max(to - from);
                        if let Err(error) = read_response {
                            let why = format!("{error:#}");
                            seen.failures.push(Failure { gateway, from, to, why });
                        }
                        drop(seen);
                        std::thread::sleep(PAUSE);
                    }
                }));
            }
        }
        Load { clients: Mutex::new(clients), ..load }
    }

    /// From now on failures of a gateway prove nothing: it is about to be killed.
    pub(super) fn excuse(&self, gateway: usize) {
        self.with(|seen| seen.windows.push((gateway, Instant::now(), None)));
    }

    /// From now on they do again.
    pub(super) fn expect(&self, gateway: usize) {
        let now = Instant::now();
        self.with(|seen| {
            let open = seen.windows.iter_mut().filter(|window| window.0 == gateway);
            open.for_each(|window| window.2 = window.2.or(Some(now)));
        });
    }

    /// The results up to now.
    pub(super) fn seen(&self) -> Seen {
        self.with(|seen| seen.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        work(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends all clients after the request they are at.
    pub(super) fn finish(&self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let clients =
            std::mem::take(&mut *self.clients.lock().unwrap_or_else(PoisonError::into_inner));
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        }
        Ok(self.seen())
    }
}

/// Asks once, on a connection of its own.
pub(super) fn get(to: (Ipv4Addr, u16), path: &str) -> Result<()> {
    Client { to, connection: None }.get(path)
}

struct Client {
    to: (Ipv4Addr, u16),
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    fn get(&mut self, path: &str) -> Result<()> {
        let connection = self.connection.take();
        let fresh = connection.is_none();
        let mut stream = match connection {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.to.into(), SILENCE_MAX);
                let stream = stream.context("connect")?;
                stream.set_read_timeout(Some(SILENCE_MAX))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let head = format!("GET {path} HTTP/1.1\r\nhost: chaos\r\n\r\n");
        let used = || if fresh { "a new connection" } else { "a connection in use" };
        stream
            .get_mut()
            .write_all(head.as_bytes())
            .with_context(|| format!("send on {}", used()))?;
        let keep = read_response(&mut stream).with_context(|| format!("read from {}", used()))?;
        self.connection = keep.then_some(stream);
        Ok(())
    }
}

/// Reads an answer with a length; whether the connection can be used again.
pub(super) fn read_response(stream: &mut BufReader<TcpStream>) -> Result<bool> {
    let (mut status, mut length, mut keep) = (String::new(), 0, true);
    stream.read_line(&mut status)?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            bail!("it ended in the head, after {status:?}");
        }
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = value.trim().parse()?,
            Some(("connection", value)) => keep = !value.contains("close"),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("its body")?;
    match status.split(' ').nth(1) {
        Some("200") => Ok(keep),
        _ => bail!("{}: {}", status.trim_end(), String::from_utf8_lossy(&body)),
    }
}
