//! Checks a state file without writing to it or next to it.
//!
//! Opened in the usual way, SQLite would create `-shm` and `-wal` files and checkpoint the log before any check could
//! find damage. Therefore the file is opened as immutable; if a crash left a log, whose pages count too, it is opened
//! without file locks and with the log's index in memory. `lock.rs` ensures that no other process has the file open.
//!
//! SQLite's own check compares pages and indexes; the checksums cover what is in them. Together they detect a flipped bit
//! anywhere, or are right not to: it is in a part that nothing reads. Read next: `salvage.rs`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::checksum::Fault;
use super::files::log_size;
use super::head::Head;
use super::ranges::key_value;
use super::schema;
use crate::Error;

/// Checks every page of the file and, in the newest format, every row. Returns the newest revision and checksum.
pub(super) fn check(path: &Path, format: usize) -> Result<Head, Error> {
    let connection = open_read_only(path)?.map_err(|error| classify(path, error.into()))?;
    let check = || {
        pages(&connection)?;
        schema::check(&connection, format)?;
        if format < schema::NEWEST {
            return Ok(Head { revision: schema::revision(&connection)?, content: 0 });
        }
        let head = Head::read(&connection)?;
        match content(&connection)? == head.content {
            true => Ok(head),
            false => {
                Err(Fault::Damage("its objects are not those of its newest revision".to_owned()))
            }
        }
    };
    check().map_err(|fault| classify(path, fault))
}

fn pages(connection: &Connection) -> Result<(), Fault> {
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        // The first line is a heading if the result is about a table as a whole.
        _ => Err(Fault::Damage(verdict.lines().last().unwrap_or_default().to_owned())),
    }
}

/// The sum of the checksums of all rows, each of which is checked.
fn content(connection: &Connection) -> Result<i64, Fault> {
    let mut statement = connection.prepare("SELECT key, value, modified, sum FROM kv")?;
    let mut rows = statement.query(())?;
    let mut head = Head::default();
    while let Some(row) = rows.next()? {
        head.exchange(0, key_value(row)?.1);
    }
    Ok(head.content)
}

/// A failed disk proves nothing about the file; every other failure here does.
pub(super) fn classify(path: &Path, fault: Fault) -> Error {
    let corrupt = |detail: String| Error::Corrupt { path: path.to_owned(), detail };
    match fault {
        Fault::Damage(detail) => corrupt(detail),
        Fault::Sqlite(error) => match error.sqlite_error_code() {
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied,
            ) => Error::storage("check the state file", error),
            _ => corrupt(error.to_string()),
        },
    }
}

/// Opens the file so that nothing is written.
pub(super) fn open_read_only(path: &Path) -> Result<rusqlite::Result<Connection>, Error> {
    let logged = log_size(path)? > 0;
    let how = if logged { "vfs=unix-none" } else { "immutable=1" };
    let uri = format!("file:{}?mode=ro&{how}", escaped(path));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(uri, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if logged {
            // Keeps the log's index in memory instead of in a -shm file.
            connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        }
        Ok(connection)
    };
    Ok(open())
}

/// A path in the form of a URI.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                text.push(char::from(byte))
            }
            _ => text.push_str(&format!("%{byte:02x}")),
        }
    }
    text
}
