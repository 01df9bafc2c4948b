//! Files that the embedded store rejects: each gets a helpful message, and is not changed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use muster_store::{Embedded, Error, Op, Revision, Store, Txn, TxnResult};
use rusqlite::Connection;
use tempfile::TempDir;

/// A store with some keys, closed properly.
async fn filled() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    for number in 0..200 {
        store
            .commit(Txn::of(vec![Op::put(format!("/key/{number}"), vec![b'v'; 500])]))
            .await
            .unwrap();
    }
    drop(store);
    let path = directory.path().join("state.db");
    assert!(!directory.path().join("state.db-wal").exists());
    (directory, path)
}

/// The same as after a kill: the last changes are only in the log.
async fn crashed() -> (TempDir, PathBuf) {
    let (directory, path) = filled().await;
    let store = Embedded::open(directory.path()).unwrap();
    for value in ["other", "new"] {
        store.commit(Txn::of(vec![Op::put("/key/7", value)])).await.unwrap();
    }
    let killed = tempfile::tempdir().unwrap();
    for name in ["state.db", "state.db-wal", "state.position"] {
        fs::copy(directory.path().join(name), killed.path().join(name)).unwrap();
    }
    drop(store);
    assert!(fs::metadata(killed.path().join("state.db-wal")).unwrap().len() > 0);
    let path = killed.path().join(path.file_name().unwrap());
    (killed, path)
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    // The next process may overwrite the lock file, which proves nothing.
    entries
        .filter(|path| !path.ends_with("state.lock"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// Checks that the store is rejected with this message (`PATH` stands for the file), and that no file changed.
#[track_caller]
fn refused(directory: &Path, expected: &str) {
    let before = files(directory);
    let message = Embedded::open(directory).map(drop).unwrap_err().to_string();
    let path = directory.join("state.db").display().to_string();
    assert!(message.starts_with(&expected.replace("PATH", &path)), "{message}");
    assert!(message.contains("it was left untouched: "), "{message}");
    let after = files(directory);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert!(before == after, "the files were changed");
}

fn patch(path: &Path, at: usize, bytes: &[u8]) {
    let mut content = fs::read(path).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_file_of_another_program_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    fs::write(&path, "some notes of mine\n".repeat(20)).unwrap();
    refused(
        directory.path(),
        "PATH is not a Muster state file (it does not begin as an SQLite database does)",
    );
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (note TEXT)").unwrap();
    refused(
        directory.path(),
        "PATH is not a Muster state file (an SQLite database with application id 0x00000000)",
    );
}

#[tokio::test]
async fn a_newer_format_is_rejected() {
    for (directory, path) in [filled().await, crashed().await] {
        patch(&path, 60, &99_u32.to_be_bytes());
        refused(directory.path(), "PATH has format 99, and this Muster knows formats up to 3");
    }
}

#[tokio::test]
async fn a_damaged_file_is_rejected() {
    let (directory, path) = filled().await;
    let whole = fs::read(&path).unwrap();

    fs::write(&path, "").unwrap();
    refused(directory.path(), "PATH is damaged (it is too short to be one)");

    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    refused(directory.path(), "PATH is damaged (");

    fs::write(&path, &whole[..4096 + 100]).unwrap();
    refused(directory.path(), "PATH is damaged (");

    // Any page but the first, of which only the header is certain to be used.
    for page in 1..whole.len() / 4096 {
        fs::write(&path, &whole).unwrap();
        patch(&path, page * 4096, &[0x55; 64]);
        refused(directory.path(), "PATH is damaged (");
    }

    fs::write(&path, &whole).unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(store.range("/key/", None, 1_000).await.unwrap().items.len(), 200);
}

#[tokio::test]
async fn a_damaged_file_with_a_log_is_rejected() {
    let (directory, path) = crashed().await;
    let whole = fs::read(&path).unwrap();
    patch(&path, whole.len() - 4096, &[0x55; 4096]);
    refused(directory.path(), "PATH is damaged (");

    // After the repair, the log is used again.
    fs::write(&path, &whole).unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(store.get("/key/7").await.unwrap().unwrap().value, b"new");
}

#[tokio::test]
async fn a_file_without_a_table_is_rejected() {
    let (directory, path) = filled().await;
    Connection::open(&path).unwrap().execute_batch("DROP TABLE kv").unwrap();
    refused(directory.path(), "PATH is damaged (its tables are not those of format 3");
}

#[tokio::test]
async fn a_log_without_its_file_is_rejected() {
    let (directory, path) = crashed().await;
    fs::remove_file(&path).unwrap();
    refused(
        directory.path(),
        "PATH is damaged (it is gone, but its write-ahead log state.db-wal is there)",
    );
}

#[tokio::test]
async fn a_directory_in_use_is_rejected() {
    let (directory, _) = filled().await;
    let store = Embedded::open(directory.path()).unwrap();
    let error = Embedded::open(directory.path()).map(drop).unwrap_err();
    assert!(
        matches!(&error, Error::Locked { holder: Some(pid), .. } if *pid == std::process::id()),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!(
            "{} is in use by another process (pid {}): stop it, or choose another data directory",
            directory.path().display(),
            std::process::id()
        )
    );
    drop(store);
    Embedded::open(directory.path()).unwrap();
}

/// SQLite alone would start with what is before the damage.
#[tokio::test]
async fn a_log_with_damage_in_its_middle_is_rejected() {
    let (directory, path) = crashed().await;
    let log = directory.path().join("state.db-wal");
    let whole = fs::read(&log).unwrap();
    patch(&log, 32 + 24 + 100, &[whole[32 + 24 + 100] ^ 1]);
    // Even without the noted position: the commit after the damage proves the one before it.
    fs::remove_file(directory.path().join("state.position")).unwrap();
    let message = Embedded::open(directory.path()).map(drop).unwrap_err().to_string();
    let expected = format!(
        "{} is damaged (frame 1 is not as it was written, and commits follow it); it was left untouched: ",
        log.display()
    );
    assert!(message.starts_with(&expected), "{message}");
    fs::write(&log, &whole).unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(store.get("/key/7").await.unwrap().unwrap().value, b"new");
    assert!(path.exists());
}

#[tokio::test]
async fn a_store_without_its_last_acknowledged_change_is_rejected() {
    let (directory, path) = crashed().await;
    let log = directory.path().join("state.db-wal");
    let whole = fs::read(&log).unwrap();
    let behind = |found: u64| {
        format!(
            "PATH ends at revision {found}, but revision 202 was acknowledged; it was left untouched: "
        )
    };
    // Damage in the last commit, as a crash would leave it.
    patch(&log, whole.len() - 7, b"x");
    refused(directory.path(), &behind(201));
    fs::remove_file(&log).unwrap();
    refused(directory.path(), &behind(200));
    fs::remove_file(&path).unwrap();
    refused(
        directory.path(),
        "PATH is damaged (it is gone, but revision 202 of it was acknowledged)",
    );
    // Without the note, the file is as old as it says: a backup.
    fs::write(&log, &whole).unwrap();
    let (backup, _) = filled().await;
    let fresh = tempfile::tempdir().unwrap();
    fs::copy(backup.path().join("state.db"), fresh.path().join("state.db")).unwrap();
    Embedded::open(fresh.path()).unwrap();
}

#[tokio::test]
async fn a_cut_off_commit_is_removed() {
    let (directory, _) = crashed().await;
    let log = directory.path().join("state.db-wal");
    let whole = fs::read(&log).unwrap();
    // A third commit, of which the crash left a part: it was not acknowledged.
    let part = [&whole[..], &whole[32..32 + 2_000]].concat();
    fs::write(&log, part).unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(store.get("/key/7").await.unwrap().unwrap().value, b"new");
}

#[tokio::test]
async fn a_row_that_changed_or_disappeared_is_detected() {
    for (change, expected) in [
        (
            "UPDATE kv SET value = x'00' WHERE key = '/key/7'",
            "the value of /key/7 fails its checksum",
        ),
        (
            "UPDATE kv SET modified = 9 WHERE key = '/key/7'",
            "the value of /key/7 fails its checksum",
        ),
        ("DELETE FROM kv WHERE key = '/key/7'", "its objects are not those of its newest revision"),
        ("UPDATE head SET revision = 300", "its newest revision fails its checksum"),
    ] {
        let (directory, path) = filled().await;
        Connection::open(&path).unwrap().execute_batch(change).unwrap();
        refused(directory.path(), &format!("PATH is damaged ({expected})"));
    }
}

/// A row that is damaged while the store is open.
#[tokio::test]
async fn a_read_compares_checksums() {
    let (directory, path) = filled().await;
    let store = Embedded::open(directory.path()).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("UPDATE kv SET value = x'00' WHERE key = '/key/7'").unwrap();
    let error = store.get("/key/7").await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { .. }), "{error:?}");
    assert!(store.get("/key/8").await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_intact_can_be_kept() {
    let (directory, path) = crashed().await;
    assert!(Embedded::salvage(directory.path()).unwrap().is_none(), "nothing is damaged");
    let log = directory.path().join("state.db-wal");
    let (whole, whole_log) = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    // A flipped bit in a value that is in no page of the log.
    let value = whole.windows(8).rposition(|bytes| bytes == b"vvvvvvvv").unwrap();
    patch(&path, value, b"w");
    Embedded::open(directory.path()).unwrap_err();
    let salvaged = Embedded::salvage(directory.path()).unwrap().unwrap();
    assert_eq!((salvaged.kept, salvaged.damaged.len()), (199, 1), "{salvaged:?}");
    assert_eq!(salvaged.revision, Revision(203), "no acknowledged revision is given twice");
    assert_eq!(fs::read(directory.path().join("state.db.damaged-1-wal")).unwrap(), whole_log);
    assert_ne!(fs::read(&salvaged.copy).unwrap(), whole);
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(store.range("/key/", None, 1_000).await.unwrap().items.len(), 199);
    assert!(store.get(&salvaged.damaged[0]).await.unwrap().is_none());
}

#[tokio::test]
async fn an_older_file_can_be_accepted() {
    let (directory, _) = crashed().await;
    fs::remove_file(directory.path().join("state.db-wal")).unwrap();
    let salvaged = Embedded::salvage(directory.path()).unwrap().unwrap();
    assert_eq!((salvaged.kept, salvaged.revision), (200, Revision(203)));
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(store.get("/key/7").await.unwrap().unwrap().value, [b'v'; 500]);
    drop(store);

    // The first commit, whose log is lost with everything.
    let directory = tempfile::tempdir().unwrap();
    drop(Embedded::open(directory.path()).unwrap());
    fs::write(directory.path().join("state.position"), "00000000000000000004 e168d193\n").unwrap();
    let salvaged = Embedded::salvage(directory.path()).unwrap().unwrap();
    assert_eq!((salvaged.kept, salvaged.revision), (0, Revision(5)));
}

/// Format 1 as released. If this test fails, files of earlier versions cannot be opened any more.
#[tokio::test]
async fn a_file_of_format_1_is_migrated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let by_hand = "
        PRAGMA application_id = 0x4d757374;
        PRAGMA user_version = 1;
        CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT;
        CREATE TABLE kv (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, created INTEGER NOT NULL,
            modified INTEGER NOT NULL, version INTEGER NOT NULL) STRICT;
        CREATE TABLE event (id INTEGER PRIMARY KEY NOT NULL, key TEXT NOT NULL, value BLOB,
            revision INTEGER NOT NULL GENERATED ALWAYS AS (id >> 20) VIRTUAL) STRICT;
        INSERT INTO meta VALUES ('revision', 5), ('oldest', 4);
        INSERT INTO kv VALUES ('/a', x'3161', 2, 5, 3);
        INSERT INTO event (id, key, value) VALUES (4 << 20, '/b', NULL), ((5 << 20) + 1, '/a', x'3161');
    ";
    Connection::open(&path).unwrap().execute_batch(by_hand).unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let found = store.get("/a").await.unwrap().unwrap();
    assert_eq!((found.value.as_slice(), found.modified), (b"1a".as_slice(), Revision(5)));
    let next = store.commit(Txn::of(vec![Op::put("/b", "2")])).await.unwrap();
    assert_eq!(next, TxnResult::Committed(Revision(6)));
    drop(store);
    let store = Embedded::open(directory.path()).unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap(), found, "a second start finds the same");
    drop(store);
    let kept = Connection::open(directory.path().join("state.db.format-1")).unwrap();
    let events: i64 = kept.query_row("SELECT count(*) FROM event", (), |row| row.get(0)).unwrap();
    assert_eq!(events, 2, "the file of the earlier version is kept");
}
