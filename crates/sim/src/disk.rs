//! The server's disk: flushed writes survive a loss of power, others do not.

use std::collections::BTreeMap;

use server::persist::{Error, Loaded, Reading};
use store::{Op, Txn};

/// Keys and values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    flushed: BTreeMap<String, Vec<u8>>,
    /// The number of flushed transactions.
    revision: u64,
    /// Transactions that were written but not flushed. Only a disk with an injected bug has any
    /// after it acknowledged a write.
    unflushed: Vec<Txn>,
}

impl Disk {
    /// Writes and flushes.
    pub(crate) fn commit(&mut self, txn: Txn) {
        self.unflushed.push(txn);
        self.flush();
    }

    /// The revision of the newest transaction.
    pub(crate) fn revision(&self) -> u64 {
        self.revision + self.unflushed.len() as u64
    }

    /// Writes without flushing.
    pub(crate) fn write(&mut self, txn: Txn) {
        self.unflushed.push(txn);
    }

    fn flush(&mut self) {
        for txn in std::mem::take(&mut self.unflushed) {
            self.revision += 1;
            for op in txn.ops {
                match op {
                    Op::Put { key, value } => drop(self.flushed.insert(key, value)),
                    Op::Delete { key } => drop(self.flushed.remove(&key)),
                }
            }
        }
    }

    /// Drops every write that was not flushed.
    pub(crate) fn lose_power(&mut self) {
        self.unflushed.clear();
    }

    /// Reads everything, as a server does when it starts. Unflushed writes are visible to a
    /// process, so this flushes them.
    pub(crate) fn load(&mut self) -> Result<Loaded, Error> {
        self.flush();
        self.read()
    }

    /// Whether every write is flushed.
    pub(crate) fn is_flushed(&self) -> bool {
        self.unflushed.is_empty()
    }

    /// Reads everything that is flushed.
    pub(crate) fn read(&self) -> Result<Loaded, Error> {
        let mut reading = Reading::default();
        for (key, value) in &self.flushed {
            reading.take(key, value)?;
        }
        Ok(Loaded { revision: self.revision, ..reading.loaded() })
    }
}
