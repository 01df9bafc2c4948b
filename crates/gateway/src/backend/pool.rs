//! The state of one backend on one thread: requests in flight, idle connections, and ejection.
//!
//! Threads share none of it, so nothing is locked and every count is exact. A backend that cannot
//! be reached is ejected for a while, and for longer each time (outlier ejection): requests go to
//! other backends instead of waiting for its timeout one after the other.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use model::Backend;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection::Connection;
use crate::balance::Load;

/// The first ejection lasts `EJECTION_MIN`, each further one twice as long, up to `EJECTION_MAX`.
const EJECTION_MIN: Duration = Duration::from_millis(100);
const EJECTION_MAX: Duration = Duration::from_secs(5);

/// A backend, as one thread sees it.
#[derive(Debug)]
pub(crate) struct LiveBackend {
    /// Its entry in the table.
    pub(crate) backend: Backend,
    address: Address,
    in_flight: Cell<u32>,
    /// Whether the table no longer has it. Its connections are not kept then, and the end of its
    /// last request is reported.
    is_removed: Cell<bool>,
    #[allow(clippy::vec_box, reason = "they move to and from requests: a pointer each time")]
    idle: RefCell<Vec<Box<Connection>>>,
    idle_max: usize,
    /// Consecutive failures to reach it.
    failures: Cell<u32>,
    ejected_until: Cell<Option<Instant>>,
}

#[derive(Debug)]
enum Address {
    Socket(SocketAddr),
    /// Resolved at every connect because it may change.
    Name(String),
}

impl LiveBackend {
    pub(crate) fn new(backend: &Backend, idle_max: usize) -> Rc<Self> {
        let address = match backend.address.parse() {
            Ok(address) => Address::Socket(address),
            Err(_) => Address::Name(backend.address.clone()),
        };
        Rc::new(Self {
            backend: backend.clone(),
            address,
            in_flight: Cell::new(0),
            is_removed: Cell::new(false),
            idle: RefCell::default(),
            idle_max,
            failures: Cell::new(0),
            ejected_until: Cell::new(None),
        })
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    pub(crate) fn load(&self) -> Load {
        Load { is_ejected: self.is_ejected(), in_flight: self.in_flight() }
    }

    fn is_ejected(&self) -> bool {
        self.ejected_until.get().is_some_and(|until| Instant::now() < until)
    }

    /// Counts a request that was assigned to it.
    pub(crate) fn request_begins(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// Ends a request. Returns whether it was the last one of a removed backend.
    pub(crate) fn request_ends(&self) -> bool {
        let left = self.in_flight.get() - 1;
        self.in_flight.set(left);
        left == 0 && self.is_removed.get()
    }

    /// Notes that an attempt which began at `begun` could not reach it. One outage fails all
    /// concurrent attempts and counts once: attempts that began before the ejection ended are
    /// ignored.
    pub(crate) fn failed(&self, begun: Instant) {
        if self.ejected_until.get().is_some_and(|until| begun < until) {
            return;
        }
        let failures = self.failures.get();
        self.failures.set(failures + 1);
        let span = EJECTION_MIN.saturating_mul(1 << failures.min(16)).min(EJECTION_MAX);
        self.ejected_until.set(Some(Instant::now() + span));
    }

    /// Notes that it responded.
    pub(crate) fn responded(&self) {
        if self.failures.get() > 0 {
            self.failures.set(0);
            self.ejected_until.set(None);
        }
    }

    /// Connects within `timeout`. A failure ejects the backend unless this gateway caused it.
    pub(crate) async fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        let connecting = async {
            match &self.address {
                Address::Socket(address) => TcpStream::connect(address).await,
                Address::Name(name) => TcpStream::connect(name).await,
            }
        };
        let begun = Instant::now();
        let late = || io::Error::other(format!("no connection within {timeout:?}"));
        let connected =
            tokio::time::timeout(timeout, connecting).await.unwrap_or_else(|_| Err(late()));
        connected.map_err(|error| self.not_connected(error, begun))
    }

    fn not_connected(&self, error: io::Error, begun: Instant) -> io::Error {
        if is_local(&error) {
            return io::Error::other(format!("the gateway lacks resources: {error}"));
        }
        self.failed(begun);
        error
    }

    /// The idle connection that was used last: it is the least likely to be closed.
    pub(crate) fn take_idle(&self) -> Option<Box<Connection>> {
        self.idle.borrow_mut().pop()
    }

    /// Keeps a connection for the next request, unless there are enough.
    pub(crate) fn put_idle(&self, connection: Box<Connection>) {
        let mut idle = self.idle.borrow_mut();
        if !self.is_removed.get() && idle.len() < self.idle_max {
            idle.push(connection);
        }
    }

    /// Closes the connections that the backend has closed or that are idle since before `oldest`.
    pub(crate) fn sweep(&self, oldest: u32) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        self.idle.borrow_mut().retain_mut(|connection| {
            connection.idle_since >= oldest && connection.is_fresh(&mut cx)
        });
    }

    /// Sets whether the table no longer has it. Its idle connections close then.
    pub(crate) fn set_removed(&self, is_removed: bool) {
        self.is_removed.set(is_removed);
        if is_removed {
            self.idle.borrow_mut().clear();
        }
    }
}

/// Whether the gateway's own machine caused the error, so that it says nothing about the backend.
fn is_local(error: &io::Error) -> bool {
    let local = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    local.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend() -> Rc<LiveBackend> {
        let backend =
            Backend { instance: "/shop/web~0.1".parse().unwrap(), address: "127.0.0.1:9".into() };
        LiveBackend::new(&backend, 1)
    }

    #[test]
    fn a_lack_of_resources_in_the_gateway_ejects_no_backend() {
        let backend = backend();
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
            let message = backend.not_connected(errno.into(), Instant::now()).to_string();
            assert!(message.starts_with("the gateway lacks resources"), "{message}");
            assert!(!backend.is_ejected(), "{errno}");
        }
        backend.not_connected(Errno::CONNREFUSED.into(), Instant::now());
        assert!(backend.is_ejected());
    }

    #[tokio::test(start_paused = true)]
    async fn one_outage_is_one_failure_however_many_requests_it_hits() {
        let backend = backend();
        let begun = Instant::now();
        for _ in 0..6 {
            backend.failed(begun);
        }
        assert_eq!(backend.ejected_until.get(), Some(begun + EJECTION_MIN));
        // A second outage: the first attempt after the ejection fails, too.
        tokio::time::advance(EJECTION_MIN).await;
        assert!(!backend.is_ejected());
        let again = Instant::now();
        backend.failed(again);
        backend.failed(begun);
        assert_eq!(backend.ejected_until.get(), Some(again + 2 * EJECTION_MIN));
        backend.responded();
        assert!(!backend.is_ejected());
    }

    #[tokio::test(start_paused = true)]
    async fn ejections_grow_up_to_a_maximum() {
        let backend = backend();
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(Duration::from_millis) {
            backend.failed(Instant::now());
            assert_eq!(backend.ejected_until.get(), Some(Instant::now() + expected));
            tokio::time::advance(expected).await;
        }
    }
}
