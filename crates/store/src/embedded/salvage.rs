//! Keeps what is intact in a damaged or outdated file, once an operator accepts the loss.
//!
//! The intact rows go to a new file. Its revision is above every revision that may have been acknowledged, so that none is
//! given twice and agents and gateways do not take the server for an older one. The files are copied first, and the new
//! one replaces them at the end: a crash in between loses nothing, and salvaging again is safe.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row};

use super::files::{remove, replace, with_suffix};
use super::head::Head;
use super::ranges::key_value;
use super::schema::{self, MIGRATIONS};
use super::{format, from_sql, position, to_sql, verify};
use crate::{Error, KeyValue, Revision};

/// The result of [`Embedded::salvage`](crate::Embedded::salvage).
#[derive(Debug)]
pub struct Salvaged {
    /// The error for which the store could not be opened.
    pub reason: Error,
    /// The number of intact keys.
    pub kept: usize,
    /// The keys that are known to be damaged. There may be others, whose keys are damaged too.
    pub damaged: Vec<String>,
    /// The revision of the store from here on.
    pub revision: Revision,
    /// The copy of the state file as it was; a copy of its log is next to it.
    pub copy: PathBuf,
}

pub(super) fn salvage(directory: &Path, reason: Error) -> Result<Salvaged, Error> {
    let path = format::path(directory);
    // A file of an older format has no checksums that could tell what is intact.
    if format::inspect(&path, MIGRATIONS.len())? != Some(schema::NEWEST) {
        return Err(reason);
    }
    let Ok(connection) = verify::open_read_only(&path)? else { return Err(reason) };
    let found = Found::read(&connection);
    drop(connection);
    // An outdated file is intact, also if it is the empty one of the first start.
    if found.intact.is_empty() && matches!(reason, Error::Corrupt { .. }) {
        return Err(reason);
    }
    let last = found.intact.values().map(|item| to_sql(item.modified)).max();
    let acknowledged = position::read(directory)?;
    let newest = [acknowledged, last, Some(found.newest)].into_iter().flatten().max();
    let revision = newest.unwrap_or(0) + 1;

    let copy = keep_copy(&path)?;
    let fresh = with_suffix(&path, ".new");
    format::build(&fresh, 0, MIGRATIONS)?;
    fill(&fresh, revision, &found.intact)
        .map_err(|error| Error::storage("write the intact objects", error))?;
    // SQLite would apply the old log to the new file.
    remove(&with_suffix(&path, "-wal"))?;
    remove(&with_suffix(&path, "-shm"))?;
    replace(&fresh, &path)?;
    let intact = &found.intact;
    let damaged = found.damaged.into_iter().filter(|key| !intact.contains_key(key)).collect();
    Ok(Salvaged { reason, kept: intact.len(), damaged, revision: from_sql(revision), copy })
}

/// The rows of a damaged file.
#[derive(Default)]
struct Found {
    /// By key; of two rows with a key, the newer one.
    intact: BTreeMap<String, KeyValue>,
    damaged: BTreeSet<String>,
    newest: i64,
}

impl Found {
    fn read(connection: &Connection) -> Found {
        let newest = Head::read(connection).map_or(0, |head| head.revision);
        let mut found = Found { newest, ..Found::default() };
        found.pass(connection, "ASC");
        // From the other end, in case a damaged page ended the first pass.
        found.pass(connection, "DESC");
        found
    }

    /// Reads rows in the order of their ids, up to the first page that cannot be read.
    fn pass(&mut self, connection: &Connection, order: &str) {
        let sql =
            format!("SELECT key, value, modified, sum FROM kv NOT INDEXED ORDER BY rowid {order}");
        let Ok(mut statement) = connection.prepare(&sql) else { return };
        let Ok(mut rows) = statement.query(()) else { return };
        while let Ok(Some(row)) = rows.next() {
            self.take(row);
        }
    }

    fn take(&mut self, row: &Row<'_>) {
        match key_value(row) {
            Ok((item, _)) => {
                let known = self.intact.get(&item.key);
                if known.is_none_or(|known| known.modified < item.modified) {
                    self.intact.insert(item.key.clone(), item);
                }
            }
            Err(_) => self.damaged.extend(row.get::<_, String>(0).ok()),
        }
    }
}

/// Copies the file and its log, under names that no other copy has.
fn keep_copy(path: &Path) -> Result<PathBuf, Error> {
    let mut names = (1..).map(|number| with_suffix(path, &format!(".damaged-{number}")));
    let copy = names.find(|copy| !copy.exists()).expect("numbers do not end");
    let log = with_suffix(path, "-wal");
    if log.exists() {
        let copy = with_suffix(&copy, "-wal");
        fs::copy(log, &copy)
            .map_err(|error| Error::file("copy the damaged log to", copy, error))?;
    }
    fs::copy(path, &copy).map_err(|error| Error::file("copy the damaged file to", &copy, error))?;
    Ok(copy)
}

/// Writes rows to an empty file.
fn fill(fresh: &Path, revision: i64, rows: &BTreeMap<String, KeyValue>) -> rusqlite::Result<()> {
    let mut connection = format::open(fresh)?;
    let transaction = connection.transaction()?;
    let mut head = Head { revision, content: 0 };
    let mut insert = transaction
        .prepare("INSERT INTO kv (key, value, modified, sum) VALUES (?1, ?2, ?3, ?4)")?;
    for KeyValue { key, value, modified } in rows.values() {
        let modified = to_sql(*modified);
        let sum = super::checksum::row(key, value, modified);
        insert.execute((key, value, modified, sum))?;
        head.exchange(0, sum);
    }
    drop(insert);
    let values = (head.revision, head.content, head.sum());
    transaction.execute("UPDATE head SET revision = ?1, content = ?2, sum = ?3", values)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)
}
