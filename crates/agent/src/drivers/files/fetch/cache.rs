//! The downloads of a node, by checksum: complete ones, which its instances share, and the
//! beginnings of others, which are continued. All methods but [`Cache::lock`] block.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use model::Sha256;
use tokio::sync::OwnedMutexGuard;

/// The extension of downloads that are not complete.
const PARTIAL: &str = "part";
/// A partial download that has not grown for this long is not in progress.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(3600);

type Lock = tokio::sync::Mutex<()>;

/// The downloads of a node.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    bytes_max: u64,
    /// One lock for each checksum that is being fetched, so that instances that need the same file
    /// fetch it once.
    locks: Mutex<BTreeMap<Sha256, Weak<Lock>>>,
    /// The number of downloads without a checksum so far, which name their files.
    unnamed: AtomicU64,
}

impl Cache {
    /// The cache in `dir`, which is made by the first download.
    pub(super) fn new(dir: PathBuf, bytes_max: u64) -> Cache {
        Cache { dir, bytes_max, locks: Mutex::default(), unnamed: AtomicU64::new(0) }
    }

    /// Waits until no other download of this checksum is in progress.
    pub(super) async fn lock(&self, checksum: &Sha256) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let known = locks.get(checksum).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(Lock::default());
                locks.insert(*checksum, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }

    /// The complete download with this checksum, if there is one; it counts as used now.
    pub(super) fn get(&self, checksum: &Sha256) -> io::Result<Option<File>> {
        let file = match File::open(self.complete(checksum)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        file.set_modified(SystemTime::now())?;
        Ok(Some(file))
    }

    /// The path of a download in progress. One with a checksum may exist already.
    pub(super) fn partial(&self, checksum: Option<&Sha256>) -> io::Result<PathBuf> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let name = match checksum {
            Some(checksum) => checksum.to_string(),
            None => format!("unnamed-{}", self.unnamed.fetch_add(1, Ordering::Relaxed)),
        };
        Ok(self.dir.join(name).with_extension(PARTIAL))
    }

    /// Keeps a complete download, and removes those that were used least recently if they are too
    /// large together. Files that are open remain readable.
    pub(super) fn keep(&self, partial: &Path, checksum: &Sha256) -> io::Result<()> {
        let complete = self.complete(checksum);
        fs::rename(partial, &complete)?;
        self.evict(&complete)
    }

    fn complete(&self, checksum: &Sha256) -> PathBuf {
        self.dir.join(checksum.to_string())
    }

    fn evict(&self, newest: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let found = entry.metadata()?;
            files.push((found.modified()?, found.len(), entry.path()));
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
        let now = SystemTime::now();
        for (used_at, len, path) in files {
            let is_partial = path.extension().is_some_and(|extension| extension == PARTIAL);
            let age = now.duration_since(used_at).unwrap_or_default();
            let is_in_use = path == newest || (is_partial && age < PARTIAL_AGE_MAX);
            let is_left = is_partial && age >= PARTIAL_AGE_MAX;
            if !is_in_use && (is_left || bytes > self.bytes_max) {
                fs::remove_file(&path)?;
                bytes -= len;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(n: u8) -> Sha256 {
        Sha256([n; 32])
    }

    fn keep(cache: &Cache, n: u8, age_s: u64) {
        let partial = cache.partial(Some(&checksum(n))).unwrap();
        fs::write(&partial, [n; 40]).unwrap();
        cache.keep(&partial, &checksum(n)).unwrap();
        let used_at = SystemTime::now() - Duration::from_secs(age_s);
        let complete = File::options().write(true).open(cache.complete(&checksum(n))).unwrap();
        complete.set_modified(used_at).unwrap();
    }

    #[test]
    fn the_least_recently_used_downloads_leave_when_there_is_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("cache"), 100);
        keep(&cache, 1, 30);
        keep(&cache, 2, 20);
        let open = cache.get(&checksum(1)).unwrap().unwrap();
        let other = cache.get(&checksum(2)).unwrap();
        assert!(other.is_some());
        cache.get(&checksum(1)).unwrap();
        keep(&cache, 3, 0);
        assert!(cache.get(&checksum(1)).unwrap().is_some(), "it was used last");
        assert!(cache.get(&checksum(2)).unwrap().is_none());
        keep(&cache, 4, 0);
        keep(&cache, 5, 0);
        assert!(cache.get(&checksum(1)).unwrap().is_none());
        assert_eq!(io::read_to_string(open).unwrap().len(), 40, "an open file stays readable");
    }

    #[test]
    fn an_old_beginning_is_removed_and_a_new_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("cache"), 100);
        let [old, new] = [1, 2].map(|n| cache.partial(Some(&checksum(n))).unwrap());
        for path in [&old, &new] {
            fs::write(path, [0; 90]).unwrap();
        }
        let file = File::options().write(true).open(&old).unwrap();
        file.set_modified(SystemTime::now() - PARTIAL_AGE_MAX).unwrap();
        keep(&cache, 3, 0);
        assert!(!old.exists() && new.exists());
        assert!(cache.get(&checksum(3)).unwrap().is_some(), "the newest stays, whatever its size");
        assert_ne!(cache.partial(None).unwrap(), cache.partial(None).unwrap());
    }

    #[tokio::test]
    async fn the_same_file_is_fetched_once_at_a_time() {
        let cache = Cache::new("/nonexistent".into(), 0);
        let (one, other) = (checksum(1), checksum(2));
        let held = cache.lock(&one).await;
        let mut again = std::pin::pin!(cache.lock(&one));
        assert!(futures_util::poll!(&mut again).is_pending());
        let _other = cache.lock(&other).await;
        drop(held);
        let _again = again.await;
    }
}
