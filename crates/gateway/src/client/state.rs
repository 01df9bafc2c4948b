//! The state of one client connection that its requests and its timeouts share.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Waker;

use http::Version;

use crate::timer::Clock;

/// A client's connection. Strings that every request needs are made once for the connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The listener that accepted it.
    pub(crate) listen: SocketAddr,
    /// The address of the client, without its port.
    pub(crate) address: String,
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
    /// The port of the listener.
    pub(crate) port: String,
    /// A cached lookup: the generation of a table and the index of the listener in it.
    pub(crate) listener: Cell<(u64, usize)>,
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
            address: peer.ip().to_canonical().to_string(),
            port: listen.port().to_string(),
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
            listener: Cell::new((u64::MAX, 0)),
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
    clock: Clock,
    /// The number of requests in flight.
    requests: AtomicU32,
    /// Whether the head of a request has begun to arrive.
    reading: AtomicBool,
    /// Whether it speaks HTTP/2, where bytes that arrive need not belong to a request.
    is_http_2: AtomicBool,
    /// When it became idle or began to read a head, in ticks.
    since: AtomicU32,
}

impl Activity {
    fn new(clock: Clock) -> Self {
        let since = AtomicU32::new(clock.now());
        // The first request must arrive within the timeout for heads, so a new connection counts as
        // one that is reading.
        Self {
            clock,
            requests: AtomicU32::new(0),
            reading: AtomicBool::new(true),
            is_http_2: AtomicBool::new(false),
            since,
        }
    }

    fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Notes that bytes arrived.
    pub(super) fn bytes_arrived(&self) {
        let expected =
            self.reading.load(Ordering::Relaxed) || self.is_http_2.load(Ordering::Relaxed);
        if self.requests() == 0 && !expected {
            self.reading.store(true, Ordering::Relaxed);
            self.since.store(self.clock.now(), Ordering::Relaxed);
        }
    }

    fn request_begins(&self) {
        self.requests.store(self.requests() + 1, Ordering::Relaxed);
    }

    fn request_ends(&self) {
        self.requests.store(self.requests() - 1, Ordering::Relaxed);
        self.reading.store(false, Ordering::Relaxed);
        self.since.store(self.clock.now(), Ordering::Relaxed);
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reading.load(Ordering::Relaxed)
    }

    /// The number of ticks until its timeout; `None` while it has requests in flight.
    pub(super) fn ticks_left(&self, idle_ticks: u32, head_ticks: u32) -> Option<u32> {
        let limit = if self.is_reading() { head_ticks } else { idle_ticks };
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
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}
