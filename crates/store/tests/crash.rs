//! A process that is killed while it writes: all that it was told is durable is there, and nothing is there by half.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use muster_store::{Embedded, Error, Op, Revision, Store, Txn, TxnResult};

const ROUNDS: usize = 20;
const WRITERS: usize = 8;

/// Writer and number of each acknowledged commit, with its revision.
type Acknowledged = BTreeMap<(usize, u64), u64>;

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::new();
    for _ in 0..ROUNDS {
        let lines = 1 + RandomState::new().hash_one(()) as usize % 400;
        write_until_killed(directory.path(), lines, &mut acknowledged);
        let store = Embedded::open(directory.path()).unwrap();
        check(&store, &acknowledged).await;
    }
    assert!(acknowledged.len() >= ROUNDS);
}

/// Starts a child that writes, and kills it in the middle of it once it has acknowledged that many commits.
fn write_until_killed(directory: &Path, lines: usize, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_writes", "--nocapture", "--include-ignored"])
        .env("STORE_DIRECTORY", directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(numbers) = line.strip_prefix("ack ") else { continue };
        let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        let [writer, number, revision] = numbers[..] else { panic!("{line}") };
        acknowledged.insert((writer as usize, number), revision);
        seen += 1;
        if seen == lines {
            child.kill().unwrap();
            // The rest of what it has said is read too: it was acknowledged before the kill.
        }
    }
    assert!(seen >= lines, "the child ended by itself");
    child.wait().unwrap();
}

async fn check(store: &Embedded, acknowledged: &Acknowledged) {
    let mut first = BTreeMap::new();
    for item in store.range("/first/", None, usize::MAX).await.unwrap().items {
        first.insert(item.key.replace("/first/", ""), (item.value, item.modified));
    }
    let page = store.range("/second/", None, usize::MAX).await.unwrap();
    let revision = page.revision;
    let mut second = BTreeMap::new();
    for item in page.items {
        second.insert(item.key.replace("/second/", ""), (item.value, item.modified));
    }
    assert_eq!(first, second, "a commit is half there");
    for ((writer, number), revision) in acknowledged {
        let found = first.get(&format!("{writer}/{number:06}")).map(|(_, modified)| modified.0);
        assert_eq!(found, Some(*revision), "commit {number} of writer {writer} is lost");
    }
    // The log tells the same story: each revision is whole and in its place.
    let mut from = Revision::ZERO;
    let mut watch = loop {
        match store.watch("", from).await {
            Ok(watch) => break watch,
            Err(Error::Compacted { oldest }) => from = oldest,
            Err(error) => panic!("{error}"),
        }
    };
    for expected in from.0.max(1)..=revision.0 {
        for prefix in ["/first/", "/second/", "/last/"] {
            let event = watch.next().await.unwrap();
            assert_eq!(event.revision.0, expected);
            assert!(event.key.starts_with(prefix), "{}", event.key);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a child process, until it is killed"]
async fn child_writes() {
    let Some(directory) = env::var_os("STORE_DIRECTORY") else { return };
    let store = Arc::new(Embedded::open(Path::new(&directory)).unwrap());
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&store), writer))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn write(store: Arc<Embedded>, writer: usize) {
    let last = store.get(&format!("/last/{writer}")).await.unwrap();
    let mut number = last.map_or(0, |last| String::from_utf8(last.value).unwrap().parse().unwrap());
    // Ends by itself when the parent dies.
    loop {
        number += 1_u64;
        let key = format!("{writer}/{number:06}");
        let value = key.repeat(number as usize % 300);
        let txn = Txn::of(vec![
            Op::put(format!("/first/{key}"), value.as_str()),
            Op::put(format!("/second/{key}"), value),
            Op::put(format!("/last/{writer}"), number.to_string()),
        ]);
        let Ok(TxnResult::Committed(revision)) = store.commit(txn).await else { panic!("refused") };
        if writeln!(std::io::stdout(), "ack {writer} {number} {revision}").is_err() {
            return;
        }
        if number % 500 == 0 {
            store.compact(Revision(revision.0 - 300)).await.unwrap();
        }
    }
}
