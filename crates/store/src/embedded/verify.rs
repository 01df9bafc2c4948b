//! Checks a state file without writing to it or next to it.
//!
//! Opened in the usual way, SQLite would create `-shm` and `-wal` files and checkpoint the log before any check could
//! find damage. Therefore the file is opened as immutable; if a crash left a log, whose pages count too, it is opened
//! without file locks and with the log's index in memory. `lock.rs` ensures that no other process has the file open.
//!
//! The check finds damaged pages, wrong types and missing tables. It cannot find a flipped bit in a value: SQLite
//! stores no checksum of values. Read next: `files.rs`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::files::log_size;
use super::group::Statements;
use super::{meta, ranges};
use crate::Error;

/// Checks every page of the file, whatever its format.
pub(super) fn check_integrity(path: &Path) -> Result<(), Error> {
    let check = |connection: &Connection| {
        connection.query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0))
    };
    match open_read_only(path)?.and_then(|connection| check(&connection)) {
        Ok(verdict) if verdict == "ok" => Ok(()),
        // The first line is a heading if the result is about a table as a whole.
        Ok(verdict) => Err(corrupt(path, &verdict.lines().last().unwrap_or_default())),
        Err(error) => Err(classify(path, error)),
    }
}

/// Checks that a file of the newest format has all tables and columns that this program uses.
pub(super) fn readable(path: &Path) -> Result<(), Error> {
    let ask = |connection: Connection| {
        Statements::prepare(&connection)?;
        connection.prepare(ranges::BOUNDED)?;
        meta::newest(&connection)
    };
    match open_read_only(path)?.and_then(ask) {
        Ok(revision) if revision >= 0 => Ok(()),
        Ok(revision) => Err(corrupt(path, &format!("its revision is {revision}"))),
        Err(error) => Err(classify(path, error)),
    }
}

fn corrupt(path: &Path, detail: &dyn std::fmt::Display) -> Error {
    Error::Corrupt { path: path.to_owned(), detail: detail.to_string() }
}

/// A failed disk proves nothing about the file; every other failure here does.
fn classify(path: &Path, error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied,
        ) => Error::storage("check the state file", error),
        _ => corrupt(path, &error),
    }
}

/// Opens the file so that nothing is written.
fn open_read_only(path: &Path) -> Result<rusqlite::Result<Connection>, Error> {
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
