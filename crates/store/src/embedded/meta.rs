//! The table `meta`: the newest revision.
//!
//! The statement that advances it is in `group.rs`, with the other prepared statements of the writer.

use rusqlite::Connection;

/// The newest revision.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'revision'")?
        .query_row((), |row| row.get(0))
}
