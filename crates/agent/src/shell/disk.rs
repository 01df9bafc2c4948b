//! The agent's data directory: its memory in `agent.json`, a lock so that one agent at a time uses
//! the directory, and the directories and output of instances.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api::{Caller, Membership};
use model::{Daemon, InstanceId, InstanceResource};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::core::Memory;
use crate::drivers::directory::make_dir;
use crate::options::Options;

/// Linux generates a new random id at each read.
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
    /// The stored memory cannot be read. The file is left unchanged.
    #[error("{} is damaged, or of a newer version; move it away to start without it", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// The syntax error.
        #[source]
        source: serde_json::Error,
    },
    /// An operation on the disk failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The agent's directory, locked by this agent.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    removals: TaskTracker,
    _lock: File,
}

impl Disk {
    /// Creates the directory if necessary, and locks it.
    pub(super) fn open(dir: &Path) -> Result<Disk, Error> {
        let failed = |doing| move |source| Error::Io { doing, path: dir.into(), source };
        fs::create_dir_all(dir).map_err(failed("make"))?;
        // The keeper and its processes receive these paths and have another working directory, so
        // the paths must be absolute.
        let dir = fs::canonicalize(dir).map_err(failed("find"))?;
        let lock = File::create(dir.join("agent.lock")).map_err(failed("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse { dir }),
            Err(error) => return Err(failed("lock")(error.into())),
        }
        let disk = Disk { dir, removals: TaskTracker::new(), _lock: lock };
        // The users of instances reach their own directories, and cannot list those of others.
        make_dir(&disk.instances_dir(), 0o711).map_err(failed("make directories in"))?;
        Ok(disk)
    }

    /// Makes the directory of an instance, which only its user can read. The process driver gives
    /// it to that user.
    pub(super) fn make_instance(&self, instance: &InstanceId) -> io::Result<()> {
        make_dir(&self.instance_dir(instance), 0o700)
    }

    pub(super) fn instance_dir(&self, instance: &InstanceId) -> PathBuf {
        self.instances_dir().join(instance.slug())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn instances_dir(&self) -> PathBuf {
        self.dir.join("instances")
    }

    /// The directory of the output of plain processes. It is separate from their own directories,
    /// which their users own.
    pub(super) fn logs_dir(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The directory of the files that are fetched for instances.
    pub(super) fn fetched_dir(&self) -> PathBuf {
        self.dir.join("fetched")
    }

    pub(super) fn keeper_dir(&self) -> PathBuf {
        self.dir.join("keeper")
    }

    /// Identifies this agent among all others. Constant while the directory exists.
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

    /// The cluster that this agent belongs to.
    pub(super) fn membership(&self, options: &Options) -> Result<Membership, Error> {
        let (id, node) = (self.agent_id()?, options.node.clone());
        let caller = Caller { daemon: Daemon::Agent, node, id, position: None };
        let path = self.dir.join("cluster.json");
        let failed = |source| Error::Io { doing: "read or write", path: path.clone(), source };
        let kept = match fs::read(&path) {
            Ok(kept) => Some(kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let to = path.clone();
        let save = Box::new(move |text: &[u8]| write(&to, text));
        Membership::new(caller, kept.as_deref(), save, options.adopt_cluster).map_err(failed)
    }

    /// Removes the directory of an instance.
    pub(super) fn remove_instance(&self, instance: &InstanceId) {
        self.remove(self.instance_dir(instance));
    }

    /// Removes the output of a resource.
    pub(super) fn remove_output(&self, of: &InstanceResource) {
        self.remove(self.logs_dir().join(of.slug()));
    }

    /// Removes a directory in the background. A removal that fails, or that is interrupted by the
    /// end of the agent, is repeated after its next start.
    fn remove(&self, dir: PathBuf) {
        self.removals.spawn_blocking(move || match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{} cannot be removed: {error}", dir.display());
            }
            _ => {}
        });
    }

    /// Removes the directories and the output of all instances and resources but the known ones.
    pub(super) fn remove_all_but(&self, known: &[InstanceResource]) {
        let instances = known.iter().map(|of| of.instance.slug()).collect();
        let resources = known.iter().map(InstanceResource::slug).collect();
        for (dir, known) in [(self.instances_dir(), instances), (self.logs_dir(), resources)] {
            let known: BTreeSet<String> = known;
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::warn!("{} cannot be read: {error}", dir.display());
                    continue;
                }
            };
            let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            for name in names.filter(|name| !known.contains(name)) {
                let left = dir.join(name);
                tracing::info!("removing {}, left over by an instance", left.display());
                self.remove(left);
            }
        }
    }

    /// Tracks the removals in progress.
    pub(super) fn removals(&self) -> TaskTracker {
        self.removals.clone()
    }

    fn memory_path(&self) -> PathBuf {
        self.dir.join("agent.json")
    }

    /// The stored memory; empty if the directory is new.
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

    /// Writes each memory that it receives, or only the newest of several, until the sender is
    /// dropped.
    pub(super) async fn persist(path: PathBuf, mut memories: watch::Receiver<Memory>) {
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

    /// The path to which [`Self::persist`] writes.
    pub(super) fn memories(&self) -> PathBuf {
        self.memory_path()
    }
}

/// Replaces a file atomically and durably. Only its owner may read it: the memory of an agent
/// contains the environments of instances, which may hold secrets.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    // A file that an interrupted write has left may have other permissions.
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
    fn the_memory_file_is_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        fs::write(dir.path().join("agent.json.new"), "left over, for all to read").unwrap();
        for _ in 0..2 {
            let memory = serde_json::to_vec(&Memory::default()).unwrap();
            write(&disk.memories(), &memory).unwrap();
            let mode = fs::metadata(disk.memories()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(disk.memory().unwrap(), Memory::default());
    }

    #[test]
    fn only_its_user_can_list_an_instance() {
        rustix::process::umask(rustix::fs::Mode::empty());
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let instance = "/shop/web~0.1".parse().unwrap();
        disk.make_instance(&instance).unwrap();
        let mode = |dir: PathBuf| fs::metadata(dir).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(disk.instance_dir(&instance)), 0o700);
        assert_eq!(mode(disk.instances_dir()), 0o711);
    }
}
