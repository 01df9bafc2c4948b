//! A group of transactions, applied within one SQLite transaction.
//!
//! Every transaction first evaluates its comparisons, on top of the writes of earlier ones in the group, and writes
//! only if all hold, so that no single one needs a rollback. If the disk fails, the group is rolled back as a whole,
//! and the writer tries its members one by one. Read next: `writer.rs`.

use rusqlite::{Connection, OptionalExtension, Statement};

use super::checksum;
use super::head::Head;
use super::{from_sql, to_sql};
use crate::{Expect, Op, Txn, TxnResult};

/// The prepared statements of the writer.
pub(super) struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    compare: Statement<'c>,
    sum: Statement<'c>,
    put: Statement<'c>,
    delete: Statement<'c>,
    advance: Statement<'c>,
}

impl<'c> Statements<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Statements<'c>> {
        Ok(Statements {
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            rollback: connection.prepare("ROLLBACK")?,
            compare: connection.prepare("SELECT modified FROM kv WHERE key = ?1")?,
            sum: connection.prepare("SELECT sum FROM kv WHERE key = ?1")?,
            put: connection.prepare(
                "INSERT INTO kv (key, value, modified, sum) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET
                    value = excluded.value, modified = excluded.modified, sum = excluded.sum",
            )?,
            delete: connection.prepare("DELETE FROM kv WHERE key = ?1")?,
            advance: connection.prepare("UPDATE head SET revision = ?1, content = ?2, sum = ?3")?,
        })
    }

    pub(super) fn begin(&mut self) -> rusqlite::Result<()> {
        self.begin.execute(()).map(drop)
    }

    pub(super) fn commit(&mut self) -> rusqlite::Result<()> {
        self.commit.execute(()).map(drop)
    }

    pub(super) fn rollback(&mut self) -> rusqlite::Result<()> {
        self.rollback.execute(()).map(drop)
    }

    /// Applies `txns` in order on top of `head`. Returns the newest head and the result of each.
    pub(super) fn apply<'t>(
        &mut self,
        mut head: Head,
        txns: impl Iterator<Item = &'t Txn>,
    ) -> rusqlite::Result<(Head, Vec<TxnResult>)> {
        let before = head.revision;
        let mut results = Vec::with_capacity(txns.size_hint().0);
        for txn in txns {
            results.push(if let Some(key) = self.conflict(txn)? {
                TxnResult::Conflict { key: key.to_owned() }
            } else {
                self.write(&mut head, &txn.ops)?;
                TxnResult::Committed(from_sql(head.revision))
            });
        }
        if head.revision > before {
            self.advance.execute([head.revision, head.content, head.sum()])?;
        }
        Ok((head, results))
    }

    fn conflict<'t>(&mut self, txn: &'t Txn) -> rusqlite::Result<Option<&'t str>> {
        for compare in &txn.compares {
            let found: Option<i64> =
                self.compare.query_row([&compare.key], |row| row.get(0)).optional()?;
            let holds = match compare.expect {
                Expect::Absent => found.is_none(),
                Expect::Modified(revision) => found == Some(to_sql(revision)),
            };
            if !holds {
                return Ok(Some(&compare.key));
            }
        }
        Ok(None)
    }

    /// Performs the ops, which advances the head if they change anything.
    fn write(&mut self, head: &mut Head, ops: &[Op]) -> rusqlite::Result<()> {
        let revision = head.revision + 1;
        for op in ops {
            let old: Option<i64> = self.sum.query_row([op.key()], |row| row.get(0)).optional()?;
            let new = match op {
                Op::Put { key, value } => {
                    let sum = checksum::row(key, value, revision);
                    self.put.execute((key, value, revision, sum))?;
                    sum
                }
                Op::Delete { .. } if old.is_none() => continue,
                Op::Delete { key } => {
                    self.delete.execute([key])?;
                    0
                }
            };
            head.exchange(old.unwrap_or(0), new);
            head.revision = revision;
        }
        Ok(())
    }
}
