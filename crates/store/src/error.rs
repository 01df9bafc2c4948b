//! The errors of a store, with messages for its operator.
//!
//! A message about a file states the cause, the path and a remedy. Read next: `embedded/format.rs`, which rejects
//! files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Revision;

/// Why a store could not be opened, or an operation on it failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk or the database failed. A commit with this error had no effect, and the store continues.
    #[error("the store cannot {action}")]
    Storage {
        /// The operation that failed.
        action: &'static str,
        /// The cause.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The state on the disk is unknown, usually because a flush failed. Nothing more is written; committed values can
    /// still be read. Whether the transaction with this error was committed is known after the store is reopened.
    #[error(
        "the store stopped writing, since it cannot know what reached the disk: check the disk, then restart"
    )]
    Poisoned {
        /// The first failure.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A transaction that every store rejects.
    #[error("the transaction makes no sense: {reason}")]
    Invalid {
        /// The violation.
        reason: String,
    },
    /// The store was closed meanwhile.
    #[error("the store is closed")]
    Closed,
    /// Another process has the data directory open.
    #[error(
        "{} is in use by another process{}: stop it, or choose another data directory",
        .directory.display(), .holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The data directory.
        directory: PathBuf,
        /// The other process, if known.
        holder: Option<u32>,
    },
    /// The file at the path of the state is no file of Muster.
    #[error(
        "{} is not a Muster state file ({detail}); it was left untouched: \
         move it away, or choose another data directory",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The evidence.
        detail: String,
    },
    /// The file was written by a newer Muster.
    #[error(
        "{} has format {found}, and this Muster knows formats up to {known}; it was left untouched: \
         run a newer Muster, or choose another data directory",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// The file is damaged. Only the commit that a crash interrupted is repaired; this is not that.
    #[error(
        "{} is damaged ({detail}); it was left untouched: restore it from a backup, or accept the loss",
        .path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The damage.
        detail: String,
    },
    /// The file is older than what the store has acknowledged.
    #[error(
        "{} ends at revision {found}, but revision {acknowledged} was acknowledged; it was left untouched: \
         put back the newest state.db and state.db-wal, or accept the loss",
        .path.display()
    )]
    Behind {
        /// The file.
        path: PathBuf,
        /// Its newest revision.
        found: Revision,
        /// The last acknowledged revision.
        acknowledged: Revision,
    },
    /// Nothing can be written to the data directory, so the store cannot be opened.
    #[error("{} {problem}: {remedy}, then start again", .directory.display())]
    Unwritable {
        /// The data directory.
        directory: PathBuf,
        /// The problem with it.
        problem: &'static str,
        /// What to do about it.
        remedy: &'static str,
        /// The operation that failed first.
        source: Arc<Error>,
    },
    /// A file or directory cannot be used.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Whether acknowledged changes are missing or damaged, so that the store can only be opened after
    /// [`Embedded::salvage`](crate::Embedded::salvage).
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, Error::Corrupt { .. } | Error::Behind { .. })
    }

    pub(crate) fn storage(action: &'static str, source: rusqlite::Error) -> Error {
        Error::Storage { action, source: Arc::new(source) }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::File { action, path: path.into(), source: Arc::new(source) }
    }
}
