//! Why the files of an instance cannot be written.

use std::io;

use super::fetch;

/// The maximum size of the content of an archive, in MiB.
pub(super) const MIB_MAX: u64 = 4096;
/// The maximum number of entries of an archive.
pub(super) const ENTRIES_MAX: usize = 100_000;

/// Why a file cannot be written. Paths are those of the document, or below them in an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// The path leads through a link, which the agent does not follow.
    #[error("{path} is, or leads through, a link, which is not followed; remove the link")]
    Link {
        /// The path.
        path: String,
    },
    /// There is a directory in the place of the file.
    #[error("{path} is a directory; remove it, or give the file another path")]
    Directory {
        /// The path.
        path: String,
    },
    /// The owner does not exist.
    #[error("{path}: {message}")]
    UnknownOwner {
        /// The path.
        path: String,
        /// Which user or group there is not.
        message: String,
    },
    /// Only root may give a file to another user.
    #[error("{path} cannot be given to user {uid}: the agent does not run as root")]
    Owner {
        /// The path.
        path: String,
        /// The user.
        uid: u32,
    },
    /// An operation failed.
    #[error("cannot write {path}")]
    Io {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An archive cannot be read.
    #[error("the archive for {path} cannot be read; it may be damaged")]
    Archive {
        /// The directory into which it is unpacked.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The format of an archive is unknown.
    #[error("the file for {path} is no archive: tar, and tar compressed by gzip, are unpacked")]
    Format {
        /// The directory into which it is unpacked.
        path: String,
    },
    /// An archive is too large.
    #[error("the archive for {path} has more than {MIB_MAX} MiB or {ENTRIES_MAX} entries")]
    ArchiveTooLarge {
        /// The directory into which it is unpacked.
        path: String,
    },
    /// An archive has an entry that is not unpacked.
    #[error("the archive for {path} contains `{name}`, which is rejected: {why}")]
    Entry {
        /// The directory into which it is unpacked.
        path: String,
        /// The name of the entry.
        name: String,
        /// The reason.
        why: &'static str,
    },
}

impl Error {
    /// A failed operation on `path`.
    pub(crate) fn io(path: &str, source: io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }
}
