//! Revisions: the version numbers of the store as a whole.
//!
//! Keys, changes and errors all refer to revisions. Read next: `txn.rs`.

use std::fmt;

/// The number of a state in the store's history. The empty store is at zero; each transaction that changes something
/// increments it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(
    /// The number of transactions that have changed something.
    pub u64,
);

impl Revision {
    /// The revision of the empty store.
    pub const ZERO: Revision = Revision(0);
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
