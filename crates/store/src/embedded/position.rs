//! The last acknowledged revision, outside of the state file and its log.
//!
//! SQLite takes a damaged log for one that a crash cut off, and starts with what is before the damage. So the writer
//! notes each revision in `state.position` once it is flushed and before it is acknowledged: a store whose newest revision
//! is lower has lost acknowledged changes.
//!
//! The note costs one write to the kernel's cache and no flush. It survives the end of the process, however violent. After
//! a power loss it may be some seconds old, which is safe: it is never higher than what was flushed. It is flushed when
//! the log is folded into the state file, because the log then stops witnessing the commits in it (`log.rs`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::checksum;
use super::files::{remove, replace, with_suffix};
use crate::Error;

/// The file of the last acknowledged revision, open for writing.
pub(super) struct Position {
    file: File,
    path: PathBuf,
    /// Whether the last write failed, so that a failing disk is logged once.
    failed: bool,
}

/// The path of the file in a data directory.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("state.position")
}

/// The noted revision; `None` if there is no file, as in a directory with only a backup, or if it is damaged.
pub(super) fn read(directory: &Path) -> Result<Option<i64>, Error> {
    let path = path(directory);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", path, error)),
    };
    let position = parse(&text);
    if position.is_none() {
        tracing::warn!(path = %path.display(), "the note of the last acknowledged revision is damaged; it is written again");
    }
    Ok(position)
}

fn parse(text: &[u8]) -> Option<i64> {
    let revision = std::str::from_utf8(text).ok()?.split(' ').next()?.parse().ok()?;
    (line(revision).as_bytes() == text).then_some(revision)
}

/// The content of the file: of one length for all revisions and within a sector, so that a write replaces all or nothing.
fn line(revision: i64) -> String {
    format!("{revision:020} {:08x}\n", checksum::numbers(&[revision]))
}

impl Position {
    /// Notes `revision` durably, and keeps the file open.
    pub(super) fn open(directory: &Path, revision: i64) -> Result<Position, Error> {
        let path = path(directory);
        let fresh = with_suffix(&path, ".new");
        remove(&fresh)?;
        let make = |error| Error::file("make", &fresh, error);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(make)?;
        file.write_all(line(revision).as_bytes()).map_err(make)?;
        replace(&fresh, &path)?;
        Ok(Position { file, path, failed: false })
    }

    /// Notes a flushed revision. If the disk fails, the note stays behind, which is safe.
    pub(super) fn write(&mut self, revision: i64) {
        let written = self.file.write_all_at(line(revision).as_bytes(), 0);
        self.check(written);
    }

    /// Flushes the note.
    pub(super) fn flush(&mut self) {
        let flushed = self.file.sync_data();
        self.check(flushed);
    }

    fn check(&mut self, result: io::Result<()>) {
        if let Err(error) = &result
            && !self.failed
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot note the last acknowledged revision");
        }
        self.failed = result.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_with_a_flipped_bit_is_no_note() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        let mut position = Position::open(directory.path(), 7).unwrap();
        position.write(1_234_567);
        assert_eq!(read(directory.path()).unwrap(), Some(1_234_567));
        let whole = fs::read(path(directory.path())).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut text = whole.clone();
            text[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&text), None, "bit {bit}");
        }
    }
}
