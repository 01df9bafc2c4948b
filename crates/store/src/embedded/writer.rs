//! The only thread that writes.
//!
//! It takes all queued jobs, applies them in one SQLite transaction, flushes once, and only then replies. Jobs that
//! arrive meanwhile form the next group: the slower the disk, the larger the groups. Checkpoints and the deletion of
//! old events happen between groups, after the replies.
//!
//! If the disk fails (because it is full, for example), the group is rolled back and each of its transactions is tried
//! alone, so that none fails because of another. If a *flush* fails, nothing more is written: the kernel may have
//! dropped the unwritten pages, and a later flush would succeed without them. Read next: `group.rs`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvError, Sender, TryRecvError};
use std::thread::{self, JoinHandle};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, DEFAULT_NAME, ErrorCode, OpenFlags, ffi};
use tokio::sync::{oneshot, watch};

use super::group::Statements;
use super::{events, meta};
use crate::{Error, Txn, TxnResult};

// Large enough that the cost of a flush is small, small enough that the first transaction of a group does not wait
// long.
const GROUP_OPS_MAX: usize = 100_000;
const SWEEP_EVENTS: i64 = 10_000;
// In pages of 4 KiB. At the first limit, the log is checkpointed as far as readers allow; at the second, the writer
// waits for readers, so that the log does not grow without bound under continuous reads.
const LOG_PAGES: i32 = 1_000;
const LOG_PAGES_MAX: i32 = 16_000;
const LOG_BYTES_KEPT: i64 = 64 << 20;
// The kernel caches the file as well, and frees its cache under memory pressure, so SQLite's own cache is small.
const CACHE_KIB: i64 = 2_048;

/// The queue of jobs.
pub(super) type Inbox = Sender<Job>;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A request to the writer.
pub(super) enum Job {
    /// Commit a checked transaction.
    Commit { txn: Txn, reply: Reply<TxnResult> },
    /// Compact the events before a revision.
    Compact { before: i64, reply: Reply<()> },
}

/// Opens the file for writing and starts the thread, which ends when all senders are dropped and their jobs are done.
pub(super) fn start(
    path: &Path,
    syncs: Arc<AtomicU64>,
) -> Result<(Inbox, JoinHandle<()>, watch::Receiver<i64>), Error> {
    let storage = |error| Error::storage("open the state file", error);
    let connection = open(path).map_err(storage)?;
    let revision = meta::newest(&connection).map_err(storage)?;
    // Prepared here once, so that a failure is known before the thread starts.
    Statements::prepare(&connection).map_err(storage)?;
    let (inbox, jobs) = mpsc::channel();
    let (committed, newest) = watch::channel(revision);
    let run = move || match Statements::prepare(&connection) {
        Ok(statements) => {
            let queue = Queue::new(jobs);
            Writer {
                connection: &connection,
                statements,
                revision,
                committed,
                syncs,
                poison: None,
            }
            .run(queue);
        }
        Err(error) => tracing::error!(%error, "the store's writer cannot start"),
    };
    let thread = thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(run)
        .map_err(|error| Error::file("start the writer of", path, error))?;
    Ok((inbox, thread, newest))
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

/// The jobs that wait for the next group.
struct Queue {
    jobs: Receiver<Job>,
    group: Vec<(Txn, Reply<TxnResult>)>,
    compactions: Vec<(i64, Reply<()>)>,
}

impl Queue {
    fn new(jobs: Receiver<Job>) -> Queue {
        Queue { jobs, group: Vec::new(), compactions: Vec::new() }
    }

    /// Takes the queued jobs; waits for one if `idle`. Returns false if there is none and all senders are dropped.
    fn gather(&mut self, idle: bool) -> bool {
        let mut ops = 0;
        if idle {
            match self.jobs.recv() {
                Ok(job) => ops += self.sort(job),
                Err(RecvError) => return false,
            }
        }
        while ops < GROUP_OPS_MAX {
            match self.jobs.try_recv() {
                Ok(job) => ops += self.sort(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return !(self.group.is_empty() && self.compactions.is_empty());
                }
            }
        }
        true
    }

    /// Adds a job, and returns its size in ops.
    fn sort(&mut self, job: Job) -> usize {
        match job {
            Job::Commit { txn, reply } => {
                let ops = txn.ops.len() + txn.compares.len();
                self.group.push((txn, reply));
                ops
            }
            Job::Compact { before, reply } => {
                self.compactions.push((before, reply));
                0
            }
        }
    }
}

struct Writer<'c> {
    connection: &'c Connection,
    statements: Statements<'c>,
    revision: i64,
    committed: watch::Sender<i64>,
    syncs: Arc<AtomicU64>,
    /// The error after which nothing is written.
    poison: Option<Arc<rusqlite::Error>>,
}

impl Writer<'_> {
    fn run(mut self, mut queue: Queue) {
        let mut sweeping = false;
        while queue.gather(!sweeping) {
            let (txns, replies): (Vec<_>, Vec<_>) = queue.group.drain(..).unzip();
            if !txns.is_empty() {
                let results = self.commit_group(&txns);
                self.committed.send_if_modified(|newest| {
                    std::mem::replace(newest, self.revision) != self.revision
                });
                for (reply, result) in replies.into_iter().zip(results) {
                    // The receiver may be gone; the transaction is written all the same.
                    let _ = reply.send(result);
                }
            }
            for (before, reply) in queue.compactions.drain(..) {
                let result = self.forget(before);
                sweeping |= result.is_ok();
                let _ = reply.send(result);
            }
            if sweeping {
                sweeping = self.sweep();
            }
            self.checkpoint();
        }
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

    fn commit(&mut self, txns: &[Txn]) -> Result<Vec<TxnResult>, Error> {
        let before = self.revision;
        let (revision, results) = self.durably("commit", |writer| {
            let applied = writer.statements.apply(before, txns.iter())?;
            Ok((applied.0 > before, applied))
        })?;
        self.revision = revision;
        Ok(results)
    }

    fn forget(&mut self, before: i64) -> Result<(), Error> {
        let before = before.min(self.revision + 1);
        self.durably("compact", |writer| {
            let later = before > meta::oldest(writer.connection)?;
            if later {
                meta::forget(writer.connection, before)?;
            }
            Ok((later, ()))
        })
    }

    /// Deletes compacted events. Returns whether there are more.
    fn sweep(&mut self) -> bool {
        let swept = self.durably("remove old events", |writer| {
            let all = events::sweep(writer.connection, SWEEP_EVENTS)?;
            Ok((true, all))
        });
        match swept {
            Ok(all) => !all,
            Err(error) => {
                // The next compaction deletes them too.
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "old events stay for now");
                false
            }
        }
    }

    /// Runs `work` in one SQLite transaction. It is flushed if `work` returns that it changed something, and rolled
    /// back if anything fails.
    fn durably<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<(bool, T)>,
    ) -> Result<T, Error> {
        if let Some(source) = &self.poison {
            return Err(Error::Poisoned { source: source.clone() });
        }
        self.attempt(work).map_err(|error| self.fail(action, error))
    }

    fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<(bool, T)>,
    ) -> rusqlite::Result<T> {
        self.statements.begin()?;
        let (changed, value) = work(self)?;
        if changed {
            self.statements.commit()?;
            self.syncs.fetch_add(1, Ordering::Relaxed);
        } else {
            self.statements.rollback()?;
        }
        Ok(value)
    }

    /// Rolls back an open transaction, and decides whether the writer may continue.
    fn fail(&mut self, action: &'static str, error: rusqlite::Error) -> Error {
        // SQLite has already rolled back after most errors.
        let undone = self.connection.is_autocommit() || self.statements.rollback().is_ok();
        if undone && !in_doubt(&error) {
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
        let fold = |mode| self.connection.wal_checkpoint_v2(DEFAULT_NAME, mode);
        let folded = fold(CheckpointMode::NOOP).and_then(|(pages, done)| match pages - done {
            _ if pages > LOG_PAGES_MAX && pages > done => fold(CheckpointMode::RESTART).map(drop),
            waiting if waiting > LOG_PAGES => fold(CheckpointMode::PASSIVE).map(drop),
            _ => Ok(()),
        });
        match folded {
            Ok(()) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            Err(error) if in_doubt(&error) => {
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
fn in_doubt(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            || matches!(error.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
    })
}
