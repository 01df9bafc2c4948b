//! A full disk, and a disk that cannot flush. `faults.c` simulates them: it is preloaded into a child process (this
//! test binary again), so that SQLite meets the failures where real ones would occur.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/preload.rs"]
mod preload;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use muster_store::{Embedded, Error, Op, Revision, Store, Txn, TxnResult};

/// Runs the test `name` of this binary in a child process with the faulty disk, and checks that it passed.
fn in_child(name: &str) {
    let faults = tempfile::tempdir().unwrap();
    let output = preload::child("faults.c", name).env("FAULTS", faults.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_full_disk_fails_only_what_does_not_fit() {
    in_child("child_full_disk");
}

#[test]
fn a_failed_flush_stops_the_writer() {
    in_child("child_failed_flush");
}

#[test]
fn an_unwritable_disk_is_named_at_the_start() {
    in_child("child_unwritable_disk");
}

/// The directory of the files that switch faults on; `None` if this process has an intact disk.
fn faults() -> Option<PathBuf> {
    env::var_os("FAULTS").map(PathBuf::from)
}

fn bulk(name: &str, count: usize) -> Txn {
    Txn::of(
        (0..count).map(|number| Op::put(format!("/{name}/{number}"), vec![b'x'; 1_000])).collect(),
    )
}

async fn count(store: &dyn Store, prefix: &str) -> usize {
    store.range(prefix, None, usize::MAX).await.unwrap().items.len()
}

#[tokio::test]
#[ignore = "runs in a child process"]
async fn child_full_disk() {
    let Some(faults) = faults() else { return };
    // Run out of space at every point: at once, within a page, between pages, late.
    for extra in (0..100).map(|step| step * 1_500) {
        run_out_of_space(&faults.join("room"), extra).await;
    }
}

/// Commits with `extra` bytes left for the log to grow.
async fn run_out_of_space(room: &Path, extra: u64) {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    store.commit(bulk("before", 50)).await.unwrap();
    let log = fs::metadata(directory.path().join("state.db-wal")).unwrap().len();
    fs::write(room, (log + extra).to_string()).unwrap();

    // Sent together; a large transaction that does not fit must not fail the small ones that do.
    let (first, large, last) =
        (store.commit(bulk("a", 1)), store.commit(bulk("large", 200)), store.commit(bulk("b", 1)));
    let (first, large, last) = (first.await, large.await, last.await);
    assert!(matches!(&large, Err(Error::Storage { .. })), "{large:?}");
    if extra > 100_000 {
        first.as_ref().unwrap();
        last.as_ref().unwrap();
    }
    let expected = [50, usize::from(first.is_ok()), usize::from(last.is_ok()), 0];
    assert_eq!(counts(&store).await, expected);

    fs::remove_file(room).unwrap();
    let TxnResult::Committed(revision) = store.commit(bulk("after", 1)).await.unwrap() else {
        panic!("no conflict")
    };
    assert_eq!(revision.0 as usize, 2 + expected[1] + expected[2]);
    drop(store);
    assert_eq!(counts(&Embedded::open(directory.path()).unwrap()).await, expected);
}

async fn counts(store: &dyn Store) -> [usize; 4] {
    [
        count(store, "/before/").await,
        count(store, "/a/").await,
        count(store, "/b/").await,
        count(store, "/large/").await,
    ]
}

#[tokio::test]
#[ignore = "runs in a child process"]
async fn child_failed_flush() {
    let Some(flush) = faults().map(|faults| faults.join("flush")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(store.commit(bulk("before", 50)).await.unwrap(), TxnResult::Committed(Revision(1)));
    fs::write(&flush, "").unwrap();
    let failed = store.commit(bulk("doubtful", 50)).await;
    assert!(matches!(&failed, Err(Error::Poisoned { .. })), "{failed:?}");
    fs::remove_file(&flush).unwrap();
    // The disk works again, but the pages that it dropped are lost.
    assert!(matches!(store.commit(bulk("later", 1)).await, Err(Error::Poisoned { .. })));
    assert_eq!((count(&store, "/before/").await, count(&store, "/doubtful/").await), (50, 0));
    drop(store);
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(count(&store, "/before/").await, 50);
    let doubtful = count(&store, "/doubtful/").await;
    assert!(doubtful == 0 || doubtful == 50, "half of it is there: {doubtful}");
    store.commit(bulk("later", 1)).await.unwrap();

    // A failed flush during the creation of a store must not leave a file that looks like a store.
    let other = tempfile::tempdir().unwrap();
    fs::write(&flush, "").unwrap();
    assert!(matches!(Embedded::open(other.path()).map(drop), Err(Error::Storage { .. })));
    assert!(!other.path().join("state.db").exists());
    fs::remove_file(&flush).unwrap();
    Embedded::open(other.path()).unwrap();
}

#[tokio::test]
#[ignore = "runs in a child process"]
async fn child_unwritable_disk() {
    let Some(faults) = faults() else { return };
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    store.commit(bulk("before", 50)).await.unwrap();
    drop(store);
    for (fault, expected) in [
        ("room", "is on a full disk: free some space, then start again"),
        ("readonly", "is on a read-only disk: mount it writable"),
    ] {
        fs::write(faults.join(fault), "0").unwrap();
        let fresh = tempfile::tempdir().unwrap();
        for directory in [directory.path(), fresh.path()] {
            let error = Embedded::open(directory).map(drop).unwrap_err();
            assert!(matches!(&error, Error::Unwritable { .. }), "{fault}: {error:?}");
            let expected = format!("{} {expected}", directory.display());
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        fs::remove_file(faults.join(fault)).unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        assert_eq!(count(&store, "/before/").await, 50);
    }
}
