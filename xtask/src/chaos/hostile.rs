//! Hostile clients of a gateway. Each occupies what it can: large heads, uploads in tiny pieces to a backend that does not
//! read, heads that never end, responses that are never read, bodies after an early response, bytes that are not HTTP.
//!
//! No other client may notice them. Only large heads are within the limits of a gateway: each must be answered.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    frames::Upload,
    load, process,
    user::{SLOW_ARGUMENT, SLOW_PATH},
};

/// After this time a write waits for the gateway, which waits for someone else.
const WRITE_TIMEOUT: Duration = Duration::from_millis(300);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client keeps a connection that no longer makes progress.
const HOLD: Duration = Duration::from_secs(3);
/// Between two rounds of a client: the cluster needs the cores.
const PAUSE: Duration = Duration::from_millis(200);
/// Maximum number of bytes that a client sends on one connection.
const SENT_MAX: usize = 8 << 20;
/// Connections of the client that never completes a head.
const SLOW_HEADS: usize = 50;
/// Sizes of the heads that must be answered: around the output buffer of a gateway (16 KiB), below its limit (64 KiB).
const HEAD_SIZES: [usize; 4] = [15_000, 17_000, 33_000, 60_000];

/// A round of a client: what it does with its connections.
type Round = fn(&Attack) -> Result<()>;

/// The kinds of clients.
const KINDS: [(&str, Round); 7] = [
    ("large-heads", large_heads),
    ("tiny-chunks", tiny_chunks),
    ("tiny-frames", tiny_frames),
    ("slow-heads", slow_heads),
    ("never-reads", never_reads),
    ("unwanted-bodies", unwanted_bodies),
    ("no-http", no_http),
];

/// The results of hostile clients.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// How often each kind connected.
    pub(super) rounds: BTreeMap<&'static str, u64>,
    /// Large heads that were not answered.
    pub(super) unanswered: Vec<String>,
}

/// Hostile clients of one gateway, one of each kind.
pub(super) struct Hostile {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

impl Hostile {
    /// Starts them.
    pub(super) fn start(to: (Ipv4Addr, u16)) -> Hostile {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let start = |(kind, round): (&'static str, Round)| {
            let (attack, seen) = (Attack { to, stop: Arc::clone(&stop) }, Arc::clone(&seen));
            std::thread::spawn(move || {
                while !attack.is_over() {
                    let done = round(&attack);
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    *seen.rounds.entry(kind).or_default() += 1;
                    // The others are cut off sooner or later.
                    if let (Err(error), "large-heads") = (done, kind) {
                        seen.unanswered.push(format!("{error:#}"));
                    }
                    drop(seen);
                    attack.hold(PAUSE);
                }
            })
        };
        let clients = KINDS.map(start).into();
        Hostile { stop, clients, seen }
    }

    /// Ends them.
    pub(super) fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().map_err(|_| anyhow::anyhow!("a hostile client panicked"))?;
        }
        Ok(self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Stops or continues the backend that uploads go to: while it is stopped, it reads nothing.
pub(super) fn signal_backend(signal: &str) {
    let mut backends = process::instances();
    backends.retain(|process| process.command.trim_end().ends_with(SLOW_ARGUMENT));
    // It may have exited meanwhile.
    backends.iter().for_each(|process| drop(process::signal(process.pid, signal)));
}

/// The work of one client.
struct Attack {
    to: (Ipv4Addr, u16),
    stop: Arc<AtomicBool>,
}

impl Attack {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.to.into(), READ_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(stream)
    }

    /// Sends `head`, then `piece` again and again until the gateway no longer reads.
    fn fill(&self, head: &str, piece: &[u8]) -> Result<TcpStream> {
        let mut stream = self.connect()?;
        stream.write_all(head.as_bytes())?;
        let mut sent = 0;
        while sent < SENT_MAX && !self.is_over() && stream.write_all(piece).is_ok() {
            sent += piece.len();
        }
        Ok(stream)
    }

    /// Waits, unless all is over.
    fn hold(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_over() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn large_heads(attack: &Attack) -> Result<()> {
    for size in HEAD_SIZES {
        let mut stream = attack.connect()?;
        let cookie = "a".repeat(size);
        let head = format!("GET /endpoint0 HTTP/1.1\r\nhost: chaos\r\ncookie: {cookie}\r\n\r\n");
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        stream.write_all(head.as_bytes()).with_context(|| format!("send a head of {size}"))?;
        let read = load::read_response(&mut BufReader::new(stream));
        read.with_context(|| format!("read the response to a head of {size}"))?;
    }
    Ok(())
}

fn tiny_chunks(attack: &Attack) -> Result<()> {
    let head =
        format!("POST {SLOW_PATH} HTTP/1.1\r\nhost: chaos\r\ntransfer-encoding: chunked\r\n\r\n");
    let _stream = attack.fill(&head, &b"1\r\nx\r\n".repeat(1000))?;
    attack.hold(HOLD);
    Ok(())
}

fn tiny_frames(attack: &Attack) -> Result<()> {
    let mut upload = Upload::start(attack.connect()?, SLOW_PATH)?;
    let until = Instant::now() + HOLD;
    while Instant::now() < until && !attack.is_over() && upload.sent() < SENT_MAX {
        upload.step()?;
    }
    Ok(())
}

fn slow_heads(attack: &Attack) -> Result<()> {
    let open = |_| {
        let mut stream = attack.connect()?;
        stream.write_all(b"GET /endpoint0 HTTP/1.1\r\nhost: chaos\r\nx-slow: ")?;
        Ok(stream)
    };
    let mut streams = (0..SLOW_HEADS).map(open).collect::<Result<Vec<_>>>()?;
    while !streams.is_empty() && !attack.is_over() {
        // A gateway closes the connection when its timeout for heads has passed.
        streams.retain_mut(|stream| stream.write_all(b"a").is_ok());
        attack.hold(PAUSE);
    }
    Ok(())
}

fn never_reads(attack: &Attack) -> Result<()> {
    let request = "GET /env HTTP/1.1\r\nhost: chaos\r\n\r\n";
    let _stream = attack.fill(request, &request.as_bytes().repeat(20))?;
    attack.hold(HOLD);
    Ok(())
}

/// The backend rejects the request at its head.
fn unwanted_bodies(attack: &Attack) -> Result<()> {
    let head = "POST /endpoint0 HTTP/1.1\r\nhost: chaos\r\ncontent-length: 1000000000\r\n\r\n";
    attack.fill(head, &[b'x'; 64 << 10]).map(drop)
}

fn no_http(attack: &Attack) -> Result<()> {
    for bytes in [
        &b"GET endpoint0 HTTP/1.1\r\nhost: chaos\r\n\r\n"[..],
        b"POST /info HTTP/1.1\r\nhost: chaos\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /endpoint0 HTTP/1.1\r\nhost: ",
    ] {
        let mut stream = attack.connect()?;
        stream.write_all(bytes)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut reply = Vec::new();
        // A reset ends the connection as well.
        let _ = stream.read_to_end(&mut reply);
        ensure!(!reply.starts_with(b"HTTP/1.1 200"), "it was answered");
    }
    Ok(())
}
