//! The file format: its tables, its creation and migration, and the files that are rejected.
//!
//! The format number is SQLite's `user_version` and Muster's mark its `application_id`. Both are in the first hundred
//! bytes, so that a file can be checked before SQLite opens it, which would create files next to it. To keep those
//! bytes valid, `state.db` is never created or migrated in place: a complete file is created next to it and renamed
//! over it. A crash during this leaves the old file, or none. The file of the older format is kept as
//! `state.db.format-1`.
//!
//! To change the format, append to [`MIGRATIONS`]; a released migration must not change. Read next: `verify.rs`, then
//! `group.rs`, which writes these tables.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, DEFAULT_NAME, OpenFlags};

use super::files::{log_size, remove, replace, touch, with_suffix};
use super::verify;
use crate::Error;

/// `Must`, so that `file` and a hex dump identify the file.
const APPLICATION_ID: u32 = u32::from_be_bytes(*b"Must");

/// The n-th migrates format n to format n + 1; the first creates the tables of an empty file.
const MIGRATIONS: &[&str] = &[FORMAT_1, FORMAT_2];

// Rowid tables: with values of some hundred bytes, tables without rowid are slower to write.
const FORMAT_1: &str = "
    CREATE TABLE meta (
        name TEXT PRIMARY KEY NOT NULL,
        value INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE kv (
        key TEXT PRIMARY KEY NOT NULL,
        value BLOB NOT NULL,
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        version INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE event (
        id INTEGER PRIMARY KEY NOT NULL,
        key TEXT NOT NULL,
        value BLOB,
        revision INTEGER NOT NULL GENERATED ALWAYS AS (id >> 20) VIRTUAL
    ) STRICT;
    INSERT INTO meta VALUES ('revision', 0), ('oldest', 1);
";

// Nothing read the log of changes, which wrote every value twice.
const FORMAT_2: &str = "
    DROP TABLE event;
    DELETE FROM meta WHERE name = 'oldest';
    ALTER TABLE kv DROP COLUMN created;
    ALTER TABLE kv DROP COLUMN version;
";

/// Ensures that `directory` has an intact file of the newest format, and returns its path.
pub(super) fn prepare(directory: &Path) -> Result<PathBuf, Error> {
    prepare_with(directory, MIGRATIONS)
}

fn prepare_with(directory: &Path, migrations: &[&str]) -> Result<PathBuf, Error> {
    let path = directory.join("state.db");
    let fresh = with_suffix(&path, ".new");
    // The remains of a crash; they were never the state.
    for leftover in [
        &fresh,
        &with_suffix(&fresh, "-journal"),
        &with_suffix(&fresh, "-wal"),
        &with_suffix(&fresh, "-shm"),
    ] {
        remove(leftover)?;
    }
    match inspect(&path, migrations.len())? {
        None => {
            build(&fresh, 0, migrations)?;
            replace(&fresh, &path)?;
        }
        Some(found) => {
            verify::check_integrity(&path)?;
            if found < migrations.len() {
                upgrade(&path, &fresh, found, migrations)?;
            }
            verify::readable(&path)?;
        }
    }
    Ok(path)
}

/// The format of the file; `None` if there is no file. Only reads.
fn inspect(path: &Path, known: usize) -> Result<Option<usize>, Error> {
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
fn upgrade(path: &Path, fresh: &Path, found: usize, migrations: &[&str]) -> Result<(), Error> {
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
fn build(fresh: &Path, found: usize, migrations: &[&str]) -> Result<(), Error> {
    touch(fresh)?;
    let steps = || {
        let mut connection = open(fresh)?;
        // No write-ahead log yet: this file must be complete by itself.
        connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction()?;
        for migration in &migrations[found..] {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", migrations.len().cast_signed())?;
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error)
    };
    steps().map_err(|error| Error::storage("make the state file", error))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: &[&str] = &[
        FORMAT_1,
        FORMAT_2,
        "ALTER TABLE kv ADD COLUMN note TEXT; UPDATE kv SET note = 'from ' || key;",
    ];

    /// A file of format 1 with one key, part of it still in the write-ahead log.
    fn older(directory: &Path) -> PathBuf {
        let path = prepare_with(directory, &NEXT[..1]).unwrap();
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
        prepare_with(directory.path(), NEXT).unwrap();
        assert_eq!(inspect(&path, 3).unwrap(), Some(3));
        let note: String =
            open(&path).unwrap().query_row("SELECT note FROM kv", (), |row| row.get(0)).unwrap();
        assert_eq!(note, "from a");
        assert_eq!(inspect(&with_suffix(&path, ".format-1"), 3).unwrap(), Some(1));
        // Migrated once, and rejected by a program that does not know the newest format.
        prepare_with(directory.path(), NEXT).unwrap();
        assert!(matches!(prepare(directory.path()), Err(Error::Newer { found: 3, known: 2, .. })));
    }

    #[test]
    fn a_migration_that_fails_leaves_the_older_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = older(directory.path());
        let broken = &[FORMAT_1, "CREATE TABLE kv (no)"];
        assert!(matches!(prepare_with(directory.path(), broken), Err(Error::Storage { .. })));
        assert_eq!(inspect(&path, 2).unwrap(), Some(1));
        prepare_with(directory.path(), NEXT).unwrap();
    }

    #[test]
    fn leftovers_of_an_interrupted_creation_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        fs::write(with_suffix(&path, ".new"), "half").unwrap();
        fs::write(with_suffix(&path, ".new-journal"), "half").unwrap();
        prepare(directory.path()).unwrap();
        assert_eq!(inspect(&path, 2).unwrap(), Some(2));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
