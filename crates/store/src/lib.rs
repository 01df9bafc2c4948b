//! Durable state behind one trait.
//!
//! A [`Store`] maps keys to bytes, in the manner of etcd: every key has the revision that last changed it, and a
//! [`Txn`] compares before it writes and is atomic. It knows nothing of services or nodes: the writer defines the
//! meaning of keys. It keeps no history: its only writer is the server, which publishes changes itself.
//!
//! Guarantees of every backend:
//!
//! - A commit returns only once it would survive a power loss. A failed commit is not visible afterwards, unless the
//!   error says that its result is unknown.
//! - Revisions only grow, by one for each transaction that changes something; all its changes share that revision.
//!
//! [`Embedded`] is the default backend: one process, one SQLite file, no other moving part. It is the only code that
//! touches the data directory.
//!
//! ```
//! # use muster_store as store;
//! use store::{Compare, Embedded, Op, Revision, Store, Txn, TxnResult};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let store = Embedded::open(directory.path())?;
//! let first = Txn { compares: vec![Compare::absent("/a")], ops: vec![Op::put("/a", "1")] };
//! assert_eq!(store.commit(first.clone()).await?, TxnResult::Committed(Revision(1)));
//! assert_eq!(store.commit(first).await?, TxnResult::Conflict { key: "/a".to_owned() });
//! # Ok(())
//! # }
//! ```
//!
//! Read next: [`Txn`] for the terms, then `embedded/mod.rs`.

mod embedded;
mod error;
mod revision;
mod txn;

use std::future::Future;
use std::pin::Pin;

pub use embedded::{Embedded, Salvaged};
pub use error::Error;
pub use revision::Revision;
pub use txn::{Compare, Expect, KeyValue, Op, Page, Txn, TxnResult};

/// The result of every method of [`Store`]: boxed, so that the trait can be used as `dyn Store`.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Durable state: versioned keys, and transactions with comparisons.
pub trait Store: Send + Sync + 'static {
    /// One page of the keys that start with `prefix`, in byte order, from one snapshot.
    ///
    /// `start_after` is the [`Page::next`] of the previous page. A `limit` of zero counts as one, because an empty page
    /// would make no progress; `usize::MAX` requests everything.
    ///
    /// Pages of one listing may be from different snapshots.
    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> Pending<'a, Page>;

    /// Writes all of `txn`, durably, if all its comparisons hold; otherwise nothing.
    ///
    /// Dropping the future does not cancel the transaction: it may or may not be committed.
    ///
    /// # Errors
    /// [`Error::Storage`] if the disk failed (nothing was written, and the store continues); [`Error::Poisoned`] if a
    /// flush failed (the result is unknown until the store is reopened); [`Error::Invalid`] if the transaction is
    /// invalid.
    fn commit(&self, txn: Txn) -> Pending<'_, TxnResult>;

    /// One key, or none.
    fn get<'a>(&'a self, key: &'a str) -> Pending<'a, Option<KeyValue>> {
        // The key itself is the first key with that prefix.
        Box::pin(async move {
            let page = self.range(key, None, 1).await?;
            Ok(page.items.into_iter().next().filter(|found| found.key == key))
        })
    }
}
