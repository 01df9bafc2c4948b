//! Traffic through a gateway: a script of a client and the behaviour of a backend.
//!
//! Whatever both do, every step of the gateway ends: it makes progress or waits. A loop that does neither blocks the only
//! thread, and one that wakes itself forever keeps time from passing, because the clock advances only while all tasks
//! wait; in both cases the script does not end. Afterwards another client is served, and once both peers are gone,
//! nothing of them is left in the gateway.

use std::{
    net::SocketAddr,
    panic::resume_unwind,
    sync::mpsc::{RecvTimeoutError, channel},
    time::Duration,
};

use gateway::{Proxy, Settings};
use model::{Backend, InstanceId, Listen, Listener, RouteTable, TableRoute};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    runtime::{Builder, LocalOptions},
    task::JoinSet,
    time::{Instant, timeout},
};

/// Real time for a script: a thousand times what one needs.
const LIMIT: Duration = Duration::from_secs(8);
/// Time of the script for a step of the client, which may wait for the gateway.
const STEP: Duration = Duration::from_secs(1);
/// The same to send: the system has room for megabytes, which a slow backend takes time to read.
const SEND: Duration = Duration::from_secs(10);
/// Time of the script before each read of a backend.
const PAUSE: Duration = Duration::from_millis(100);
/// Time of the script for a request of another client: longer than all timeouts of a gateway.
const PLAIN: Duration = Duration::from_secs(300);
/// Maximum number of bytes that a script sends.
const SENT_MAX: usize = 8 << 20;
/// Maximum number of bytes that the system receives for a backend that does not read them.
const RECEIVED_MAX: u32 = 16 << 10;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub(crate) fn run(input: &[u8]) {
    assert!(makes_progress(input, Settings::default()), "the gateway makes no progress");
}

/// Whether a gateway with these settings gets to the end of a script.
///
/// # Panics
///
/// If it does, but does not serve others or keeps anything.
pub fn makes_progress(input: &[u8], settings: Settings) -> bool {
    let (ended, end) = channel();
    let input = input.to_vec();
    // A loop in the gateway cannot be ended from outside: its thread is left behind.
    let player = std::thread::spawn(move || {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build_local(LocalOptions::default());
        runtime.expect("the system has descriptors").block_on(play(&input, settings));
        // Fails only after the limit.
        let _ = ended.send(());
    });
    match end.recv_timeout(LIMIT) {
        Ok(()) => true,
        Err(RecvTimeoutError::Timeout) => false,
        Err(RecvTimeoutError::Disconnected) => {
            player.join().unwrap_or_else(|panic| resume_unwind(panic));
            false
        }
    }
}

async fn play(input: &[u8], settings: Settings) {
    let grace = settings.stop_grace;
    let mut script = Script(input);
    let behaviour = Behaviour::read(&mut script);
    let (scripted, plain) = (serve(behaviour), serve(Behaviour::default()));
    let listen = free_address();
    let proxy = Proxy::start_local(settings);
    let routes = vec![route("/", &scripted), route("/plain", &plain)];
    let (gateway, trust) = ("fuzz".parse().expect("a name"), Default::default());
    let listener = Listener { gateway, listen: Listen(listen), trust, routes };
    proxy.switch(RouteTable { generation: 1, listeners: vec![listener] });
    let mut state = proxy.gateway_state();
    let state = state.wait_for(|state| state.generation == 1).await.expect("it runs").clone();
    // Another process of the machine may have taken the port.
    if state.failed.is_empty() {
        let mut client = Client { to: listen, streams: Vec::new(), sent: 0 };
        while client.step(&mut script).await.is_some() {}
        let served = timeout(PLAIN, get_plain(listen)).await;
        assert_eq!(served, Ok(true), "another client is served");
    }
    drop((scripted, plain));
    let begun = Instant::now();
    proxy.stop().await;
    assert!(begun.elapsed() < grace, "nothing is left of peers that are gone");
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound")
}

fn route(path: &str, backend: &Served) -> TableRoute {
    let service: model::ServiceId = "/fuzz".parse().expect("a path");
    let backends = vec![Backend {
        instance: InstanceId::new(service.clone(), 0, 1),
        address: backend.address(),
    }];
    let (hosts, empty_because) = Default::default();
    TableRoute { hosts, path: path.into(), service, backends, empty_because }
}

async fn get_plain(gateway: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(gateway).await else { return false };
    let request = b"GET /plain HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut response = Vec::new();
    let sent = stream.write_all(request).await;
    sent.is_ok()
        && stream.read_to_end(&mut response).await.is_ok()
        && response.starts_with(b"HTTP/1.1 200")
}

/// The bytes of a script that are left.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_be_bytes([self.byte()?, self.byte()?])))
    }

    /// Some bytes, after their number.
    fn literal(&mut self) -> Option<&'a [u8]> {
        let count = usize::from(self.byte()?).min(self.0.len());
        let (literal, rest) = self.0.split_at(count);
        self.0 = rest;
        Some(literal)
    }
}

/// The behaviour of a backend. By default it reads everything and responds at once.
#[derive(Debug, Clone)]
struct Behaviour {
    /// After the head it reads this often, as many bytes at a time; then it responds.
    reads: u8,
    read_size: usize,
    response: Vec<u8>,
    /// Whether it closes the connection then; otherwise it reads nothing more.
    closes: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
        Behaviour { reads: 0, read_size: 0, response, closes: true }
    }
}

impl Behaviour {
    /// Four bytes: the reads, their size, the response and how often its middle is repeated.
    fn read(script: &mut Script<'_>) -> Behaviour {
        let mut byte = || script.byte().unwrap_or_default();
        let (reads, read_size, response, times) =
            (byte(), usize::from(byte()) * 256, byte(), usize::from(byte()));
        let ok = Behaviour::default().response;
        let chunked = &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..];
        let closes = response & 0x80 == 0;
        let response = match response & 0x7f {
            0 => ok,
            1 => [chunked, &b"1\r\nx\r\n".repeat(times * 16), b"0\r\n\r\n"].concat(),
            2 => {
                let body = vec![b'x'; times * 8192];
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                [head.as_bytes(), &body].concat()
            }
            3 => [b"HTTP/1.1 103 Early Hints\r\na: 1\r\n\r\n".repeat(times), ok].concat(),
            4 => b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: a\r\n\r\n"
                .repeat(times),
            5 => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello".to_vec(),
            6 => [chunked, b"5\r\nhello\r\nzz\r\n"].concat(),
            7 => Vec::new(),
            8 => [b"HTTP/1.1 200 OK\r\na: ", &b"a".repeat(times * 300)[..], b"\r\n\r\n"].concat(),
            _ => script.literal().unwrap_or_default().to_vec(),
        };
        Behaviour { reads, read_size, response, closes }
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                return;
            }
        }
        let mut space = vec![0; self.read_size.max(1)];
        for _ in 0..self.reads {
            // Until the gateway and the client wait for it.
            tokio::time::sleep(PAUSE).await;
            let Ok(Ok(1..)) = timeout(STEP, stream.read(&mut space)).await else { break };
        }
        let sent = stream.write_all(&self.response).await;
        if sent.is_ok() && !self.closes {
            std::future::pending::<()>().await;
        }
    }
}

/// A backend. Dropping it closes all its connections.
struct Served {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Served {
    fn address(&self) -> String {
        self.address.to_string()
    }
}

fn serve(behaviour: Behaviour) -> Served {
    let socket = TcpSocket::new_v4().expect("the system has descriptors");
    socket.set_recv_buffer_size(RECEIVED_MAX).expect("a size");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("there is a free port");
    let listener = socket.listen(1024).expect("it is bound");
    let address = listener.local_addr().expect("it is bound");
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async move {
        let mut connections = JoinSet::new();
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                connections.spawn_local(behaviour.clone().serve(stream));
            }
        }
    });
    Served { address, _tasks: tasks }
}

/// The client of a script. It keeps all its connections and uses the last one.
struct Client {
    to: SocketAddr,
    streams: Vec<TcpStream>,
    sent: usize,
}

impl Client {
    /// A step of the script; `None` at its end.
    async fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.byte()? % 9 {
            0 => self.send(script.literal()?).await,
            1 => {
                let (kind, size, length) = (script.byte()?, script.number()?, script.number()?);
                let method = if kind & 1 == 0 { "GET" } else { "POST" };
                let framing = match kind >> 1 & 3 {
                    0 => String::new(),
                    1 => format!("content-length: {length}\r\n"),
                    2 => "transfer-encoding: chunked\r\n".into(),
                    _ => "connection: upgrade\r\nupgrade: a\r\n".into(),
                };
                let expect = if kind & 8 == 0 { "" } else { "expect: 100-continue\r\n" };
                let cookie = "a".repeat(size);
                let head = format!(
                    "{method} / HTTP/1.1\r\nhost: a\r\n{framing}{expect}cookie: {cookie}\r\n\r\n"
                );
                self.send(head.as_bytes()).await
            }
            2 => {
                let (size, count) = (usize::from(script.byte()?), script.number()?);
                let mut chunk = format!("{size:x}\r\n").into_bytes();
                chunk.extend(vec![b'x'; size]);
                chunk.extend(b"\r\n");
                self.send(&chunk.repeat(count)).await
            }
            3 => {
                let method = if script.byte()? & 1 == 0 { 0x82 } else { 0x83 };
                // POST or GET, http, / and the host, as indexes of the static table.
                let fields = [method, 0x86, 0x84, 0x01, 1, b'a'];
                // The windows of the gateway's settings hold once they are acknowledged.
                let acknowledged = [0, 0, 0, 4, 1, 0, 0, 0, 0];
                self.send(&[PREFACE, &acknowledged, &frame(1, 4, &fields)].concat()).await
            }
            4 => {
                let (size, count) = (script.number()?, usize::from(script.byte()?));
                self.send(&frame(0, 0, &vec![b'x'; size]).repeat(count)).await
            }
            5 => tokio::time::sleep(STEP * u32::from(script.byte()?)).await,
            6 => {
                let mut space = vec![0; script.number()? * 16 + 1];
                if let Some(stream) = self.streams.last_mut() {
                    // The gateway may send nothing, or close.
                    drop(timeout(STEP, stream.read_exact(&mut space)).await);
                }
            }
            7 => {
                if let Some(stream) = self.streams.last_mut() {
                    drop(stream.shutdown().await);
                }
            }
            _ => self.connect().await,
        }
        Some(())
    }

    async fn connect(&mut self) {
        self.streams.extend(TcpStream::connect(self.to).await);
    }

    /// Sends as much as the gateway reads.
    async fn send(&mut self, bytes: &[u8]) {
        if self.streams.is_empty() {
            self.connect().await;
        }
        self.sent += bytes.len();
        if let Some(stream) = self.streams.last_mut()
            && self.sent <= SENT_MAX
        {
            drop(timeout(SEND, stream.write_all(bytes)).await);
        }
    }
}

/// A frame of HTTP/2 in the first stream.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let head = [length[0], length[1], length[2], kind, flags, 0, 0, 0, 1];
    [&head, payload].concat()
}
