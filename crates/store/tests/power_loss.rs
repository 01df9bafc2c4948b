//! Power loss at any moment: after the store is reopened, every acknowledged commit is present, each commit is atomic,
//! and none is present without those before it.
//!
//! A child writes while `record.c` records all operations on its files. At random points of that record the files are
//! rebuilt as `support/disk.rs` says they may be after a power loss, and the store is opened on them. The next child
//! starts from one of those losses, so that opening after a loss is interrupted as well. `PROPTEST_CASES` sets the
//! number of points.
//!
//! At each point, the files are also damaged further: a bit is flipped, the log is removed, or a file is replaced by an
//! older one. The store must reject them, or lose no more than it can know of: after a power loss the noted position may be
//! too low to prove that the last group of commits was acknowledged.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/disk.rs"]
mod disk;
#[path = "support/history.rs"]
mod history;
#[path = "support/preload.rs"]
mod preload;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use disk::{Disk, Files, Op, Random};
use history::Acknowledged;
use muster_store::Embedded;
use proptest::test_runner::Config;
use tempfile::TempDir;

const POINTS_OF_A_RECORD: usize = 64;
/// After that number of records the test starts with a new store, because a large one takes long to open.
const RECORDS_OF_A_STORE: usize = 8;
/// The commits of each writer in each of its two turns: enough for several checkpoints.
const COMMITS: u64 = 40;
/// The child writes acknowledgements to this file, so that the record contains them between the writes.
const ACKNOWLEDGEMENTS: &str = "said";

/// The files at the start of a child, and its operations.
struct Record {
    before: BTreeMap<String, (u64, Vec<u8>)>,
    acknowledged: Acknowledged,
    ops: Vec<Op>,
}

/// The files after a power loss.
#[derive(Default)]
struct Loss {
    files: Files,
    acknowledged: Acknowledged,
}

#[test]
fn acknowledged_commits_survive_a_power_loss() {
    let seed = RandomState::new().hash_one(());
    let mut random = Random::new(seed);
    let mut last = Loss::default();
    let cases = Config::default().cases as usize;
    for number in 0..cases.div_ceil(POINTS_OF_A_RECORD) {
        let points = POINTS_OF_A_RECORD.min(cases - number * POINTS_OF_A_RECORD);
        if number % RECORDS_OF_A_STORE == 0 {
            last = Loss::default();
        }
        let record = record("child_writes_before_a_power_loss", last);
        let seed = random.seed();
        match simulate_losses(&record, points, |_| true, &mut random) {
            Ok(loss) => last = loss,
            Err(wrong) => panic!("{wrong}\nseed {seed:#x}"),
        }
    }
}

/// Without the checks of the store, the damage in these runs loses acknowledged commits.
#[test]
fn sqlite_alone_accepts_a_log_with_flipped_bits() {
    let record = record("child_writes_before_unchecked_damage", Loss::default());
    let (mut random, mut lost) = (Random::new(1), 0);
    let last_log = record
        .ops
        .iter()
        .rposition(|op| matches!(op, Op::Unlink { name } if name.ends_with("-wal")));
    let mut disk = Disk::new(&record.before, |_| true);
    let until = &record.ops[..last_log.unwrap()];
    until
        .iter()
        .filter(|op| !matches!(op, Op::Write { inode: 0, .. }))
        .for_each(|op| disk.apply(op));
    let whole = disk.whole();
    let before = revision_of(&whole).unwrap();
    for _ in 0..20 {
        let damaged = Damage::FlippedBit("state.db-wal").apply(&whole, &whole, &mut random);
        lost += usize::from(revision_of(&damaged).is_some_and(|found| found + GROUP_MAX < before));
    }
    assert!(lost > 5, "{lost} of 20");
}

/// The newest revision, as SQLite reads it.
fn revision_of(files: &Files) -> Option<u64> {
    let directory = in_memory();
    write_files(files, directory.path());
    let connection = rusqlite::Connection::open(directory.path().join("state.db")).unwrap();
    connection
        .query_row("SELECT revision FROM head", (), |row| row.get::<_, i64>(0))
        .ok()
        .map(i64::cast_unsigned)
}

#[test]
fn an_omitted_flush_is_detected() {
    type Honours = fn(&str) -> bool;
    let lies: [(&str, Honours); 4] = [
        ("no flush", |_| false),
        ("no flush of the log", |name| !name.ends_with("-wal")),
        ("no flush when the log is folded into the state file", |name| name != "state.db"),
        ("no flush of the directory", |name| !name.is_empty()),
    ];
    let record = record("child_writes_before_a_false_loss", Loss::default());
    for (lie, honours) in lies {
        let found = simulate_losses(&record, 100, honours, &mut Random::new(1));
        assert!(found.is_err(), "{lie}: nothing was missed");
    }
}

/// Simulates that number of power losses. Returns an example of the remaining files, or the first violation.
fn simulate_losses(
    record: &Record,
    points: usize,
    honours: fn(&str) -> bool,
    random: &mut Random,
) -> Result<Loss, String> {
    let chosen = random.below(points);
    let mut at: Vec<_> = (0..points).map(|_| random.below(record.ops.len() + 1)).collect();
    at.sort_unstable();
    let mut disk = Disk::new(&record.before, honours);
    let mut acknowledged = record.acknowledged.clone();
    let (mut done, mut example) = (0, Loss::default());
    let mut older = Files::new();
    for (number, point) in at.into_iter().enumerate() {
        for op in &record.ops[done..point] {
            match op {
                Op::Write { inode: 0, bytes, .. } => {
                    parse_acknowledgements(bytes, &mut acknowledged)
                }
                op => disk.apply(op),
            }
        }
        done = point;
        let files = disk.lose_power(random);
        reopen(&files, &acknowledged).map_err(|wrong| {
            let before = &record.ops[point.saturating_sub(5)..point];
            format!(
                "after op {point} of {}, with {} commits acknowledged: {wrong}; {}",
                record.ops.len(),
                acknowledged.len(),
                shown(before, &files)
            )
        })?;
        // Each kind of damage opens a store, so not at all points.
        if random.below(4) == 0 {
            damage(&files, &older, &acknowledged, random)
                .map_err(|wrong| format!("after op {point} of {}: {wrong}", record.ops.len()))?;
        }
        if number == 0 || random.below(4) == 0 {
            older.clone_from(&files);
        }
        if number == chosen {
            example = Loss { files, acknowledged: acknowledged.clone() };
        }
    }
    Ok(example)
}

fn shown(ops: &[Op], files: &Files) -> String {
    let short = |op: &Op| {
        let text = format!("{op:?}");
        text.split(", bytes").next().unwrap_or_default().to_owned()
    };
    let ops: Vec<_> = ops.iter().map(short).collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name, bytes.len())).collect();
    format!("the last ops {ops:?}, left {files:?}")
}

fn parse_acknowledgements(bytes: &[u8], acknowledged: &mut Acknowledged) {
    for line in String::from_utf8_lossy(bytes).lines() {
        assert!(acknowledged.parse_line(line), "{line}");
    }
}

/// Writes the files to a directory and opens the store there.
fn reopen(files: &Files, acknowledged: &Acknowledged) -> Result<(), String> {
    let directory = in_memory();
    write_files(files, directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Embedded::open(directory.path())
            .map_err(|error| format!("it does not open: {error}"))?;
        history::check(&store, acknowledged).await.map(drop)
    })
}

/// The most commits that one flush acknowledges: one of each writer.
const GROUP_MAX: u64 = 8;

/// Damage of files that a power loss left.
#[derive(Debug, Clone, Copy)]
enum Damage {
    FlippedBit(&'static str),
    Missing(&'static str),
    Older(&'static str),
}

impl Damage {
    const ALL: [Damage; 6] = [
        Damage::FlippedBit("state.db"),
        Damage::FlippedBit("state.db-wal"),
        Damage::FlippedBit("state.position"),
        Damage::Missing("state.db-wal"),
        Damage::Older("state.db"),
        Damage::Older("state.db-wal"),
    ];

    fn apply(self, files: &Files, older: &Files, random: &mut Random) -> Files {
        let mut files = files.clone();
        match self {
            Damage::FlippedBit(name) => {
                if let Some(bytes) = files.get_mut(name).filter(|bytes| !bytes.is_empty()) {
                    let bit = random.below(bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            Damage::Missing(name) => drop(files.remove(name)),
            Damage::Older(name) => {
                if let Some(bytes) = older.get(name) {
                    files.insert(name.to_owned(), bytes.clone());
                }
            }
        }
        files
    }
}

/// Damages the files in each way: the store rejects them, or is a consistent older state, no older than the noted
/// position; after a flipped bit, it lacks at most the last group.
fn damage(
    files: &Files,
    older: &Files,
    acknowledged: &Acknowledged,
    random: &mut Random,
) -> Result<(), String> {
    let noted = |files: &Files| -> u64 {
        let text =
            files.get("state.position").map(|text| String::from_utf8_lossy(text).into_owned());
        let number = text.and_then(|text| text.split(' ').next().unwrap_or_default().parse().ok());
        number.unwrap_or(0)
    };
    for damage in Damage::ALL {
        let damaged = damage.apply(files, older, random);
        let directory = in_memory();
        write_files(&damaged, directory.path());
        let Ok(store) = Embedded::open(directory.path()) else { continue };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime
            .block_on(history::check(&store, &Acknowledged::default()))
            .map_err(|wrong| format!("{damage:?}: {wrong}"))?;
        let bound = match damage {
            Damage::FlippedBit("state.position") => acknowledged.newest(),
            Damage::FlippedBit(_) => {
                noted(files).max(acknowledged.newest().saturating_sub(GROUP_MAX))
            }
            _ => noted(files),
        };
        if found < bound {
            return Err(format!("{damage:?}: accepted at revision {found}, below {bound}"));
        }
    }
    Ok(())
}

/// A directory in memory, if the system has one: flushes are simulated here, so they need not reach a disk.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn write_files(files: &Files, directory: &Path) {
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes).unwrap();
    }
}

/// Runs a child that writes, starting from the files after a power loss.
fn record(test: &str, begin: Loss) -> Record {
    let directory = in_memory();
    let (root, log) = (directory.path().join("root"), directory.path().join("log"));
    fs::create_dir(&root).unwrap();
    write_files(&begin.files, &root);
    let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    let before = begin.files.into_iter().map(|(name, bytes)| {
        let inode = inode(&name);
        (name, (inode, bytes))
    });
    let before = before.collect();
    let output = preload::child("record.c", test)
        .args(["--test-threads", "1"])
        .env("RECORD", &root)
        .env("RECORD_LOG", &log)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut ops = disk::read(&fs::read(&log).unwrap());
    assert_complete(&before, &ops, &root);
    remove_acknowledgements(&mut ops);
    Record { before, acknowledged: begin.acknowledged, ops }
}

/// The record is complete only if replaying it gives the files that exist.
fn assert_complete(before: &BTreeMap<String, (u64, Vec<u8>)>, ops: &[Op], root: &Path) {
    let mut disk = Disk::new(before, |_| true);
    ops.iter().for_each(|op| disk.apply(op));
    let found = fs::read_dir(root).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    });
    let found: Files = found.collect();
    let again = disk.whole();
    let sizes = |files: &Files| -> Vec<_> {
        files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect()
    };
    assert!(found == again, "there is {:?}, done again {:?}", sizes(&found), sizes(&again));
}

/// Changes the inode of the child's acknowledgements to 0, which no file has, and removes their file from the record.
fn remove_acknowledgements(ops: &mut Vec<Op>) {
    let acknowledgements = ops.iter().find_map(|op| match op {
        Op::Create { inode, name } if name == ACKNOWLEDGEMENTS => Some(*inode),
        _ => None,
    });
    let acknowledgements = acknowledgements.unwrap();
    ops.retain(|op| !matches!(op, Op::Create { inode, .. } if *inode == acknowledgements));
    for op in ops {
        if let Op::Write { inode, .. } = op
            && *inode == acknowledgements
        {
            *inode = 0;
        }
    }
}

/// Writes, closes the store, reopens it and writes more; appends each acknowledgement to a file.
async fn write() {
    let Some(root) = env::var_os("RECORD") else { return };
    let acknowledgements = Path::new(&root).join(ACKNOWLEDGEMENTS);
    let acknowledgements =
        Arc::new(File::options().create_new(true).append(true).open(acknowledgements).unwrap());
    for _ in 0..2 {
        let acknowledgements = Arc::clone(&acknowledgements);
        // One system call, because other tasks write at the same time.
        let say =
            move |line| (&*acknowledgements).write_all(format!("{line}\n").as_bytes()).unwrap();
        let store = Arc::new(Embedded::open(Path::new(&root)).unwrap());
        history::write(&store, COMMITS, say).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a child process"]
async fn child_writes_before_a_power_loss() {
    write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a child process"]
async fn child_writes_before_unchecked_damage() {
    write().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a child process"]
async fn child_writes_before_a_false_loss() {
    write().await;
}
