//! The embedded backend: one process, one directory, one SQLite file.
//!
//! ```text
//! state.db        the state, with its -wal and -shm next to it while it is open
//! state.position  the last acknowledged revision
//! state.lock      held by the process that has the store open, with its pid inside
//! ```
//!
//! One thread writes ([`writer`]): all transactions that are queued during a flush share the next flush. Reads have
//! connections of their own ([`readers`]) and never wait for a flush.
//!
//! Nothing else in this process may open `state.db`: closing any of its descriptors would release SQLite's own locks.
//!
//! Read next: `writer.rs` for the path of a commit, `format.rs` for the content of the file and the files that are
//! rejected.

mod checksum;
mod files;
mod format;
mod group;
mod head;
mod lock;
mod log;
mod position;
mod ranges;
mod readers;
mod salvage;
mod schema;
mod verify;
mod writer;

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::{Error, Page, Pending, Revision, Store, Txn, TxnResult};
use checksum::Fault;
use lock::Lock;
use position::Position;
use readers::Readers;
pub use salvage::Salvaged;
use writer::{Inbox, Job};

/// The embedded backend. Dropping it writes the queued transactions, closes the file and releases the directory.
///
/// Its methods must be called within a tokio runtime; they wait for the disk outside of its worker threads.
/// [`Store::commit`] queues its transaction when it is called, not when its future is first polled: the transactions of
/// one caller are applied in the order of the calls.
pub struct Embedded {
    /// `None` only during the drop.
    inbox: Option<Inbox>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
    syncs: Arc<AtomicU64>,
    /// The last field, so that the directory is released only after the file is closed.
    _lock: Lock,
}

impl Embedded {
    /// Opens the store in `directory`, which is created if it does not exist. Blocks: it checks the whole file, and
    /// migrates a file of an older format.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it open; [`Error::Foreign`], [`Error::Newer`], [`Error::Corrupt`] and
    /// [`Error::Behind`] for a file that it cannot use, which is not changed; [`Error::Unwritable`] if the disk is full or
    /// read-only; [`Error::File`] and [`Error::Storage`] if it fails otherwise.
    pub fn open(directory: &Path) -> Result<Embedded, Error> {
        Embedded::open_with(directory).map_err(|error| explained(directory, error))
    }

    /// Keeps what is intact in a damaged or outdated store, which [`Embedded::open`] rejects, so that it can be opened.
    /// The files are kept as copies. Returns `None` and changes nothing if the store is intact.
    ///
    /// # Errors
    /// Those of [`Embedded::open`]; [`Error::Corrupt`] if nothing in the file can be read.
    pub fn salvage(directory: &Path) -> Result<Option<Salvaged>, Error> {
        let salvaged = claim(directory).and_then(|_lock| match format::prepare(directory) {
            Err(error) if error.is_loss() => salvage::salvage(directory, error).map(Some),
            prepared => prepared.map(|_| None),
        });
        salvaged.map_err(|error| explained(directory, error))
    }

    fn open_with(directory: &Path) -> Result<Embedded, Error> {
        let lock = claim(directory)?;
        let (path, head) = format::prepare(directory)?;
        let position = Position::open(directory, head.revision)?;
        let syncs = Arc::new(AtomicU64::new(0));
        let (inbox, writer) = writer::start(&path, head, position, Arc::clone(&syncs))?;
        let readers = Arc::new(Readers::new(path));
        Ok(Embedded { inbox: Some(inbox), writer: Some(writer), readers, syncs, _lock: lock })
    }

    /// The number of groups of transactions written and flushed since the store was opened.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }
}

impl Store for Embedded {
    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> Pending<'a, Page> {
        let (prefix, start_after) = (prefix.to_owned(), start_after.map(str::to_owned));
        let path = self.readers.path().to_owned();
        Box::pin(self.readers.read(move |snapshot| {
            ranges::page(snapshot, &prefix, start_after.as_deref(), limit).map_err(|fault| {
                match fault {
                    Fault::Sqlite(error) => Error::storage("read a range", error),
                    fault @ Fault::Damage(_) => verify::classify(&path, fault),
                }
            })
        }))
    }

    fn commit(&self, txn: Txn) -> Pending<'_, TxnResult> {
        let (reply, answer) = oneshot::channel();
        let checked = txn.check();
        if let (Ok(()), Some(inbox)) = (&checked, &self.inbox) {
            // A job that cannot be sent drops its reply sender, which the receiver reports as a closed store.
            let _ = inbox.send(Job { txn, reply });
        }
        Box::pin(async move {
            checked?;
            answer.await.map_err(|_| Error::Closed)?
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Readers first: the last connection to close checkpoints the log, and that must be the writer's.
        self.readers.close();
        self.inbox = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Embedded").field("syncs", &self.syncs()).finish_non_exhaustive()
    }
}

/// Creates the directory if it does not exist, and takes its lock.
fn claim(directory: &Path) -> Result<Lock, Error> {
    // The stored values may be secret.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| Error::file("make the data directory", directory, error))?;
    Lock::take(directory)
}

/// The error of a failed start, with the state of the disk if that explains it.
fn explained(directory: &Path, error: Error) -> Error {
    match files::obstacle(directory) {
        Some((problem, remedy)) if matches!(error, Error::File { .. } | Error::Storage { .. }) => {
            let (directory, source) = (directory.to_owned(), Arc::new(error));
            Error::Unwritable { directory, problem, remedy, source }
        }
        _ => error,
    }
}

/// SQLite's integers are signed; a revision that does not fit does not exist and never will.
fn to_sql(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn from_sql(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or(0))
}
