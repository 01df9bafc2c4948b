//! The table `head`: one row with the newest revision and the checksum of the content.
//!
//! The statement that writes it is in `group.rs`, with the other prepared statements of the writer.

use rusqlite::{Connection, Row};

use super::checksum::{self, Fault};

/// The state of the store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// The newest revision.
    pub(super) revision: i64,
    /// The sum of the checksums of all rows of `kv`.
    pub(super) content: i64,
}

impl Head {
    /// Reads the head and compares its checksum.
    pub(super) fn read(connection: &Connection) -> Result<Head, Fault> {
        let row = |row: &Row<'_>| {
            Ok((Head { revision: row.get(0)?, content: row.get(1)? }, row.get::<_, i64>(2)?))
        };
        let (head, sum) = connection
            .prepare_cached("SELECT revision, content, sum FROM head")?
            .query_row((), row)?;
        match head.sum() == sum && head.revision >= 0 {
            true => Ok(head),
            false => Err(Fault::Damage("its newest revision fails its checksum".to_owned())),
        }
    }

    /// The checksum of the head itself.
    pub(super) fn sum(self) -> i64 {
        checksum::numbers(&[self.revision, self.content])
    }

    /// Replaces a row with the checksum `old` by one with the checksum `new`; zero stands for no row.
    pub(super) fn exchange(&mut self, old: i64, new: i64) {
        self.content = self.content.wrapping_sub(old).wrapping_add(new);
    }
}
