//! The files of a launch: their content, ready to be written by a driver.

mod tree;

use bytes::Bytes;

pub(crate) use tree::{Attributes, Error, Tree};

/// A file to write before a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFile {
    /// Its path: relative to the directory of the instance for a process, absolute inside the
    /// container for a container.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner, as `user` or `user:group`; `None` means the user of the resource.
    pub owner: Option<String>,
    /// Its content.
    pub content: Bytes,
}
