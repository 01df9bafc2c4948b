//! The table `meta`: the newest revision, and the oldest one whose events are stored.
//!
//! The statement that advances the newest revision is in `group.rs`, with the other prepared statements of the writer.
//! Read next: `events.rs`.

use rusqlite::Connection;

/// The newest revision.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'revision'")?
        .query_row((), |row| row.get(0))
}

/// The oldest revision whose events are still stored.
pub(super) fn oldest(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'oldest'")?
        .query_row((), |row| row.get(0))
}

/// Marks all events before revision `before` as compacted. Fast: `events::sweep` deletes the events.
pub(super) fn forget(connection: &Connection, before: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'oldest'")?
        .execute([before])?;
    Ok(())
}
