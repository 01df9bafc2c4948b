//! The keeper's records on disk, one for the last run of each resource. If the keeper is killed,
//! the next one continues from them: `<slug>.json` identifies the run and `<slug>.id` its process
//! (see `identity`). They need not survive a loss of power, since no process does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::{Exit, InstanceResource, Millis, Piece, Signal, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::identity::{self, Identity};

/// The last run of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) piece: Piece,
    pub(super) started_at: Timestamp,
    /// The boot of the machine during which it was started.
    pub(super) boot: String,
    /// The signal and grace period with which an ephemeral keeper stops it after the agent has
    /// gone.
    pub(super) stop: (Signal, Millis),
    /// Its memory limit, formatted; empty if it has none.
    pub(super) memory: String,
    pub(super) exit: Option<Exit>,
}

/// The directory of records.
#[derive(Debug, Clone)]
pub(super) struct Records {
    dir: PathBuf,
    boot: String,
}

impl Records {
    pub(super) fn open(dir: PathBuf) -> io::Result<Records> {
        fs::create_dir_all(&dir)?;
        Ok(Records { dir, boot: identity::boot() })
    }

    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    /// The file in which the process of a resource writes its identity.
    pub(super) fn identity_path(&self, of: &InstanceResource) -> PathBuf {
        self.dir.join(format!("{}.id", of.slug()))
    }

    fn path(&self, of: &InstanceResource) -> PathBuf {
        self.dir.join(format!("{}.json", of.slug()))
    }

    /// Replaces the previous record atomically.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let path = self.path(&record.piece.of());
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(record)?)?;
        fs::rename(new, path)
    }

    pub(super) fn remove(&self, of: &InstanceResource) {
        // Files that cannot be removed are overwritten by the next run.
        let _ = fs::remove_file(self.path(of));
        let _ = fs::remove_file(self.identity_path(of));
    }

    /// All records, each with its process if that is still running.
    pub(super) fn read(&self) -> io::Result<Vec<(Record, Option<Identity>)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            if let Some(record) = read(&entry?.path()) {
                let identity = Identity::read(&self.identity_path(&record.piece.of()));
                let alive = identity.filter(|identity| {
                    record.exit.is_none() && record.boot == self.boot && identity.is_alive()
                });
                all.push((record, alive));
            }
        }
        Ok(all)
    }
}

fn read(path: &Path) -> Option<Record> {
    let is_record = path.extension().is_some_and(|extension| extension == "json");
    serde_json::from_slice(&fs::read(path).ok().filter(|_| is_record)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_version_without_stacks_is_one_of_main() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"instance":"/shop/web~2.1","run":3,"started_at":"1970-01-01T00:00:00.007Z","boot":"b",
            "stop":["SIGINT","5s"],"memory":"64MiB","exit":null}"#;
        fs::write(dir.path().join("shop_web-2.1.json"), text).unwrap();
        let records = Records::open(dir.path().into()).unwrap();
        let (record, process) = records.read().unwrap().remove(0);
        let instance = "/shop/web~2.1".parse().unwrap();
        assert_eq!(record.piece, Piece { instance, resource: Default::default(), run: 3 });
        assert_eq!((record.stop, process), ((Signal::Int, Millis::secs(5)), None));
        // The next run is written to the same file.
        records.write(&record).unwrap();
        assert_eq!(records.read().unwrap().len(), 1);
        records.remove(&record.piece.of());
        assert!(records.read().unwrap().is_empty());
    }
}
