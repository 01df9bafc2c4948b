//! Concurrent callers of the writer, and watches that wait.
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
async fn of_a_group_only_one_wins_a_comparison() {
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
async fn what_changes_nothing_is_not_written() {
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
async fn a_large_transaction_and_a_long_watch() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let count = 30_000;
    let mut watch = store.watch("/k/", Revision::ZERO).await.unwrap();
    let ops =
        (0..count).map(|number| Op::put(format!("/k/{number:06}"), vec![b'x'; 300])).collect();
    assert_eq!(store.commit(Txn::of(ops)).await.unwrap(), TxnResult::Committed(Revision(1)));
    // Compaction affects later reads of the watch, not the events that it has already read.
    for number in 0..count {
        let event = watch.next().await.unwrap();
        assert_eq!((event.revision, event.key), (Revision(1), format!("/k/{number:06}")));
    }
    store.compact(Revision(2)).await.unwrap();
    store.commit(put("/other", "x")).await.unwrap();
    store.commit(put("/k/new", "x")).await.unwrap();
    assert_eq!(
        watch.next().await.unwrap().revision,
        Revision(3),
        "compaction did not reach what it waits for"
    );
    assert!(matches!(
        store.watch("", Revision(1)).await,
        Err(Error::Compacted { oldest: Revision(2) })
    ));
}

#[tokio::test]
async fn a_watch_that_falls_behind_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let mut watch = store.watch("/", Revision(1)).await.unwrap();
    store.commit(put("/a", "1")).await.unwrap();
    store.commit(put("/a", "2")).await.unwrap();
    store.compact(Revision(99)).await.unwrap();
    assert!(matches!(watch.next().await, Err(Error::Compacted { oldest: Revision(3) })));
    let mut again = store.watch("/", Revision(3)).await.unwrap();
    store.commit(put("/a", "3")).await.unwrap();
    assert_eq!(again.next().await.unwrap().value.as_deref(), Some(b"3".as_slice()));
}

#[tokio::test]
async fn a_watch_waits_and_ends_with_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let mut watch = store.watch("/a/", Revision(1)).await.unwrap();
    let waiting = tokio::spawn(async move { (watch.next().await, watch.next().await) });
    store.commit(put("/b", "1")).await.unwrap();
    store.commit(put("/a/b", "2")).await.unwrap();
    // All queued transactions are written before the store is closed, even without a receiver.
    drop(store.commit(put("/late", "3")));
    drop(store);
    let (first, second) = waiting.await.unwrap();
    if let Ok(event) = first {
        assert_eq!((event.key.as_str(), event.revision), ("/a/b", Revision(2)));
        assert!(matches!(second, Err(Error::Closed)));
    }
    let store = Embedded::open(directory.path()).unwrap();
    assert!(store.get("/late").await.unwrap().is_some());
}
