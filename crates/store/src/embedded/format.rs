//! The state file: its creation and migration, and the files that are rejected.
//!
//! The format number is SQLite's `user_version` and Muster's mark its `application_id`. Both are in the first hundred
//! bytes, so that a file can be checked before SQLite opens it, which would create files next to it. To keep those
//! bytes valid, `state.db` is never created or migrated in place: a complete file is created next to it and renamed
//! over it. A crash during this leaves the old file, or none. The file of an older format is kept, as
//! `state.db.format-2` for example.
//!
//! A log that a crash cut off is the only damage that is repaired, by SQLite when it opens the file. Everything else is
//! rejected here, with the files as they were. Read next: `schema.rs`, `verify.rs`, `log.rs` and `position.rs`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, DEFAULT_NAME, OpenFlags};

use super::files::{log_size, remove, replace, touch, with_suffix};
use super::head::Head;
use super::schema::{MIGRATIONS, Migration};
use super::{from_sql, log, position, verify};
use crate::Error;

/// `Must`, so that `file` and a hex dump identify the file.
const APPLICATION_ID: u32 = u32::from_be_bytes(*b"Must");

/// Ensures that `directory` has an intact file of the newest format with every acknowledged change. Returns its path and
/// its head.
pub(super) fn prepare(directory: &Path) -> Result<(PathBuf, Head), Error> {
    prepare_with(directory, MIGRATIONS)
}

fn prepare_with(directory: &Path, migrations: &[Migration]) -> Result<(PathBuf, Head), Error> {
    let path = path(directory);
    let fresh = with_suffix(&path, ".new");
    // The remains of a crash; they were never the state.
    for leftover in ["", "-journal", "-wal", "-shm"] {
        remove(&with_suffix(&fresh, leftover))?;
    }
    let acknowledged = position::read(directory)?.unwrap_or(0);
    let Some(found) = inspect(&path, migrations.len())? else {
        if acknowledged > 0 {
            let detail = format!("it is gone, but revision {acknowledged} of it was acknowledged");
            return Err(Error::Corrupt { path, detail });
        }
        build(&fresh, 0, migrations)?;
        replace(&fresh, &path)?;
        return Ok((path, Head::default()));
    };
    let mut head = check(&path, found)?;
    if head.revision < acknowledged {
        return Err(Error::Behind {
            path,
            found: from_sql(head.revision),
            acknowledged: from_sql(acknowledged),
        });
    }
    if found < migrations.len() {
        upgrade(&path, &fresh, found, migrations)?;
        head = check(&path, migrations.len())?;
    }
    Ok((path, head))
}

/// Checks the log and the file with it.
fn check(path: &Path, format: usize) -> Result<Head, Error> {
    log::check(path)?;
    verify::check(path, format)
}

/// The path of the state file in a data directory.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("state.db")
}

/// The format of the file; `None` if there is no file. Only reads.
pub(super) fn inspect(path: &Path, known: usize) -> Result<Option<usize>, Error> {
    let foreign =
        |detail: &str| Error::Foreign { path: path.to_owned(), detail: detail.to_owned() };
    let corrupt =
        |detail: &str| Error::Corrupt { path: path.to_owned(), detail: detail.to_owned() };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // SQLite would replay the log of the lost file into the new one.
            return match log_size(path)? {
                0 => Ok(None),
                _ => Err(corrupt("it is gone, but its write-ahead log state.db-wal is there")),
            };
        }
        Err(error) => return Err(Error::file("open", path, error)),
    };
    let mut header = [0; 100];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(corrupt("it is too short to be one"));
        }
        Err(error) => return Err(Error::file("read", path, error)),
    }
    // https://www.sqlite.org/fileformat2.html#the_database_header
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(foreign("it does not begin as an SQLite database does"));
    }
    let (user_version, application_id) = (number(60), number(68));
    if application_id != APPLICATION_ID {
        return Err(foreign(&format!(
            "an SQLite database with application id {application_id:#010x}"
        )));
    }
    match user_version as usize {
        0 => Err(corrupt("its format is 0")),
        found if found > known => Err(Error::Newer {
            path: path.to_owned(),
            found: user_version,
            known: u32::try_from(known).unwrap_or(0),
        }),
        found => Ok(Some(found)),
    }
}

/// Migrates the file at `path` from format `found` to the newest, in a copy at `fresh`.
fn upgrade(path: &Path, fresh: &Path, found: usize, migrations: &[Migration]) -> Result<(), Error> {
    let storage = |error| Error::storage("bring the state file to the newest format", error);
    touch(fresh)?;
    let old = open(path).map_err(storage)?;
    old.wal_checkpoint_v2(DEFAULT_NAME, CheckpointMode::TRUNCATE).map_err(storage)?;
    let target = fresh.to_str().ok_or_else(|| {
        Error::file(
            "use a name that is not UTF-8 for",
            path,
            io::Error::from(ErrorKind::InvalidFilename),
        )
    })?;
    old.execute("VACUUM INTO ?1", [target]).map_err(storage)?;
    old.close().map_err(|(_, error)| storage(error))?;
    remove(&with_suffix(path, "-wal"))?;
    remove(&with_suffix(path, "-shm"))?;
    build(fresh, found, migrations)?;
    let kept = with_suffix(path, &format!(".format-{found}"));
    remove(&kept)?;
    fs::hard_link(path, &kept)
        .map_err(|error| Error::file("keep the older file as", &kept, error))?;
    replace(fresh, path)?;
    tracing::info!(from = found, to = migrations.len(), kept = %kept.display(), "brought the state file to the newest format");
    Ok(())
}

/// Applies the migrations after format `found` to the file at `fresh`, which is created if it does not exist.
pub(super) fn build(fresh: &Path, found: usize, migrations: &[Migration]) -> Result<(), Error> {
    touch(fresh)?;
    let steps = || {
        let mut connection = open(fresh)?;
        // No write-ahead log yet: this file must be complete by itself.
        connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction()?;
        for migration in &migrations[found..] {
            migration(&transaction)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", migrations.len().cast_signed())?;
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error)
    };
    steps().map_err(|error| Error::storage("make the state file", error))
}

pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
}

#[cfg(test)]
mod tests {
    use super::super::checksum;
    use super::*;

    /// A file of format 1 with one key, part of it still in the write-ahead log.
    fn older(directory: &Path) -> PathBuf {
        let (path, _) = prepare_with(directory, &MIGRATIONS[..1]).unwrap();
        let connection = open(&path).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        connection.execute("INSERT INTO kv VALUES ('a', x'31', 1, 1, 1)", ()).unwrap();
        connection
            .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .unwrap();
        drop(connection);
        assert!(log_size(&path).unwrap() > 0);
        path
    }

    #[test]
    fn an_older_file_is_migrated_and_kept_as_a_backup() {
        let directory = tempfile::tempdir().unwrap();
        let path = older(directory.path());
        let (_, head) = prepare(directory.path()).unwrap();
        assert_eq!(inspect(&path, 3).unwrap(), Some(3));
        assert_eq!((head.revision, head.content), (0, checksum::row("a", b"1", 1)));
        assert_eq!(inspect(&with_suffix(&path, ".format-1"), 3).unwrap(), Some(1));
        // Migrated once, and rejected by a program that does not know the newest format.
        assert_eq!(prepare(directory.path()).unwrap().1, head);
        let earlier = prepare_with(directory.path(), &MIGRATIONS[..2]);
        assert!(matches!(earlier, Err(Error::Newer { found: 3, known: 2, .. })));
    }

    #[test]
    fn a_migration_that_fails_leaves_the_older_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = older(directory.path());
        let broken: Migration = |connection| connection.execute_batch("CREATE TABLE kv (no)");
        let failed = prepare_with(directory.path(), &[MIGRATIONS[0], broken]);
        assert!(matches!(failed, Err(Error::Storage { .. })));
        assert_eq!(inspect(&path, 2).unwrap(), Some(1));
        prepare(directory.path()).unwrap();
    }

    #[test]
    fn leftovers_of_an_interrupted_creation_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        fs::write(with_suffix(&path, ".new"), "half").unwrap();
        fs::write(with_suffix(&path, ".new-journal"), "half").unwrap();
        prepare(directory.path()).unwrap();
        assert_eq!(inspect(&path, 3).unwrap(), Some(3));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
