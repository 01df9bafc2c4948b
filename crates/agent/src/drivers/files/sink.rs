//! The receiver of files: the directory of an instance, or an archive for a container.

use std::io::{self, Read, Write};

use super::error::Error;

/// Receives files, directories and links. Paths are relative or absolute as those of launch files,
/// and have no `.` or `..`.
pub(crate) trait Sink {
    /// Writes, or replaces, a file. `content` has `size` bytes.
    fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), Error>;

    /// Makes a directory, if there is none.
    fn directory(&mut self, path: &str, mode: u32) -> Result<(), Error>;

    /// Makes, or replaces, a symbolic link.
    fn link(&mut self, path: &str, target: &str) -> Result<(), Error>;

    /// Writes a file with the content of another one that was written before.
    fn hard_link(&mut self, path: &str, target: &str) -> Result<(), Error>;
}

/// Reads no more and no less than a number of bytes.
pub(super) fn exactly(content: &mut dyn Read, size: u64, to: &mut dyn Write) -> io::Result<()> {
    let count = io::copy(&mut content.take(size), to)?;
    match count == size {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
