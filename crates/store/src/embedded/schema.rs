//! The tables of each format, and the migrations between formats.
//!
//! To change the format, append to [`MIGRATIONS`]; a released migration must not change. Read next: `verify.rs`.

use rusqlite::Connection;

use super::checksum::{self, Fault};
use super::head::Head;

/// The newest format.
pub(super) const NEWEST: usize = MIGRATIONS.len();

/// Migrates the tables of one format to the next.
pub(super) type Migration = fn(&Connection) -> rusqlite::Result<()>;

/// The n-th migrates format n to format n + 1; the first creates the tables of an empty file.
pub(super) const MIGRATIONS: &[Migration] = &[format_1, format_2, format_3];

// Rowid tables: with values of some hundred bytes, tables without rowid are slower to write.
fn format_1(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE meta (
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
        INSERT INTO meta VALUES ('revision', 0), ('oldest', 1);",
    )
}

// Nothing read the log of changes, which wrote every value twice.
fn format_2(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "DROP TABLE event;
        DELETE FROM meta WHERE name = 'oldest';
        ALTER TABLE kv DROP COLUMN created;
        ALTER TABLE kv DROP COLUMN version;",
    )
}

// The value is the last column: to read one after it, SQLite would read all pages of a large value.
const KV: &str = "CREATE TABLE kv (key TEXT PRIMARY KEY NOT NULL, modified INTEGER NOT NULL, \
    sum INTEGER NOT NULL, value BLOB NOT NULL) STRICT";
const HEAD: &str = "CREATE TABLE head (revision INTEGER NOT NULL, content INTEGER NOT NULL, \
    sum INTEGER NOT NULL) STRICT";

// Rows without a checksum could change undetected, and a row could disappear.
fn format_3(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("ALTER TABLE kv RENAME TO unsummed; {KV}; {HEAD};"))?;
    let mut head = Head { revision: revision(connection)?, content: 0 };
    let mut insert =
        connection.prepare("INSERT INTO kv (key, value, modified, sum) VALUES (?1, ?2, ?3, ?4)")?;
    let mut unsummed = connection.prepare("SELECT key, value, modified FROM unsummed")?;
    let mut rows = unsummed.query(())?;
    while let Some(row) = rows.next()? {
        let (key, value, modified): (String, Vec<u8>, i64) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let sum = checksum::row(&key, &value, modified);
        insert.execute((key, value, modified, sum))?;
        head.exchange(0, sum);
    }
    let values = (head.revision, head.content, head.sum());
    connection.execute("INSERT INTO head VALUES (?1, ?2, ?3)", values)?;
    drop(rows);
    drop((unsummed, insert));
    connection.execute_batch("DROP TABLE unsummed; DROP TABLE meta;")
}

/// The newest revision in a file of format 1 or 2.
pub(super) fn revision(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT value FROM meta WHERE name = 'revision'", (), |row| row.get(0))
}

/// Checks that a file has the tables of its format. Those of the newest are compared letter by letter, because a damaged
/// definition can be a valid one.
pub(super) fn check(connection: &Connection, format: usize) -> Result<(), Fault> {
    let mut statement = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let tables: Vec<(String, String)> =
        statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let has = |name: &str| tables.iter().any(|(table, _)| table == name);
    let agrees = match format {
        NEWEST => tables.iter().map(|(_, sql)| sql.as_str()).eq([HEAD, KV]),
        1 => has("kv") && has("meta") && has("event"),
        _ => has("kv") && has("meta") && !has("event"),
    };
    match agrees {
        true => Ok(()),
        false => Err(Fault::Damage(format!("its tables are not those of format {format}"))),
    }
}
