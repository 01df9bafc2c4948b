//! The disk of the server: what was made durable stays, what was not may be gone after a loss of
//! power.

use std::collections::BTreeMap;

use server::persist::{Error, Loaded, Reading};
use store::{Op, Txn};

/// Keys and bytes, as they would be read again after a loss of power.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    durable: BTreeMap<String, Vec<u8>>,
    /// Written and not flushed. Only a disk that lies has any once a write was said to be done.
    written: Vec<Txn>,
}

impl Disk {
    /// Writes and flushes.
    pub(crate) fn commit(&mut self, txn: Txn) {
        self.written.push(txn);
        self.flush();
    }

    /// Writes without flushing.
    pub(crate) fn write(&mut self, txn: Txn) {
        self.written.push(txn);
    }

    /// Makes durable what has been written.
    pub(crate) fn flush(&mut self) {
        for txn in std::mem::take(&mut self.written) {
            for op in txn.ops {
                match op {
                    Op::Put { key, value } => drop(self.durable.insert(key, value)),
                    Op::Delete { key } => drop(self.durable.remove(&key)),
                }
            }
        }
    }

    /// The power fails: what was not flushed is gone.
    pub(crate) fn lose_power(&mut self) {
        self.written.clear();
    }

    /// Reads everything, as a server does that starts.
    pub(crate) fn load(&mut self) -> Result<Loaded, Error> {
        // A process that reads sees what was written, flushed or not.
        self.flush();
        let mut reading = Reading::default();
        for (key, value) in &self.durable {
            reading.take(key, value)?;
        }
        Ok(reading.loaded())
    }
}
