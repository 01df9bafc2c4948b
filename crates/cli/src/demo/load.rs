//! The load: clients that send one request after another, without retries. Any response other than
//! 200, a broken connection and a timeout count as a failed request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::report::{Mark, Tally};

const PATH: &str = "/endpoint0";
/// The timeout for a response.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The pause between two requests of a client: users, not a benchmark.
const PAUSE: Duration = Duration::from_millis(4);

/// The number of clients of each kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clients {
    /// Clients that reuse their connection until the gateway closes it.
    pub(super) keeping: usize,
    /// Clients that open a connection for each request.
    pub(super) opening: usize,
}

/// Running clients.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Tally>,
    marks: Mutex<Vec<Mark>>,
}

struct Shared {
    to: SocketAddr,
    began: Instant,
    count: AtomicU64,
    enough: AtomicBool,
}

impl Load {
    /// Starts clients that send requests to `to`.
    pub(super) fn start(to: SocketAddr, clients: Clients) -> Load {
        let shared = Arc::new(Shared {
            to,
            began: Instant::now(),
            count: AtomicU64::new(0),
            enough: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..clients.keeping {
            tasks.spawn(client(Arc::clone(&shared), true));
        }
        for _ in 0..clients.opening {
            tasks.spawn(client(Arc::clone(&shared), false));
        }
        Load { shared, clients: tasks, marks: Mutex::default() }
    }

    /// The number of completed requests.
    pub(super) fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Records an event at the present time.
    pub(super) fn mark(&self, what: &'static str) {
        let mark = Mark { at: self.shared.began.elapsed(), what };
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
    }

    /// Waits until `count` requests have completed, and at least for `at_least`.
    pub(super) async fn reach(&self, count: u64, at_least: Duration) {
        tokio::time::sleep(at_least).await;
        while self.count() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets every client complete its request, and returns the counts.
    pub(super) async fn stop(self) -> Tally {
        self.shared.enough.store(true, Ordering::Relaxed);
        let marks = self.marks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut all = Tally::default();
        all.marks = marks;
        for tally in self.clients.join_all().await {
            all.add(tally);
        }
        all
    }
}

/// Whether a request succeeds.
pub(super) async fn probe(to: SocketAddr) -> bool {
    let exchange = async {
        let mut sender = connect(to).await?;
        send(&mut sender, to).await
    };
    matches!(tokio::time::timeout(WAIT_MAX, exchange).await, Ok(Ok(_)))
}

async fn client(shared: Arc<Shared>, keeps: bool) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<SendRequest<Empty<Bytes>>> = None;
    while !shared.enough.load(Ordering::Relaxed) {
        let exchange = async {
            // The gateway may close a connection between two requests. A close that is seen before
            // the next request is no failure; a later one is.
            let is_open = match kept.as_mut() {
                Some(sender) => sender.ready().await.is_ok(),
                None => false,
            };
            if !is_open {
                kept = None;
            }
            let sender = match kept.as_mut() {
                Some(sender) => sender,
                None => kept.insert(connect(shared.to).await?),
            };
            send(sender, shared.to).await
        };
        let outcome = match tokio::time::timeout(WAIT_MAX, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no response for {}s", WAIT_MAX.as_secs())),
        };
        if outcome.is_err() || !keeps {
            kept = None;
        }
        tally.count(shared.began.elapsed(), outcome);
        shared.count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    tally
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, String> {
    let failed = |error: &dyn std::error::Error| format!("cannot connect: {error}");
    let stream = TcpStream::connect(to).await.map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| failed(&error))?;
    // Errors of the connection reach the request in flight.
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends one request and returns the version in the response.
async fn send(sender: &mut SendRequest<Empty<Bytes>>, to: SocketAddr) -> Result<String, String> {
    let request = Request::get(PATH).header(header::HOST, to.to_string()).body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    let failed = |error: hyper::Error| format!("broken connection: {error}");
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
    if status != StatusCode::OK {
        let text: String = String::from_utf8_lossy(&body).trim().chars().take(80).collect();
        return Err(format!("answered {status}: {text}"));
    }
    let body: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&body).map_err(|error| format!("unreadable response: {error}"))?;
    let version = body.get("version").and_then(|version| version.as_str());
    version.map(str::to_string).ok_or_else(|| "a response without a version".to_string())
}
