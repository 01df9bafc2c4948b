//! Durable state behind one trait.
//!
//! A [`Store`] keeps keys and bytes, and offers what etcd offers: every key knows the revision that last changed it,
//! a [`Txn`] compares before it writes and happens whole or not at all, and a [`Watch`] tells every change from a
//! revision on. It knows nothing of services or nodes: what the keys mean is their writer's affair.
//!
//! Promises, of every backend:
//!
//! - A commit is answered only once it would survive a power loss. One that failed is not visible afterwards, unless
//!   the error says that its fate is unknown.
//! - Revisions only grow, by one for each transaction that changed something; all its changes share that revision.
//! - A watch misses nothing and repeats nothing, or ends with [`Error::Compacted`].
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
//!
//! let mut watch = store.watch("/", Revision(1)).await?;
//! assert_eq!(watch.next().await?.key, "/a");
//! # Ok(())
//! # }
//! ```
//!
//! Read next: [`Txn`] for the words, then `embedded/mod.rs`.

mod embedded;
mod error;
mod txn;
mod watch;

use std::future::Future;
use std::pin::Pin;

pub use embedded::Embedded;
pub use error::Error;
pub use txn::{Compare, Expect, KeyValue, Op, Page, Revision, Txn, TxnResult};
pub use watch::{Event, Source, Watch};

/// What every method of [`Store`] answers: boxed, so that the trait can be used as `dyn Store`.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Durable state: versioned keys, transactions with comparisons, watches from a revision.
pub trait Store: Send + Sync + 'static {
    /// One page of the keys that start with `prefix`, in byte order, from one moment.
    ///
    /// `start_after` is the [`Page::next`] of the page before. A `limit` of zero counts as one, since an empty page
    /// would never get anywhere; `usize::MAX` asks for everything.
    ///
    /// Pages of one listing may come from different moments. Who lists and then follows watches from the revision
    /// after the *first* page's, and ignores an event that is not newer than the `modified` of the key it has.
    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        limit: usize,
    ) -> Pending<'a, Page>;

    /// Writes all of `txn`, durably, if all its comparisons hold; otherwise nothing of it.
    ///
    /// Dropping the future does not take the transaction back: it may happen or not.
    ///
    /// # Errors
    /// [`Error::Storage`] when the disk refused it (it did not happen, and the store goes on);
    /// [`Error::Poisoned`] when a flush failed (its fate is unknown until the store is opened again);
    /// [`Error::Invalid`] for a transaction that makes no sense.
    fn commit(&self, txn: Txn) -> Pending<'_, TxnResult>;

    /// Every change of a key that starts with `prefix`, beginning with revision `from`, first those that have
    /// happened, then those that will. A `from` of zero means from the beginning.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the changes of `from` are no longer known: list again.
    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Pending<'a, Watch>;

    /// Forgets the changes (not the keys) older than `before`. A revision that has not happened yet counts as the
    /// one after the newest; one that was compacted already is no error.
    fn compact(&self, before: Revision) -> Pending<'_, ()>;

    /// One key, or none.
    fn get<'a>(&'a self, key: &'a str) -> Pending<'a, Option<KeyValue>> {
        // The key itself is the first of all that it is a prefix of.
        Box::pin(async move {
            let page = self.range(key, None, 1).await?;
            Ok(page.items.into_iter().next().filter(|found| found.key == key))
        })
    }
}
