//! The fence of a leader: a condition of each of its transactions, which fails once another server
//! has become leader. So a deposed leader cannot write, however late it notices.
//!
//! A leader writes the key [`LEADER`] when it begins; the revision of that write is its fence.

use store::{Compare, Error, Op, Revision, Store, Txn, TxnResult};

/// The key of the newest leader. Its value, the leader's epoch, is for people. It is not below the
/// prefix of the state, because it is no part of it.
const LEADER: &str = "/muster/leader";

/// The condition under which a server may write.
#[derive(Debug, Clone)]
pub(crate) struct Fence(Compare);

impl Fence {
    /// The condition that no server becomes leader from now on. Must be read before the state that
    /// a new leader begins with.
    pub(crate) async fn read(store: &dyn Store) -> Result<Fence, Error> {
        Ok(Fence(match store.get(LEADER).await? {
            Some(leader) => Compare::modified(LEADER, leader.modified),
            None => Compare::absent(LEADER),
        }))
    }

    /// Becomes leader with `txn`, its first transaction. Returns its fence and the revision of that
    /// transaction, or `None` if another server has become leader meanwhile; nothing is written
    /// then.
    pub(crate) async fn advance(
        self,
        store: &dyn Store,
        mut txn: Txn,
        epoch: u64,
    ) -> Result<Option<(Fence, Revision)>, Error> {
        txn.ops.push(Op::put(LEADER, epoch.to_string()));
        Ok(match store.commit(self.guard(txn)).await? {
            TxnResult::Committed(revision) => {
                Some((Fence(Compare::modified(LEADER, revision)), revision))
            }
            TxnResult::Conflict { .. } => None,
        })
    }

    /// A transaction that is in conflict once another server has become leader.
    pub(crate) fn guard(&self, mut txn: Txn) -> Txn {
        txn.compares.push(self.0.clone());
        txn
    }
}

#[cfg(test)]
mod tests {
    use store::Embedded;

    use super::*;

    fn put(key: &str) -> Txn {
        Txn::of(vec![Op::put(key, "1")])
    }

    #[tokio::test]
    async fn a_deposed_leader_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        let first = Fence::read(&store).await.unwrap();
        let first = first.advance(&store, put("/a"), 1).await.unwrap().unwrap().0;
        let is_committed = async |fence: &Fence, key: &str| {
            let result = store.commit(fence.guard(put(key))).await.unwrap();
            matches!(result, TxnResult::Committed(_))
        };
        assert!(is_committed(&first, "/b").await && is_committed(&first, "/c").await);
        let second = Fence::read(&store).await.unwrap();
        let second = second.advance(&store, put("/d"), 2).await.unwrap().unwrap().0;
        assert!(!is_committed(&first, "/e").await && is_committed(&second, "/f").await);
        assert!(store.get("/e").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn of_two_servers_that_read_the_same_state_one_becomes_leader() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        let (a, b) = (Fence::read(&store).await.unwrap(), Fence::read(&store).await.unwrap());
        assert!(a.advance(&store, put("/a"), 1).await.unwrap().is_some());
        assert!(b.advance(&store, put("/b"), 1).await.unwrap().is_none());
        assert!(store.get("/b").await.unwrap().is_none());
    }
}
