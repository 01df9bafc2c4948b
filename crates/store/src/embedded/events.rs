//! The event log: reads, watches and the deletion of compacted events.
//!
//! A follower keeps only its position in the log. A new revision wakes it, and it reads on from its position, so that
//! missed wake-ups do no harm. Read next: `writer.rs`, which writes the log.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;

use super::readers::Readers;
use super::{from_sql, meta, to_sql};
use crate::{Error, Event, Pending, Revision, Source};

/// The log from a position on.
pub(super) const FROM: &str = "SELECT id, key, value FROM event WHERE id >= ?1 ORDER BY id";

// The limits of one read, in scanned rows, events and bytes. A read holds a connection, and the writer cannot reuse the
// log meanwhile.
const PASSED_MAX: usize = 20_000;
const FOUND_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 << 20;

/// A position in the event log: a revision, and the index of an op in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(i64);

impl Place {
    const OP_BITS: u32 = 20;

    pub(super) fn of(revision: i64, op: usize) -> Place {
        let op = i64::try_from(op).unwrap_or(0);
        Place((revision.min(i64::MAX >> Place::OP_BITS) << Place::OP_BITS) + op)
    }

    /// The position as the id of an event.
    pub(super) fn id(self) -> i64 {
        self.0
    }

    fn revision(self) -> i64 {
        self.0 >> Place::OP_BITS
    }
}

/// Follows the log for one watch.
pub(super) struct Follower {
    readers: Arc<Readers>,
    committed: watch::Receiver<i64>,
    prefix: Arc<str>,
    place: Place,
}

impl Follower {
    pub(super) async fn start(
        readers: &Arc<Readers>,
        committed: watch::Receiver<i64>,
        prefix: &str,
        from: Revision,
    ) -> Result<Follower, Error> {
        let from = if from == Revision::ZERO { Revision::ZERO.next() } else { from };
        let place = Place::of(to_sql(from), 0);
        readers.read(move |snapshot| remembered(snapshot, place)).await?;
        Ok(Follower { readers: Arc::clone(readers), committed, prefix: prefix.into(), place })
    }
}

impl Source for Follower {
    fn more(&mut self) -> Pending<'_, Vec<Event>> {
        Box::pin(async move {
            loop {
                let newest = *self.committed.borrow_and_update();
                if self.place.revision() > newest {
                    self.committed.changed().await.map_err(|_| Error::Closed)?;
                    continue;
                }
                let (prefix, place) = (Arc::clone(&self.prefix), self.place);
                let stretch = self
                    .readers
                    .read(move |snapshot| Stretch::read(snapshot, &prefix, place))
                    .await?;
                self.place = stretch.end;
                if !stretch.events.is_empty() {
                    return Ok(stretch.events);
                }
            }
        })
    }
}

/// A part of the log.
struct Stretch {
    events: Vec<Event>,
    /// The position of the next part.
    end: Place,
}

impl Stretch {
    fn read(snapshot: &Connection, prefix: &str, from: Place) -> Result<Stretch, Error> {
        remembered(snapshot, from)?;
        Stretch::collect(snapshot, prefix, from)
            .map_err(|error| Error::storage("read the event log", error))
    }

    fn collect(snapshot: &Connection, prefix: &str, from: Place) -> rusqlite::Result<Stretch> {
        let mut events = Vec::new();
        let (mut passed, mut bytes) = (0, 0);
        let mut statement = snapshot.prepare_cached(FROM)?;
        let mut rows = statement.query([from.id()])?;
        while let Some(row) = rows.next()? {
            let place = Place(row.get(0)?);
            if passed == PASSED_MAX || events.len() == FOUND_MAX || bytes >= BYTES_MAX {
                return Ok(Stretch { events, end: place });
            }
            passed += 1;
            if row.get_ref(1)?.as_bytes()?.starts_with(prefix.as_bytes()) {
                let event = Event {
                    revision: from_sql(place.revision()),
                    key: row.get(1)?,
                    value: row.get(2)?,
                };
                bytes += event.key.len() + event.value.as_ref().map_or(0, Vec::len);
                events.push(event);
            }
        }
        // All events of this snapshot were read; the next position is the next revision.
        let end = Place::of(meta::newest(snapshot)? + 1, 0).max(from);
        Ok(Stretch { events, end })
    }
}

/// Returns an error if the log no longer has all events from `place` on.
fn remembered(snapshot: &Connection, place: Place) -> Result<(), Error> {
    let oldest =
        meta::oldest(snapshot).map_err(|error| Error::storage("read the event log", error))?;
    if place < Place::of(oldest, 0) {
        return Err(Error::Compacted { oldest: from_sql(oldest) });
    }
    Ok(())
}

/// Deletes up to `most` compacted events, the oldest first. Returns whether those were all.
pub(super) fn sweep(connection: &Connection, most: i64) -> rusqlite::Result<bool> {
    let oldest = Place::of(meta::oldest(connection)?, 0);
    let beyond: Option<i64> = connection
        .prepare_cached("SELECT id FROM event WHERE id < ?1 ORDER BY id LIMIT 1 OFFSET ?2")?
        .query_row((oldest.id(), most), |row| row.get(0))
        .optional()?;
    let end = beyond.unwrap_or(oldest.id());
    connection.prepare_cached("DELETE FROM event WHERE id < ?1")?.execute([end])?;
    Ok(beyond.is_none())
}
