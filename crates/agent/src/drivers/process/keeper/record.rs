//! What a keeper leaves on disk about each instance's last run, so that the next keeper can go on
//! where this one was killed: `<slug>.json` says which run, `<slug>.id` which process (see
//! `identity`). They need not survive a loss of power: no process does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::{Exit, InstanceId, Millis, Signal, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::identity::{self, Identity};

/// The last run of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) instance: InstanceId,
    pub(super) run: u32,
    pub(super) started_at: Timestamp,
    /// The boot of the machine that it belongs to.
    pub(super) boot: String,
    /// How it is stopped if nobody says how.
    pub(super) stop: (Signal, Millis),
    /// The limit of its memory, in words; empty if it has none.
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

    /// Where the process of an instance writes its identity.
    pub(super) fn identity_path(&self, instance: &InstanceId) -> PathBuf {
        self.dir.join(format!("{}.id", instance.slug()))
    }

    fn path(&self, instance: &InstanceId) -> PathBuf {
        self.dir.join(format!("{}.json", instance.slug()))
    }

    /// Writes a record in place of the one before, whole or not at all.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let path = self.path(&record.instance);
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(record)?)?;
        fs::rename(new, path)
    }

    pub(super) fn remove(&self, instance: &InstanceId) {
        // What is not there need not be removed; what cannot be is overwritten by the next run.
        let _ = fs::remove_file(self.path(instance));
        let _ = fs::remove_file(self.identity_path(instance));
    }

    /// All records, each with its process if that is still alive.
    pub(super) fn read(&self) -> io::Result<Vec<(Record, Option<Identity>)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            if let Some(record) = read(&entry?.path()) {
                let identity = Identity::read(&self.identity_path(&record.instance));
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
