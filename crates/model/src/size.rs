//! The size of values, by which what is kept of them is bounded.

use std::io::{self, Write};

use serde::Serialize;

/// The length of a value as JSON: close enough to the memory that it occupies, and to its size in the store.
pub fn json_bytes(value: &impl Serialize) -> usize {
    let mut counted = Counted(0);
    // Stored values and messages always serialize; a part of one still counts.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

/// Counts what is written to it.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
