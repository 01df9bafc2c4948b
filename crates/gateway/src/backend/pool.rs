//! What one thread knows of one backend: how many requests are under way, its unused connections,
//! and whether it is put aside for a while.
//!
//! Nothing here is shared between threads, so nothing is locked and every count is exact: a
//! request is counted from the moment its backend is chosen, in the same step, until its last
//! byte has come back or the tunnel it became is closed.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use model::Backend;
use rustix::io::Errno;
use tokio::net::TcpStream;

use super::connection::Connection;
use crate::worker::Worker;

/// A backend that cannot be reached is put aside for this long at first, then for twice as long.
const ASIDE_MIN: Duration = Duration::from_millis(100);
const ASIDE_MAX: Duration = Duration::from_secs(5);

/// A backend, as one thread sees it.
#[derive(Debug)]
pub(crate) struct LiveBackend {
    /// What the table says of it.
    pub(crate) backend: Backend,
    address: Address,
    under_way: Cell<u32>,
    /// Whether it has left the table: connections are not kept, and the end of its last request
    /// is told.
    leaving: Cell<bool>,
    #[allow(clippy::vec_box, reason = "they move to and from requests: a pointer each time")]
    idle: RefCell<Vec<Box<Connection>>>,
    idle_max: usize,
    failures: Cell<u32>,
    aside_until: Cell<Option<Instant>>,
}

#[derive(Debug)]
enum Address {
    Number(SocketAddr),
    /// Looked up at every connect, so that it may move.
    Name(String),
}

impl LiveBackend {
    pub(crate) fn new(backend: &Backend, idle_max: usize) -> Rc<Self> {
        let address = match backend.address.parse() {
            Ok(address) => Address::Number(address),
            Err(_) => Address::Name(backend.address.clone()),
        };
        Rc::new(Self {
            backend: backend.clone(),
            address,
            under_way: Cell::new(0),
            leaving: Cell::new(false),
            idle: RefCell::default(),
            idle_max,
            failures: Cell::new(0),
            aside_until: Cell::new(None),
        })
    }

    pub(crate) fn under_way(&self) -> u32 {
        self.under_way.get()
    }

    /// Whether it should be passed over for now.
    pub(crate) fn is_aside(&self) -> bool {
        self.aside_until.get().is_some_and(|until| Instant::now() < until)
    }

    /// It could not be reached by an attempt that began then. Of the attempts that one outage
    /// lets fail only the first counts: the others began before it was put aside, or while it was.
    pub(crate) fn failed(&self, begun: Instant) {
        if self.aside_until.get().is_some_and(|until| begun < until) {
            return;
        }
        let failures = self.failures.get();
        self.failures.set(failures + 1);
        let span = ASIDE_MIN.saturating_mul(1 << failures.min(16)).min(ASIDE_MAX);
        self.aside_until.set(Some(Instant::now() + span));
    }

    /// It answered.
    pub(crate) fn answered(&self) {
        if self.failures.get() > 0 {
            self.failures.set(0);
            self.aside_until.set(None);
        }
    }

    /// Connects within `limit`, or puts it aside, unless the reason lies with this gateway.
    pub(crate) async fn connect(&self, limit: Duration) -> io::Result<TcpStream> {
        let connecting = async {
            match &self.address {
                Address::Number(address) => TcpStream::connect(address).await,
                Address::Name(name) => TcpStream::connect(name).await,
            }
        };
        let begun = Instant::now();
        let late = || io::Error::other(format!("no connection within {limit:?}"));
        let connected =
            tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(late()));
        connected.map_err(|error| self.not_connected(error, begun))
    }

    fn not_connected(&self, error: io::Error, begun: Instant) -> io::Error {
        if is_own(&error) {
            return io::Error::other(format!("the gateway itself has no room: {error}"));
        }
        self.failed(begun);
        error
    }

    /// The connection that was used last: it is the least likely to be closed.
    pub(crate) fn take_idle(&self) -> Option<Box<Connection>> {
        self.idle.borrow_mut().pop()
    }

    fn put_idle(&self, connection: Box<Connection>) {
        let mut idle = self.idle.borrow_mut();
        if !self.leaving.get() && idle.len() < self.idle_max {
            idle.push(connection);
        }
    }

    /// Closes the connections that were closed by the other side or not used since `oldest`.
    pub(crate) fn sweep(&self, oldest: u32) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        self.idle.borrow_mut().retain_mut(|connection| {
            connection.idle_since >= oldest && connection.is_fresh(&mut cx)
        });
    }

    /// Says whether it is in the table. Its unused connections close when it is not.
    pub(crate) fn set_leaving(&self, leaving: bool) {
        self.leaving.set(leaving);
        if leaving {
            self.idle.borrow_mut().clear();
        }
    }
}

/// Whether an error is of the gateway's own machine and says nothing of the backend.
fn is_own(error: &io::Error) -> bool {
    let own = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    own.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A request that is under way at a backend, from the choice of it to the end.
#[derive(Debug)]
pub(crate) struct UnderWay {
    backend: Rc<LiveBackend>,
    worker: Rc<Worker>,
}

impl UnderWay {
    pub(crate) fn new(backend: Rc<LiveBackend>, worker: Rc<Worker>) -> Self {
        backend.under_way.set(backend.under_way.get() + 1);
        Self { backend, worker }
    }

    pub(crate) fn backend(&self) -> &Rc<LiveBackend> {
        &self.backend
    }

    /// The request is done and its connection may carry the next one.
    pub(crate) fn give_back(self, mut connection: Box<Connection>) {
        connection.used = true;
        connection.idle_since = self.worker.clock.now();
        connection.alarm.clear();
        self.backend.put_idle(connection);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let left = self.backend.under_way.get() - 1;
        self.backend.under_way.set(left);
        if left == 0 && self.backend.leaving.get() {
            self.worker.tell_followed();
        }
    }
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
    fn what_the_gateway_lacks_puts_no_backend_aside() {
        let backend = backend();
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
            let told = backend.not_connected(errno.into(), Instant::now()).to_string();
            assert!(told.starts_with("the gateway itself"), "{told}");
            assert!(!backend.is_aside(), "{errno}");
        }
        backend.not_connected(Errno::CONNREFUSED.into(), Instant::now());
        assert!(backend.is_aside());
    }

    #[test]
    fn one_outage_is_one_failure_however_many_requests_it_hits() {
        let backend = backend();
        let begun = Instant::now();
        for _ in 0..6 {
            backend.failed(begun);
        }
        let until = backend.aside_until.get().unwrap();
        assert!(until <= Instant::now() + ASIDE_MIN);
        // It is still away when it is tried again.
        backend.failed(until);
        let until = backend.aside_until.get().unwrap();
        assert!(until > begun + ASIDE_MIN && until <= Instant::now() + 2 * ASIDE_MIN);
        backend.answered();
        assert!(!backend.is_aside());
    }
}
