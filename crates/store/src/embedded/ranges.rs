//! Reading keys in pages, each row compared with its checksum.
//!
//! Read next: `head.rs`.

use rusqlite::{Connection, Row};

use super::checksum::{self, Fault};
use super::from_sql;
use super::head::Head;
use crate::{KeyValue, Page};

/// The keys from one key (inclusive) to another (exclusive).
pub(super) const BOUNDED: &str = "SELECT key, value, modified, sum FROM kv
    WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3";

const UNBOUNDED: &str = "SELECT key, value, modified, sum FROM kv
    WHERE key >= ?1 ORDER BY key LIMIT ?2";

/// One page. `snapshot` must be in a transaction, so that keys and revision are consistent.
pub(super) fn page(
    snapshot: &Connection,
    prefix: &str,
    start_after: Option<&str>,
    limit: usize,
) -> Result<Page, Fault> {
    let limit = limit.max(1);
    // One more than the limit, to detect whether there is a next page.
    let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let start = match start_after {
        Some(key) if key >= prefix => format!("{key}\0"),
        _ => prefix.to_owned(),
    };
    let (mut bounded, mut unbounded);
    let mut rows = match end(prefix) {
        Some(end) => {
            bounded = snapshot.prepare_cached(BOUNDED)?;
            bounded.query((start, end, most))?
        }
        None => {
            unbounded = snapshot.prepare_cached(UNBOUNDED)?;
            unbounded.query((start, most))?
        }
    };
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(key_value(row)?.0);
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.key.clone());
    Ok(Page { items, next, revision: from_sql(Head::read(snapshot)?.revision) })
}

/// A row with the columns of [`BOUNDED`], and its checksum.
pub(super) fn key_value(row: &Row<'_>) -> Result<(KeyValue, i64), Fault> {
    let (key, value, modified): (String, Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let sum = checksum::row(&key, &value, modified);
    match row.get::<_, i64>(3)? == sum {
        true => Ok((KeyValue { key, value, modified: from_sql(modified) }, sum)),
        false => Err(Fault::Damage(format!("the value of {key} fails its checksum"))),
    }
}

/// The first string after all strings with `prefix`; `None` if there is none. UTF-8 sorts like its characters, so it is
/// enough to increment the last one.
fn end(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // The range of the surrogates is the only gap between the characters.
        let next =
            if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::end;

    #[track_caller]
    fn check(prefix: &str, expected: Option<&str>) {
        assert_eq!(end(prefix).as_deref(), expected);
    }

    #[test]
    fn the_end_of_a_prefix() {
        check("", None);
        check("/a/", Some("/a0"));
        check("a\u{7f}", Some("a\u{80}"));
        check("a\u{d7ff}", Some("a\u{e000}"));
        check("a\u{10ffff}", Some("b"));
        check("\u{10ffff}\u{10ffff}", None);
    }
}
