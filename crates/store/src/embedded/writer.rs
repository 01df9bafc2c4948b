//! The only thread that writes.
//!
//! It takes all queued jobs, applies them in one SQLite transaction, flushes once, and only then replies. Jobs that
//! arrive meanwhile form the next group: the slower the disk, the larger the groups. Checkpoints happen between groups,
//! after the replies. Between the flush and the replies the writer notes the revision (`position.rs`).
//!
//! If the disk fails (because it is full, for example), the group is rolled back and each of its transactions is tried
//! alone, so that none fails because of another. If a *flush* fails, nothing more is written: the kernel may have
//! dropped the unwritten pages, and a later flush would succeed without them. Read next: `group.rs`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, DEFAULT_NAME, ErrorCode, OpenFlags, ffi};
use tokio::sync::oneshot;

use super::group::Statements;
use super::head::Head;
use super::position::Position;
use crate::{Error, Txn, TxnResult};

// Large enough that the cost of a flush is small, small enough that the first transaction of a group does not wait
// long.
const GROUP_OPS_MAX: usize = 100_000;
// In pages of 4 KiB. At the first limit, the log is checkpointed as far as readers allow; at the second, the writer
// waits for readers, so that the log does not grow without bound under continuous reads.
const LOG_PAGES: i32 = 1_000;
const LOG_PAGES_MAX: i32 = 16_000;
const LOG_BYTES_KEPT: i64 = 64 << 20;
// The kernel caches the file as well, and frees its cache under memory pressure, so SQLite's own cache is small.
const CACHE_KIB: i64 = 2_048;

/// The queue of jobs.
pub(super) type Inbox = Sender<Job>;

type Reply = oneshot::Sender<Result<TxnResult, Error>>;

/// A checked transaction to commit.
pub(super) struct Job {
    pub(super) txn: Txn,
    pub(super) reply: Reply,
}

/// Opens the file for writing and starts the thread, which ends when all senders are dropped and their jobs are done.
pub(super) fn start(
    path: &Path,
    head: Head,
    position: Position,
    syncs: Arc<AtomicU64>,
) -> Result<(Inbox, JoinHandle<()>), Error> {
    let storage = |error| Error::storage("open the state file", error);
    let connection = open(path).map_err(storage)?;
    // Prepared here once, so that a failure is known before the thread starts.
    Statements::prepare(&connection).map_err(storage)?;
    let (inbox, jobs) = mpsc::channel();
    let run = move || match Statements::prepare(&connection) {
        Ok(statements) => {
            Writer { connection: &connection, statements, head, position, syncs, poison: None }
                .run(&jobs);
        }
        Err(error) => tracing::error!(%error, "the store's writer cannot start"),
    };
    let thread = thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(run)
        .map_err(|error| Error::file("start the writer of", path, error))?;
    Ok((inbox, thread))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // By default, SQLite would checkpoint before a commit returns, and hide a failure of the checkpoint.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_KEPT, |_| Ok(()))?;
    // After a failed flush and a crash, the end of the log may exist only in the page cache. Nothing may be appended to
    // such a log: it would be lost with it. Truncating the log flushes all pages that were read from it.
    connection.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::TRUNCATE)?;
    Ok(connection)
}

/// Waits for a job, and takes the other queued jobs of its group. Returns none if all senders are dropped.
fn next_group(jobs: &Receiver<Job>) -> Option<Vec<Job>> {
    let mut group = vec![jobs.recv().ok()?];
    let ops = |job: &Job| job.txn.ops.len() + job.txn.compares.len();
    let mut total = ops(&group[0]);
    while total < GROUP_OPS_MAX
        && let Ok(job) = jobs.try_recv()
    {
        total += ops(&job);
        group.push(job);
    }
    Some(group)
}

struct Writer<'c> {
    connection: &'c Connection,
    statements: Statements<'c>,
    head: Head,
    position: Position,
    syncs: Arc<AtomicU64>,
    /// The error after which nothing is written.
    poison: Option<Arc<rusqlite::Error>>,
}

impl Writer<'_> {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Some(group) = next_group(jobs) {
            let (txns, replies): (Vec<_>, Vec<_>) =
                group.into_iter().map(|Job { txn, reply }| (txn, reply)).unzip();
            for (reply, result) in replies.into_iter().zip(self.commit_group(&txns)) {
                // The receiver may be gone; the transaction is written all the same.
                let _ = reply.send(result);
            }
            self.checkpoint();
        }
        self.position.flush();
    }

    /// Commits the group as a whole if possible, otherwise one by one.
    fn commit_group(&mut self, txns: &[Txn]) -> Vec<Result<TxnResult, Error>> {
        match self.commit(txns) {
            Ok(results) => results.into_iter().map(Ok).collect(),
            Err(error) if txns.len() == 1 => vec![Err(error)],
            Err(_) => txns.iter().map(|txn| self.commit_alone(txn)).collect(),
        }
    }

    fn commit_alone(&mut self, txn: &Txn) -> Result<TxnResult, Error> {
        let results = self.commit(std::slice::from_ref(txn))?;
        results.into_iter().next().ok_or(Error::Closed)
    }

    /// Applies `txns` in one SQLite transaction. It is flushed if they changed something, and rolled back if anything
    /// fails.
    fn commit(&mut self, txns: &[Txn]) -> Result<Vec<TxnResult>, Error> {
        if let Some(source) = &self.poison {
            return Err(Error::Poisoned { source: source.clone() });
        }
        let (head, results) = self.attempt(txns).map_err(|error| self.fail("commit", error))?;
        if head != self.head {
            self.position.write(head.revision);
            self.head = head;
        }
        Ok(results)
    }

    fn attempt(&mut self, txns: &[Txn]) -> rusqlite::Result<(Head, Vec<TxnResult>)> {
        self.statements.begin()?;
        let applied = self.statements.apply(self.head, txns.iter())?;
        if applied.0.revision > self.head.revision {
            self.statements.commit()?;
            self.syncs.fetch_add(1, Ordering::Relaxed);
        } else {
            self.statements.rollback()?;
        }
        Ok(applied)
    }

    /// Rolls back an open transaction, and decides whether the writer may continue.
    fn fail(&mut self, action: &'static str, error: rusqlite::Error) -> Error {
        // SQLite has already rolled back after most errors.
        let undone = self.connection.is_autocommit() || self.statements.rollback().is_ok();
        if undone && !is_uncertain(&error) {
            return Error::storage(action, error);
        }
        tracing::error!(%error, action, "the store stops writing, since it cannot know what reached the disk");
        let source = Arc::new(error);
        self.poison = Some(Arc::clone(&source));
        Error::Poisoned { source }
    }

    /// Checkpoints the log if it has grown enough.
    fn checkpoint(&mut self) {
        if self.poison.is_some() {
            return;
        }
        let connection = self.connection;
        let mut fold = |mode| {
            self.position.flush();
            connection.wal_checkpoint_v2(DEFAULT_NAME, mode).map(drop)
        };
        let sizes = connection.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::NOOP);
        let folded = sizes.and_then(|(pages, done)| match pages - done {
            _ if pages > LOG_PAGES_MAX && pages > done => fold(CheckpointMode::RESTART),
            waiting if waiting > LOG_PAGES => fold(CheckpointMode::PASSIVE),
            _ => Ok(()),
        });
        match folded {
            Ok(()) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            Err(error) if is_uncertain(&error) => {
                self.fail("fold the log into the state file", error);
            }
            // The log is complete; the next checkpoint may succeed.
            Err(error) => {
                tracing::warn!(%error, "the log cannot be folded into the state file for now")
            }
        }
    }
}

/// Whether an error means that the state on the disk may differ from SQLite's view of it.
fn is_uncertain(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            || matches!(error.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
    })
}
