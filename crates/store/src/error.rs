//! What can go wrong with a store, in words for the person who runs it.
//!
//! A message about a file says what is wrong, where, and what to do. Read next: `embedded/format.rs`, which refuses
//! files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Revision;

/// Why a store could not be opened, or did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk or the database refused. For a commit: nothing of it happened, and the store goes on.
    #[error("the store cannot {action}")]
    Storage {
        /// What was being tried.
        action: &'static str,
        /// Why it failed.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The state on the disk can no longer be known, mostly since a flush failed. Nothing more is written; what was
    /// committed can still be read. Whether a transaction that gets this answer happened is known after reopening.
    #[error(
        "the store stopped writing, since it cannot know what reached the disk: check the disk, then restart"
    )]
    Poisoned {
        /// What failed first.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The history before `oldest` is forgotten: list the keys again and watch from there.
    #[error("changes older than revision {oldest} are no longer known: list again")]
    Compacted {
        /// The oldest revision that can be watched from.
        oldest: Revision,
    },
    /// A transaction that no store takes.
    #[error("the transaction makes no sense: {reason}")]
    Invalid {
        /// What is wrong with it.
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
        /// The other process, where known.
        holder: Option<u32>,
    },
    /// The file in the place of the state is something else.
    #[error(
        "{} is not a Muster state file ({detail}); it was left untouched: \
         move it away, or choose another data directory",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How one can tell.
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
    /// The file is damaged.
    #[error(
        "{} is damaged ({detail}); it was left untouched: restore it from a backup, \
         or move it away to start with nothing",
        .path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file or directory could not be used at all.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// What was being tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: Arc<io::Error>,
    },
}

impl Error {
    pub(crate) fn storage(action: &'static str, source: rusqlite::Error) -> Error {
        Error::Storage { action, source: Arc::new(source) }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::File { action, path: path.into(), source: Arc::new(source) }
    }
}
