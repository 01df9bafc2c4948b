//! The checksums of rows, of the content as a whole, and of a position.
//!
//! SQLite has none in the state file: a flipped bit in a value, or a page that an old copy replaced, reads as well as
//! before. So each row of `kv` has a CRC-32 of its key, revision and value, and `head` the sum of all of them, which a
//! commit adjusts by the rows that it changes. A CRC detects any damage of up to 32 adjacent bits; any other passes with
//! a chance of one in four billion. Damage is the adversary here, not a person.

/// Why something in the state file cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite or the disk failed.
    Sqlite(rusqlite::Error),
    /// Something is not as it was written.
    Damage(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault::Sqlite(error)
    }
}

/// The checksum of a row of `kv`.
pub(super) fn row(key: &str, value: &[u8], modified: i64) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    // With its length, so that no byte can move from the key to the value.
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(&modified.to_le_bytes());
    hasher.update(value);
    i64::from(hasher.finalize())
}

/// The checksum of numbers.
pub(super) fn numbers(numbers: &[i64]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    numbers.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
    i64::from(hasher.finalize())
}
