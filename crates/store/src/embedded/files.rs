//! The state file and the files next to it: their names, and creating, replacing and removing them.
//!
//! Nothing here knows the content of a file. Read next: `format.rs`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// The path with `suffix` appended to its file name, as SQLite names the files next to a database.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The size of the write-ahead log of the file at `path` in bytes; zero if there is none.
pub(super) fn log_size(path: &Path) -> Result<u64, Error> {
    let log = with_suffix(path, "-wal");
    match fs::metadata(&log) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::file("look at", log, error)),
    }
}

/// Creates an empty file with permissions for its owner only; SQLite creates its other files with the same permissions.
pub(super) fn touch(path: &Path) -> Result<(), Error> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    opened.map(drop).map_err(|error| Error::file("make", path, error))
}

/// Renames `fresh` to `path`, durably.
pub(super) fn replace(fresh: &Path, path: &Path) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let flush = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    flush(fresh).map_err(|error| Error::file("flush", fresh, error))?;
    fs::rename(fresh, path).map_err(|error| Error::file("make", path, error))?;
    flush(directory).map_err(|error| Error::file("flush", directory, error))
}

/// The reason why nothing can be written to a directory, if that is so, and its remedy. Finds out by writing.
pub(super) fn obstacle(directory: &Path) -> Option<(&'static str, &'static str)> {
    const PROBE: &str = "state.probe";
    let path = directory.join(PROBE);
    // More than a file system may still have in a file's last block.
    let written = fs::write(&path, [0; 64 << 10]);
    let _ = fs::remove_file(&path);
    match written.err()?.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some(("is on a full disk", "free some space"))
        }
        ErrorKind::ReadOnlyFilesystem => Some((
            "is on a read-only disk",
            "mount it writable (the kernel remounts a failing disk read-only)",
        )),
        ErrorKind::PermissionDenied => Some((
            "is not writable by this user",
            "change its owner, or choose another data directory",
        )),
        _ => None,
    }
}

/// Removes a file; no error if it does not exist.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::file("remove", path, error))
        }
        _ => Ok(()),
    }
}
