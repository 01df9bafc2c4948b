//! Concurrent callers of the writer, and transactions of every size.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use muster_store::{Compare, Embedded, Error, Op, Revision, Store, Txn, TxnResult};

fn put(key: impl Into<String>, value: &str) -> Txn {
    Txn::of(vec![Op::put(key, value)])
}

#[tokio::test]
async fn many_commits_share_a_flush() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(directory.path()).unwrap());
    let writer = |number: usize| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for round in 0..20 {
                let result = store.commit(put(format!("/{number}/{round}"), "x")).await.unwrap();
                assert!(matches!(result, TxnResult::Committed(_)));
            }
        })
    };
    let writers: Vec<_> = (0..100).map(writer).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let page = store.range("/", None, usize::MAX).await.unwrap();
    assert_eq!((page.items.len(), page.revision), (2_000, Revision(2_000)));
    assert!(store.syncs() < 1_000, "{} flushes for 2000 commits", store.syncs());
}

#[tokio::test]
async fn one_transaction_of_a_group_passes_a_comparison() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let race = |number: usize| Txn {
        compares: vec![Compare::absent("/lock")],
        ops: vec![Op::put("/lock", number.to_string()), Op::put(format!("/side/{number}"), "x")],
    };
    let pending: Vec<_> = (0..50).map(|number| store.commit(race(number))).collect();
    let mut won = Vec::new();
    for (number, pending) in pending.into_iter().enumerate() {
        match pending.await.unwrap() {
            TxnResult::Committed(revision) => won.push((number, revision)),
            TxnResult::Conflict { key } => assert_eq!(key, "/lock"),
        }
    }
    assert_eq!(won, [(0, Revision(1))]);
    let sides = store.range("/side/", None, 10).await.unwrap();
    assert_eq!(sides.items.len(), 1);
    assert_eq!(store.get("/lock").await.unwrap().unwrap().value, b"0");
}

#[tokio::test]
async fn a_transaction_without_changes_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(store.commit(put("/a", "1")).await.unwrap(), TxnResult::Committed(Revision(1)));
    let nothing = [
        Txn::default(),
        Txn::of(vec![Op::delete("/none")]),
        Txn { compares: vec![Compare::modified("/a", Revision(1))], ops: Vec::new() },
    ];
    for txn in nothing {
        assert_eq!(store.commit(txn).await.unwrap(), TxnResult::Committed(Revision(1)));
    }
    assert_eq!(store.syncs(), 1);
    let twice = Txn::of(vec![Op::put("/a", "1"), Op::delete("/a")]);
    assert!(matches!(store.commit(twice).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn a_large_transaction_is_one_revision() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let ops =
        (0..30_000).map(|number| Op::put(format!("/k/{number:06}"), vec![b'x'; 300])).collect();
    assert_eq!(store.commit(Txn::of(ops)).await.unwrap(), TxnResult::Committed(Revision(1)));
    let page = store.range("/k/", None, usize::MAX).await.unwrap();
    assert_eq!((page.items.len(), page.revision), (30_000, Revision(1)));
    assert!(page.items.iter().all(|item| item.modified == Revision(1)));
}

#[tokio::test]
async fn queued_transactions_are_written_before_the_store_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    // Without a receiver.
    drop(store.commit(put("/late", "1")));
    drop(store);
    let store = Embedded::open(directory.path()).unwrap();
    assert!(store.get("/late").await.unwrap().is_some());
}
