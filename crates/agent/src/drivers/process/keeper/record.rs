//! The keeper's records on disk, one for the last run of each resource. If the keeper is killed,
//! the next one continues from them: `<slug>.json` identifies the run and `<slug>.id` its process
//! (see `identity`). They need not survive a loss of power, since no process does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::{Exit, InstanceResource, Millis, Piece, Signal, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::identity::{self, Identity};
use crate::drivers::directory::make_dir;

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
    /// Whether its processes are suspended, or are about to be: written before they are suspended
    /// and after they are resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) suspended: bool,
}

/// The directory of records.
#[derive(Debug, Clone)]
pub(super) struct Records {
    dir: PathBuf,
    boot: String,
}

impl Records {
    pub(super) fn open(dir: PathBuf) -> io::Result<Records> {
        make_dir(&dir, 0o700)?;
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

    /// Records that a keeper of the first version wrote, which had no stacks.
    #[test]
    fn records_of_the_first_version_are_those_of_main() {
        let fixtures =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/first-version-leaving/keeper");
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixtures).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let records = Records::open(dir.path().into()).unwrap();
        let mut all = records.read().unwrap();
        all.sort_by(|(a, _), (b, _)| a.piece.cmp(&b.piece));
        let pieces: Vec<_> =
            all.iter().map(|(record, _)| record.piece.instance.to_string()).collect();
        let expected = ["/shop/broken~0.1", "/shop/stubborn~0.1", "/shop/web~0.1", "/shop/web~1.1"];
        assert_eq!(pieces, expected);
        assert!(
            all.iter().all(|(record, _)| record.piece.resource.is_main() && record.piece.run == 1)
        );
        // The machine has been started again since.
        assert!(all.iter().all(|(_, process)| process.is_none()));
        let exit = all[0].0.exit.as_ref().unwrap();
        assert_eq!((exit.code(), exit.to_string().as_str()), (Some(3), "exit code 3"));
        let web = &all[2].0;
        assert_eq!((web.stop, web.memory.as_str()), ((Signal::Int, Millis::secs(9)), "100MiB"));
        // The next run is written to the same file.
        records.write(web).unwrap();
        assert_eq!(records.read().unwrap().len(), all.len());
        records.remove(&web.piece.of());
        assert_eq!(records.read().unwrap().len(), all.len() - 1);
    }
}
