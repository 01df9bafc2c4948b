//! Keys, transactions on them, and the results of reads and transactions.
//!
//! Plain values without IO. Every backend must call [`Txn::check`] first, so that all of them reject the same
//! transactions. Read next: `embedded/mod.rs`.

use std::collections::HashSet;

use crate::{Error, Revision};

/// A key with its value and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that wrote this value.
    pub modified: Revision,
}

/// A condition on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// The expected state of the key.
    pub expect: Expect,
}

impl Compare {
    /// Expects that `key` does not exist.
    #[must_use]
    pub fn absent(key: impl Into<String>) -> Compare {
        Compare { key: key.into(), expect: Expect::Absent }
    }

    /// Expects that `key` was last changed by exactly this revision.
    #[must_use]
    pub fn modified(key: impl Into<String>, revision: Revision) -> Compare {
        Compare { key: key.into(), expect: Expect::Modified(revision) }
    }
}

/// The expected state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists and was last changed by this revision.
    Modified(Revision),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a value to a key, which may exist.
    Put {
        /// The key.
        key: String,
        /// The bytes.
        value: Vec<u8>,
    },
    /// Deletes a key; no effect if it does not exist.
    Delete {
        /// The key.
        key: String,
    },
}

impl Op {
    /// A [`Op::Put`].
    #[must_use]
    pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Op {
        Op::Put { key: key.into(), value: value.into() }
    }

    /// A [`Op::Delete`].
    #[must_use]
    pub fn delete(key: impl Into<String>) -> Op {
        Op::Delete { key: key.into() }
    }

    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }
}

/// Changes that are applied atomically, if all comparisons hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// The conditions.
    pub compares: Vec<Compare>,
    /// The changes, at most one for each key, because the changes of one revision have no order.
    pub ops: Vec<Op>,
}

impl Txn {
    /// The maximum number of ops in a transaction.
    pub const OPS_MAX: usize = (1 << 20) - 1;

    /// Changes without conditions.
    #[must_use]
    pub fn of(ops: Vec<Op>) -> Txn {
        Txn { compares: Vec::new(), ops }
    }

    /// Checks that a store can apply the transaction.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty key, for a key that is changed twice, and for more than [`Txn::OPS_MAX`] ops.
    pub fn check(&self) -> Result<(), Error> {
        if self.ops.len() > Txn::OPS_MAX {
            let (found, most) = (self.ops.len(), Txn::OPS_MAX);
            return Err(Error::Invalid {
                reason: format!("{found} ops in one transaction, at most {most} are allowed"),
            });
        }
        let mut keys = self
            .compares
            .iter()
            .map(|compare| compare.key.as_str())
            .chain(self.ops.iter().map(Op::key));
        if keys.any(str::is_empty) {
            return Err(Error::Invalid { reason: "an empty key".to_owned() });
        }
        if self.ops.len() > 1 {
            let mut seen = HashSet::with_capacity(self.ops.len());
            if let Some(twice) = self.ops.iter().map(Op::key).find(|key| !seen.insert(*key)) {
                return Err(Error::Invalid {
                    reason: format!("key {twice} is changed twice in one transaction"),
                });
            }
        }
        Ok(())
    }
}

/// The result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnResult {
    /// The transaction is durable, with this revision. For a transaction that changed nothing, it is the newest
    /// revision.
    Committed(Revision),
    /// A comparison did not hold; nothing was written.
    Conflict {
        /// The first key whose comparison failed.
        key: String,
    },
}

/// Some of the keys with a prefix, in byte order, from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub items: Vec<KeyValue>,
    /// The `start_after` of the next page; `None` for the last page.
    pub next: Option<String>,
    /// The revision of the snapshot.
    pub revision: Revision,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(txn: &Txn, expected: &str) {
        let found = txn.check().map_or_else(|error| error.to_string(), |()| "fine".to_owned());
        assert_eq!(found, expected);
    }

    #[test]
    fn invalid_transactions_are_rejected() {
        check(&Txn::default(), "fine");
        check(&Txn::of(vec![Op::put("a", "1"), Op::delete("b")]), "fine");
        check(&Txn { compares: vec![Compare::absent("a")], ops: vec![Op::put("a", "1")] }, "fine");
        check(&Txn::of(vec![Op::put("", "1")]), "the transaction makes no sense: an empty key");
        check(
            &Txn::of(vec![Op::put("a", "1"), Op::put("b", "2"), Op::delete("a")]),
            "the transaction makes no sense: key a is changed twice in one transaction",
        );
    }
}
