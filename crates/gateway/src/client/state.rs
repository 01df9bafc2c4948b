//! The state of one client connection that its requests and its timeouts share.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::Waker;
use std::time::Duration;

use http::Version;

use super::output::Output;
use crate::timer::{Clock, ticks};

/// A client's connection. Strings that every request needs are made once for the connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The listener that accepted it.
    pub(crate) listen: SocketAddr,
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// The address of the client, without its port.
    pub(crate) address: String,
    /// The port of the listener.
    pub(crate) port: String,
    /// A cached lookup: the number of a switch and the index of the listener in its table, if it
    /// has the listener.
    pub(crate) listener: Cell<(u64, Option<usize>)>,
    pub(crate) activity: Arc<Activity>,
    /// Whether it closes after its first request.
    pub(crate) only_one: Cell<bool>,
    /// Whether it closes once its requests are done.
    pub(super) is_closing: Cell<bool>,
    /// Wakes the task that serves it.
    pub(super) waker: RefCell<Option<Waker>>,
}

impl Client {
    pub(crate) fn new(
        listen: SocketAddr,
        local: SocketAddr,
        peer: SocketAddr,
        clock: Clock,
    ) -> Self {
        Self {
            listen,
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
            peer,
            address: peer.ip().to_canonical().to_string(),
            port: listen.port().to_string(),
            listener: Cell::new((u64::MAX, None)),
            activity: Arc::new(Activity::new(clock)),
            only_one: Cell::new(false),
            is_closing: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(peer: &str, listen: &str) -> Self {
        let listen = listen.parse().unwrap();
        Self::new(listen, listen, peer.parse().unwrap(), Clock::default())
    }

    /// Closes the connection once its requests are done.
    pub(crate) fn close_gracefully(&self) {
        self.is_closing.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// What a connection is doing: its timeouts depend on it. Shared with the socket inside hyper, which
/// must be `Send`. Only one thread accesses it, so plain loads and stores are sufficient.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(crate) output: Output,
    clock: Clock,
    /// The number of requests in flight.
    requests: AtomicU32,
    /// What it waits for without a request: one of the constants below.
    waits_for: AtomicU8,
    /// Whether it speaks HTTP/2, where bytes that arrive need not belong to a request.
    is_http_2: AtomicBool,
    /// Whether the client may still send what no one will read.
    expects_more_input: AtomicBool,
    /// The beginning of the wait, in ticks.
    since: AtomicU32,
}

/// It waits for the first byte of a request.
const REQUEST: u8 = 0;
/// It waits for the rest of the head of a request.
const HEAD: u8 = 1;
/// It waits for the client to close the connection.
const CLOSE: u8 = 2;

/// Timeout for the client to close the connection after the last response.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

impl Activity {
    fn new(clock: Clock) -> Self {
        let since = AtomicU32::new(clock.now());
        // The first request must arrive within the timeout for heads, so a new connection counts as
        // one that is reading.
        Self {
            output: Output::default(),
            clock,
            requests: AtomicU32::new(0),
            waits_for: AtomicU8::new(HEAD),
            is_http_2: AtomicBool::new(false),
            expects_more_input: AtomicBool::new(false),
            since,
        }
    }

    fn wait_for(&self, event: u8) {
        self.waits_for.store(event, Ordering::Relaxed);
        self.since.store(self.clock.now(), Ordering::Relaxed);
    }

    fn waits_for(&self) -> u8 {
        self.waits_for.load(Ordering::Relaxed)
    }

    fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Notes that bytes arrived.
    pub(super) fn bytes_arrived(&self) {
        let is_http_2 = self.is_http_2.load(Ordering::Relaxed);
        if self.requests() == 0 && self.waits_for() == REQUEST && !is_http_2 {
            self.wait_for(HEAD);
        }
    }

    fn request_begins(&self) {
        self.requests.store(self.requests() + 1, Ordering::Relaxed);
    }

    fn request_ends(&self) {
        self.requests.store(self.requests() - 1, Ordering::Relaxed);
        self.wait_for(REQUEST);
    }

    /// Notes that the sending side is closed. Returns whether to wait for the client to close: it
    /// may still be sending a body that is not read, or a head that hyper rejected.
    pub(super) fn begin_lingering(&self) -> bool {
        let lingers = self.waits_for() == HEAD || self.expects_more_input.load(Ordering::Relaxed);
        if lingers {
            self.wait_for(CLOSE);
        }
        lingers
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.waits_for() == CLOSE
    }

    /// Whether the connection closes without a response once its timeout is over.
    pub(super) fn closes_at_once(&self) -> bool {
        self.waits_for() != REQUEST
    }

    /// The number of ticks until its timeout; `None` while it has requests in flight.
    pub(super) fn ticks_left(&self, idle_ticks: u32, head_ticks: u32) -> Option<u32> {
        let limit = match self.waits_for() {
            HEAD => head_ticks,
            CLOSE => ticks(LINGER_TIMEOUT),
            _ => idle_ticks,
        };
        let passed = self.clock.now().saturating_sub(self.since.load(Ordering::Relaxed));
        (self.requests() == 0).then(|| limit.saturating_sub(passed))
    }
}

/// Keeps a connection active from the head of a request to the last byte of its response.
#[derive(Debug)]
pub(crate) struct RequestGuard(Arc<Activity>);

impl RequestGuard {
    pub(crate) fn new(activity: &Arc<Activity>, version: Version) -> Self {
        activity.request_begins();
        activity.is_http_2.store(version == Version::HTTP_2, Ordering::Relaxed);
        Self(activity.clone())
    }

    pub(crate) fn is_http_2(&self) -> bool {
        self.0.is_http_2.load(Ordering::Relaxed)
    }

    pub(super) fn output(&self) -> &Output {
        &self.0.output
    }

    /// Notes that the client may send more, which is not read: the connection must not be reset
    /// before the client has read the response.
    pub(crate) fn expect_more_input(&self) {
        self.0.expects_more_input.store(true, Ordering::Relaxed);
    }
}

impl Clone for RequestGuard {
    fn clone(&self) -> Self {
        self.0.request_begins();
        Self(self.0.clone())
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}
