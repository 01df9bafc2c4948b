//! Tells a log with damage in its middle from one that a crash cut off.
//!
//! SQLite reads its write-ahead log up to the first frame whose checksum fails, and ignores the rest: right for the
//! commit that a crash interrupted, which was not acknowledged, wrong for damage anywhere before. But the writer starts a
//! commit only once the one before is flushed. So if frames of a further commit follow the damaged one, that one was
//! acknowledged. Whether a frame follows another is certain: its checksum continues that of the frame before.
//!
//! Damage in the last commit of the log looks like a crash here; `position.rs` covers it.
//! The format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::files::with_suffix;
use crate::Error;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Rejects a log with damage before its last commit. Only reads.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    let log = with_suffix(path, "-wal");
    let bytes = match fs::read(&log) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("read", log, error)),
    };
    match damaged_frame(&bytes) {
        None => Ok(()),
        Some(frame) => Err(Error::Corrupt {
            path: log,
            detail: format!("frame {frame} is not as it was written, and commits follow it"),
        }),
    }
}

/// The number of the first invalid frame, if frames of a commit after it follow.
fn damaged_frame(bytes: &[u8]) -> Option<usize> {
    let log = Log::parse(bytes)?;
    let size = FRAME_HEADER + log.page_size;
    let (mut sum, mut damaged, mut ends_commit) = (log.sum, None, false);
    for (number, frame) in (1..).zip(bytes[HEADER..].chunks_exact(size)) {
        // Frames of a log that was overwritten have another salt.
        let ours = frame[8..16] == *log.salt;
        let follows = ours
            && log.checksum(log.checksum(sum, &frame[..8]), &frame[24..]) == stored(&frame[16..]);
        match damaged {
            None if !follows => damaged = Some(number),
            Some(_) if follows && ends_commit => return damaged,
            _ => {}
        }
        // The size of the file after the commit; zero in all frames but the last of a commit.
        ends_commit = damaged.is_some() && ours && frame[4..8] != [0; 4];
        sum = stored(&frame[16..]);
    }
    None
}

/// The checksum at the start of `bytes`.
fn stored(bytes: &[u8]) -> (u32, u32) {
    (big_endian(bytes), big_endian(&bytes[4..]))
}

fn big_endian(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The header of a log.
struct Log<'b> {
    page_size: usize,
    salt: &'b [u8],
    sum: (u32, u32),
    /// Whether checksums are of big-endian words.
    is_big_endian: bool,
}

impl Log<'_> {
    /// `None` for a header that a crash cut off: nothing after it counts.
    fn parse(bytes: &[u8]) -> Option<Log<'_>> {
        let header = bytes.get(..HEADER)?;
        let (magic, page_size) = (big_endian(header), big_endian(&header[8..]) as usize);
        let log = Log {
            page_size,
            salt: &header[16..24],
            sum: stored(&header[24..]),
            is_big_endian: magic & 1 == 1,
        };
        let is_intact = magic & !1 == 0x377f_0682 && log.checksum((0, 0), &header[..24]) == log.sum;
        (is_intact && page_size >= 512).then_some(log)
    }

    /// Continues a checksum over `bytes`, whose length is a multiple of eight.
    fn checksum(&self, (mut first, mut second): (u32, u32), bytes: &[u8]) -> (u32, u32) {
        let word = |bytes: &[u8]| {
            let word = big_endian(bytes);
            if self.is_big_endian { word } else { word.swap_bytes() }
        };
        for pair in bytes.chunks_exact(8) {
            first = first.wrapping_add(word(pair)).wrapping_add(second);
            second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
        }
        (first, second)
    }
}
