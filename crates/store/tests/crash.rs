//! A process killed while it writes: every acknowledged commit is present, and every commit is atomic.
#![allow(clippy::unwrap_used)]

#[path = "support/history.rs"]
mod history;

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use history::Acknowledged;
use muster_store::Embedded;

const ROUNDS: usize = 20;

#[tokio::test]
async fn acknowledged_commits_survive_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    for _ in 0..ROUNDS {
        let lines = 1 + RandomState::new().hash_one(()) as usize % 400;
        write_until_killed(directory.path(), lines, &mut acknowledged);
        let store = Embedded::open(directory.path()).unwrap();
        history::check(&store, &acknowledged).await.unwrap();
    }
    assert!(acknowledged.len() >= ROUNDS);
}

/// Starts a child that writes, and kills it after it has acknowledged that number of commits.
fn write_until_killed(directory: &Path, lines: usize, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_writes", "--nocapture", "--include-ignored"])
        .env("STORE_DIRECTORY", directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let before = acknowledged.len();
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        acknowledged.parse_line(&line.unwrap());
        if !killed && acknowledged.len() - before >= lines {
            child.kill().unwrap();
            // Its remaining output is read too: those commits were acknowledged before the kill.
            killed = true;
        }
    }
    assert!(killed, "the child ended by itself");
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a child process, until it is killed"]
async fn child_writes() {
    let Some(directory) = env::var_os("STORE_DIRECTORY") else { return };
    let store = Arc::new(Embedded::open(Path::new(&directory)).unwrap());
    // Ends by itself when the parent dies, because the pipe then has no reader.
    let say = |line| writeln!(std::io::stdout(), "{line}").unwrap();
    history::write(&store, u64::MAX, say).await;
}
