//! The words of the store: keys, revisions, transactions and their results.
//!
//! Plain values; nothing here touches a disk. Every backend asks [`Txn::check`] before it does anything, so that all
//! of them refuse the same transactions. Read next: `watch.rs`.

use std::collections::HashSet;
use std::fmt;

use crate::Error;

/// The number of a moment in the store's history. The empty store is at zero; each transaction that changes something
/// makes the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(
    /// How many transactions have changed something up to this moment.
    pub u64,
);

impl Revision {
    /// Before anything was written.
    pub const ZERO: Revision = Revision(0);

    /// The revision after this one: where to watch from after having seen this one.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A key with what is stored under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The bytes under it.
    pub value: Vec<u8>,
    /// The revision that wrote these bytes.
    pub modified: Revision,
    /// The revision that made the key, since it was last absent.
    pub created: Revision,
    /// How many times it was put since then, beginning with one.
    pub version: u64,
}

/// What must be true of a key for a transaction to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// What is expected of it.
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

/// What a [`Compare`] expects of its key.
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
    /// Stores bytes under a key, new or not.
    Put {
        /// The key.
        key: String,
        /// The bytes.
        value: Vec<u8>,
    },
    /// Removes a key; nothing happens when it does not exist.
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

/// Changes that happen together, if all comparisons hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// What must hold at that moment.
    pub compares: Vec<Compare>,
    /// What is then done. Each key at most once: with two changes of one key in one revision, a watch could not say
    /// which came last.
    pub ops: Vec<Op>,
}

impl Txn {
    /// The most ops that one transaction may have.
    pub const OPS_MAX: usize = (1 << 20) - 1;

    /// Changes without conditions.
    #[must_use]
    pub fn of(ops: Vec<Op>) -> Txn {
        Txn { compares: Vec::new(), ops }
    }

    /// Whether a store can take it.
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

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnResult {
    /// It happened and is durable, with this revision. A transaction that changed nothing has the newest revision
    /// there was.
    Committed(Revision),
    /// A comparison did not hold; nothing was written.
    Conflict {
        /// The first key whose comparison failed.
        key: String,
    },
}

/// Some of the keys under a prefix, in byte order, as they were at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub items: Vec<KeyValue>,
    /// Where the next page starts after; none when this was the last one.
    pub next: Option<String>,
    /// The moment.
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
    fn says_what_makes_no_sense() {
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
