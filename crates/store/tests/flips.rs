//! Flipped bits and files that do not belong together: the store opens with the content that was acknowledged, or it is
//! rejected. Never with another content.
//!
//! The files are those of a killed process: copied while the store is open, with the last commits only in the log.
//! `PROPTEST_CASES` sets 16 times the number of bits flipped in each file.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use muster_store::{Embedded, KeyValue, Op, Store, Txn};
use proptest::test_runner::Config;
use rusqlite::Connection;
use tempfile::TempDir;

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// The content of a store and its files.
#[derive(Clone)]
struct Killed {
    content: Vec<KeyValue>,
    files: Files,
}

/// The result of opening a store with damaged files.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    same: usize,
    rejected: usize,
    /// Violations: the store opened with another content.
    other: usize,
}

fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

async fn content(store: &Embedded) -> Vec<KeyValue> {
    store.range("", None, usize::MAX).await.unwrap().items
}

/// Changes some of 400 keys in each commit, and deletes others.
async fn write(store: &Embedded, commits: std::ops::Range<usize>) {
    for number in commits {
        let keys = (0..4).map(|step| (number * 7 + step * 13) % 400);
        let put = |key: usize| Op::put(format!("/key/{key:03}"), format!("{number} ").repeat(60));
        let mut ops: Vec<_> = keys.map(put).collect();
        ops.push(Op::delete(format!("/gone/{}", number % 5)));
        ops.push(Op::put(format!("/gone/{}", (number + 1) % 5), "x"));
        store.commit(Txn::of(ops)).await.unwrap();
    }
}

fn copied(directory: &Path) -> Files {
    ["state.db", "state.db-wal", "state.position"]
        .into_iter()
        .map(|name| (name.to_owned(), fs::read(directory.join(name)).unwrap()))
        .collect()
}

/// A store that was killed at three moments: with all of its state in the log, and twice after that log was folded into
/// the file and later commits were logged.
async fn killed() -> [Killed; 3] {
    let directory = in_memory();
    let kill = async |store: &Embedded| Killed {
        content: content(store).await,
        files: copied(directory.path()),
    };
    let store = Embedded::open(directory.path()).unwrap();
    write(&store, 0..100).await;
    let first = kill(&store).await;
    drop(store);
    let store = Embedded::open(directory.path()).unwrap();
    write(&store, 100..101).await;
    let second = kill(&store).await;
    write(&store, 101..104).await;
    [first, second, kill(&store).await]
}

/// Opens a store with these files and compares its content. A store that opens must also survive further writes.
async fn reopen(files: &Files, expected: &[KeyValue], counts: &mut Counts) {
    let directory = in_memory();
    for (name, bytes) in files {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    let Ok(store) = Embedded::open(directory.path()) else {
        for (name, bytes) in files {
            assert!(fs::read(directory.path().join(name)).unwrap() == *bytes, "{name} was changed");
        }
        counts.rejected += 1;
        return;
    };
    if content(&store).await != expected {
        counts.other += 1;
        return;
    }
    write(&store, 200..203).await;
    let later = content(&store).await;
    drop(store);
    let store = Embedded::open(directory.path()).expect("what was accepted stays intact");
    assert!(content(&store).await == later);
    counts.same += 1;
}

/// Flips bits among the last bytes of a file, one at a time.
async fn flip(killed: &Killed, name: &str, last: usize, flips: usize) -> Counts {
    let mut random = fastrand::Rng::with_seed(7);
    let mut counts = Counts::default();
    for _ in 0..flips {
        let mut files = killed.files.clone();
        let file = files.get_mut(name).unwrap();
        let bit = random.usize(file.len().saturating_sub(last) * 8..file.len() * 8);
        file[bit / 8] ^= 1 << (bit % 8);
        reopen(&files, &killed.content, &mut counts).await;
    }
    counts
}

#[tokio::test]
async fn a_flipped_bit_is_detected_or_harmless() {
    let flips = Config::default().cases as usize / 16;
    for (moment, killed) in killed().await.iter().enumerate() {
        for name in killed.files.keys() {
            let counts = flip(killed, name, usize::MAX, flips).await;
            println!("moment {moment}, {name}: {counts:?}");
            assert_eq!(counts.other, 0, "moment {moment}, {name}: {counts:?}");
            match name.as_str() {
                "state.position" => assert_eq!(counts.rejected, 0, "the note is written again"),
                // The log has every page of it, so only its header is read.
                "state.db" if moment == 0 => {}
                _ => assert!(counts.rejected > 0, "{name}: {counts:?}"),
            }
        }
    }
}

#[tokio::test]
async fn files_of_different_moments_are_detected() {
    let moments = killed().await;
    let mut counts = Counts::default();
    let newest = &moments[2];
    for name in newest.files.keys() {
        // Missing, then older.
        let mut files = newest.files.clone();
        files.remove(name);
        reopen(&files, &newest.content, &mut counts).await;
        for older in &moments[..2] {
            let mut files = newest.files.clone();
            files.insert(name.clone(), older.files[name].clone());
            reopen(&files, &newest.content, &mut counts).await;
        }
    }
    assert_eq!(counts.other, 0, "{counts:?}");
    // Harmless are: no note or an older one, and the file of the second moment, which has the same log.
    assert_eq!((counts.same, counts.rejected), (4, 5), "{counts:?}");
}

/// Without each of the defences, the flips above find violations.
#[tokio::test]
async fn the_flips_detect_a_store_without_its_defences() {
    let moments = killed().await;
    // Without the noted position, damage in the last commit is taken for a crash.
    let mut blind = moments[0].clone();
    blind.files.remove("state.position");
    let counts = flip(&blind, "state.db-wal", 4096, 20).await;
    assert!(counts.other > 0, "{counts:?}");

    // SQLite's own check, which was the only one, accepts other content.
    let mut random = fastrand::Rng::with_seed(7);
    let (mut accepted, directory) = (0, in_memory());
    let path = directory.path().join("state.db");
    fs::write(&path, &moments[2].files["state.db"]).unwrap();
    let read = |connection: &Connection| -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
        let mut statement = connection.prepare("SELECT key, value FROM kv ORDER BY key")?;
        statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let expected = read(&Connection::open(&path).unwrap()).unwrap();
    for _ in 0..200 {
        let mut bytes = moments[2].files["state.db"].clone();
        let bit = random.usize(..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        let connection = Connection::open(&path).unwrap();
        let verdict = connection
            .query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0))
            .unwrap_or_default();
        accepted += usize::from(verdict == "ok" && read(&connection).is_ok_and(|c| c != expected));
    }
    assert!(accepted > 20, "{accepted} of 200");
}
