//! What the agent keeps on disk: its memory in `agent.json`, a lock so that one agent at a time
//! uses the directory, and the directories of instances.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::core::Memory;

/// Linux makes an id here, another one each time.
const RANDOM_ID: &str = "/proc/sys/kernel/random/uuid";

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent uses it.
    #[error("another agent uses {}", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// What the agent remembers cannot be read. It is left as it is.
    #[error("{} is damaged, or of a newer version; move it away to start without it", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The disk does not do what it should.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

/// The agent's directory, held by this agent alone.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    removals: TaskTracker,
    _lock: File,
}

impl Disk {
    /// Makes the directory if need be, and takes it.
    pub(super) fn open(dir: &Path) -> Result<Disk, Error> {
        let failed = |doing| move |source| Error::Io { doing, path: dir.into(), source };
        fs::create_dir_all(dir).map_err(failed("make"))?;
        // The keeper and its instances are told paths, and have another working directory.
        let dir = fs::canonicalize(dir).map_err(failed("find"))?;
        let lock = File::create(dir.join("agent.lock")).map_err(failed("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse { dir }),
            Err(error) => return Err(failed("lock")(error.into())),
        }
        let disk = Disk { dir, removals: TaskTracker::new(), _lock: lock };
        fs::create_dir_all(disk.instances_dir()).map_err(failed("make directories in"))?;
        Ok(disk)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn instances_dir(&self) -> PathBuf {
        self.dir.join("instances")
    }

    /// What plain processes write is kept apart from their directories, which belong to their
    /// users.
    pub(super) fn logs_dir(&self) -> PathBuf {
        self.dir.join("logs")
    }

    pub(super) fn keeper_dir(&self) -> PathBuf {
        self.dir.join("keeper")
    }

    /// What tells this agent from all others: the same for as long as there is the directory.
    pub(super) fn agent_id(&self) -> Result<String, Error> {
        let path = self.dir.join("agent.id");
        let failed = |doing, source| Error::Io { doing, path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => return Ok(id.trim().into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", error)),
        }
        let id = fs::read_to_string(RANDOM_ID).map_err(|error| failed("find an id for", error))?;
        write(&path, id.as_bytes()).map_err(|error| failed("write", error))?;
        Ok(id.trim().into())
    }

    /// Removes what an instance leaves, by its slug, beside everything else. What cannot be
    /// removed now, or is cut short by the agent's own end, is at the next start.
    pub(super) fn remove(&self, slug: String) {
        for dir in [self.instances_dir(), self.logs_dir()] {
            let dir = dir.join(&slug);
            self.removals.spawn_blocking(move || match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("{} cannot be removed: {error}", dir.display());
                }
                _ => {}
            });
        }
    }

    /// Removes what all other instances have left than those of these slugs.
    pub(super) fn remove_all_but(&self, known: &BTreeSet<String>) {
        let mut left = BTreeSet::new();
        for dir in [self.instances_dir(), self.logs_dir()] {
            match fs::read_dir(&dir) {
                Ok(entries) => left.extend(
                    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()),
                ),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!("{} cannot be read: {error}", dir.display()),
            }
        }
        for slug in left.difference(known) {
            tracing::info!("removing what is left of {slug}, which nobody knows any more");
            self.remove(slug.clone());
        }
    }

    /// What is being removed.
    pub(super) fn removals(&self) -> TaskTracker {
        self.removals.clone()
    }

    fn memory_path(&self) -> PathBuf {
        self.dir.join("agent.json")
    }

    /// What the agent remembers; nothing if it is new here.
    pub(super) fn memory(&self) -> Result<Memory, Error> {
        let path = self.memory_path();
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|source| Error::Memory { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Memory::default()),
            Err(source) => Err(Error::Io { doing: "read", path, source }),
        }
    }

    /// Writes each memory that it is given, the newest only if several have come meanwhile, for
    /// as long as the other side lives.
    pub(super) async fn remember(path: PathBuf, mut memories: watch::Receiver<Memory>) {
        while memories.changed().await.is_ok() {
            let memory = memories.borrow_and_update().clone();
            let path = path.clone();
            let written =
                tokio::task::spawn_blocking(move || write(&path, &serde_json::to_vec(&memory)?))
                    .await;
            if let Ok(Err(error)) = written {
                tracing::error!("the assignments cannot be kept for a restart: {error}");
            }
        }
    }

    /// Where [`Self::remember`] writes.
    pub(super) fn memories(&self) -> PathBuf {
        self.memory_path()
    }
}

/// Whole or not at all, and there after a loss of power. Nobody else may read it: what an
/// agent remembers has the environments of instances, with what is secret in them.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // One that is left over may have other rights.
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_else_can_read_what_the_agent_remembers() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        fs::write(dir.path().join("agent.new"), "left over, for all to read").unwrap();
        for _ in 0..2 {
            let memory = serde_json::to_vec(&Memory::default()).unwrap();
            write(&disk.memories(), &memory).unwrap();
            let mode = fs::metadata(disk.memories()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(disk.memory().unwrap(), Memory::default());
    }
}
