//! The side of the clients: what is known of a connection, and how it is served.

mod body;
pub(crate) mod serve;
mod socket;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Waker;

use http::Version;

use crate::alarm::Clock;

pub(crate) use body::Body;

/// A client's connection, as its requests see it. What every request needs of it is made once.
#[derive(Debug)]
pub(crate) struct Client {
    /// The listener it came in by.
    pub(crate) listen: SocketAddr,
    /// Its address, without the port.
    pub(crate) address: String,
    /// The listener's port.
    pub(crate) port: String,
    /// The generation and the index of the listener in that table.
    pub(crate) listener: Cell<(u64, usize)>,
    pub(crate) activity: Arc<Activity>,
    /// Whether it should close after its first request.
    pub(crate) last: Cell<bool>,
    /// Whether it should close once its requests are done.
    leaving: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Client {
    pub(crate) fn new(listen: SocketAddr, peer: SocketAddr, clock: Clock) -> Self {
        Self {
            listen,
            address: peer.ip().to_canonical().to_string(),
            port: listen.port().to_string(),
            listener: Cell::new((u64::MAX, 0)),
            activity: Arc::new(Activity::new(clock)),
            last: Cell::new(false),
            leaving: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(peer: &str, listen: &str) -> Self {
        Self::new(listen.parse().unwrap(), peer.parse().unwrap(), Clock::default())
    }

    /// Asks it to close once its requests are done.
    pub(crate) fn leave(&self) {
        self.leaving.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// What a connection is doing, for its time limits. Shared with the socket inside hyper, which
/// must be `Send`; in truth only one thread ever touches it, so plain loads and stores do.
#[derive(Debug)]
pub(crate) struct Activity {
    clock: Clock,
    requests: AtomicU32,
    /// Whether the head of a request has begun to come in.
    reading: AtomicBool,
    /// Whether it speaks HTTP/2, where bytes that come in need not be of a request.
    is_http_2: AtomicBool,
    /// Since when it has been idle or reading, in ticks.
    since: AtomicU32,
}

impl Activity {
    fn new(clock: Clock) -> Self {
        let since = AtomicU32::new(clock.now());
        // A new connection is as good as one that has begun a request: it should send one soon.
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

    /// Bytes came in.
    fn read(&self) {
        let expected =
            self.reading.load(Ordering::Relaxed) || self.is_http_2.load(Ordering::Relaxed);
        if self.requests() == 0 && !expected {
            self.reading.store(true, Ordering::Relaxed);
            self.since.store(self.clock.now(), Ordering::Relaxed);
        }
    }

    fn began(&self) {
        self.requests.store(self.requests() + 1, Ordering::Relaxed);
    }

    fn ended(&self) {
        self.requests.store(self.requests() - 1, Ordering::Relaxed);
        self.reading.store(false, Ordering::Relaxed);
        self.since.store(self.clock.now(), Ordering::Relaxed);
    }

    fn is_reading(&self) -> bool {
        self.reading.load(Ordering::Relaxed)
    }

    /// How many more ticks it may go on as it is; `None` while it has requests under way.
    fn left(&self, idle_ticks: u32, head_ticks: u32) -> Option<u32> {
        let limit = if self.is_reading() { head_ticks } else { idle_ticks };
        let passed = self.clock.now().saturating_sub(self.since.load(Ordering::Relaxed));
        (self.requests() == 0).then(|| limit.saturating_sub(passed))
    }
}

/// A request of a connection, from its head to the last byte of its answer.
#[derive(Debug)]
pub(crate) struct Request(Arc<Activity>);

impl Request {
    pub(crate) fn new(activity: &Arc<Activity>, version: Version) -> Self {
        activity.began();
        activity.is_http_2.store(version == Version::HTTP_2, Ordering::Relaxed);
        Self(activity.clone())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.ended();
    }
}
