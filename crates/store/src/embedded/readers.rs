//! Connections for reads, separate from the writer's.
//!
//! With SQLite's write-ahead log, each read sees a committed snapshot while the writer continues. A read runs on
//! tokio's blocking threads. A few connections are enough, because each is held for one page only. Read next:
//! `ranges.rs`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, Transaction};

use crate::Error;

const CONNECTIONS_MAX: usize = 4;

/// The shared connections for reads.
pub(super) struct Readers {
    path: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    lent: usize,
    closed: bool,
}

impl Readers {
    /// Opens no connection yet.
    pub(super) fn new(path: PathBuf) -> Readers {
        Readers { path, state: Mutex::default(), returned: Condvar::new() }
    }

    /// The path of the state file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `read` on a committed snapshot.
    pub(super) fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let readers = Arc::clone(self);
        let job = move || {
            let storage = |error| Error::storage("begin to read", error);
            let lease = readers.acquire()?;
            let connection = lease.connection()?;
            let snapshot = connection.unchecked_transaction().map_err(storage)?;
            read(&snapshot)
        };
        async move { tokio::task::spawn_blocking(job).await.map_err(|_| Error::Closed)? }
    }

    /// Waits for reads in progress, closes all connections and rejects further reads.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.idle.clear();
        while state.lent > 0 {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn acquire(&self) -> Result<Lease<'_>, Error> {
        let mut state = self.lock();
        while state.lent >= CONNECTIONS_MAX && !state.closed {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(Error::Closed);
        }
        state.lent += 1;
        let idle = state.idle.pop();
        drop(state);
        // From here on the lease returns its slot when it is dropped, even if opening fails.
        let mut lease = Lease { readers: self, connection: idle };
        if lease.connection.is_none() {
            lease.connection =
                Some(open(&self.path).map_err(|error| Error::storage("open a connection", error))?);
        }
        Ok(lease)
    }

    // A panic while the lock is held leaves valid counts: no update between can panic halfway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A borrowed connection.
struct Lease<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Lease<'_> {
    fn connection(&self) -> Result<&Connection, Error> {
        self.connection.as_ref().ok_or(Error::Closed)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.lock();
        state.lent -= 1;
        let connection = self.connection.take();
        if !state.closed {
            state.idle.extend(connection);
        } else {
            drop(connection);
        }
        self.readers.returned.notify_all();
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}
