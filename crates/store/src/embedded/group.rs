//! A group of transactions, applied within one SQLite transaction.
//!
//! Every transaction first evaluates its comparisons, on top of the writes of earlier ones in the group, and writes
//! only if all hold, so that no single one needs a rollback. If the disk fails, the group is rolled back as a whole,
//! and the writer tries its members one by one. Read next: `writer.rs`.

use rusqlite::{Connection, OptionalExtension, Statement};

use super::{from_sql, to_sql};
use crate::{Expect, Op, Txn, TxnResult};

/// The prepared statements of the writer.
pub(super) struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    compare: Statement<'c>,
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
            put: connection.prepare(
                "INSERT INTO kv (key, value, modified) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, modified = excluded.modified",
            )?,
            delete: connection.prepare("DELETE FROM kv WHERE key = ?1")?,
            advance: connection.prepare("UPDATE meta SET value = ?1 WHERE name = 'revision'")?,
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

    /// Applies `txns` in order on top of `revision`. Returns the newest revision and the result of each.
    pub(super) fn apply<'t>(
        &mut self,
        mut revision: i64,
        txns: impl Iterator<Item = &'t Txn>,
    ) -> rusqlite::Result<(i64, Vec<TxnResult>)> {
        let before = revision;
        let mut results = Vec::with_capacity(txns.size_hint().0);
        for txn in txns {
            results.push(if let Some(key) = self.conflict(txn)? {
                TxnResult::Conflict { key: key.to_owned() }
            } else {
                if self.write(revision + 1, &txn.ops)? {
                    revision += 1;
                }
                TxnResult::Committed(from_sql(revision))
            });
        }
        if revision > before {
            self.advance.execute([revision])?;
        }
        Ok((revision, results))
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

    /// Performs the ops. Returns whether they changed anything.
    fn write(&mut self, revision: i64, ops: &[Op]) -> rusqlite::Result<bool> {
        let mut changed = false;
        for op in ops {
            let rows = match op {
                Op::Put { key, value } => self.put.execute((key, value, revision))?,
                Op::Delete { key } => self.delete.execute([key])?,
            };
            changed |= rows > 0;
        }
        Ok(changed)
    }
}
