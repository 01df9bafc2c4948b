//! The files of a launch: their content, and writing them through a [`Sink`], which is the directory
//! of an instance or an archive for a container.
//!
//! | file | topic |
//! |---|---|
//! | `fetch` | content that is fetched over HTTP |
//! | `archive` | unpacking archives |
//! | `sink` | what receives files: a directory, or an archive for a container |
//! | `tree` | writing below a directory that a service may own |
//! | `error` | why files cannot be written |

mod archive;
mod error;
mod fetch;
mod sink;
mod tree;

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use archive::FileReader;
pub(crate) use error::Error;
pub(crate) use fetch::{Download, Fetcher};
pub(crate) use sink::Sink;
pub(crate) use tree::Tree;

/// A file to write, whose content may still have to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedFile {
    /// See [`LaunchFile::path`].
    pub(crate) path: String,
    /// See [`LaunchFile::mode`].
    pub(crate) mode: u32,
    /// See [`LaunchFile::owner`].
    pub(crate) owner: Option<String>,
    /// Where its content comes from.
    pub(crate) source: Source,
}

/// Where the content of a file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// From the document.
    Bytes(Bytes),
    /// From a URL; an archive is unpacked.
    Url {
        /// What to fetch.
        download: Download,
        /// Whether it is an archive.
        extract: bool,
    },
}

/// A file to write.
#[derive(Debug, Clone)]
pub struct LaunchFile {
    /// Its path: relative to the directory of the instance for a process, absolute inside the
    /// container for a container.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner, as `user` or `user:group`; `None` means the user of the resource.
    pub owner: Option<String>,
    /// Its content.
    pub content: Content,
}

/// The content of a file.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// In a file of the node.
    File(Arc<File>),
    /// In an archive, which is unpacked: the path is that of a directory.
    Archive(Arc<File>),
}

/// Fetches the content of files. Calls `progress` with a message from time to time.
pub(crate) async fn fetch(
    fetcher: &Fetcher,
    planned: Vec<PlannedFile>,
    progress: impl Fn(String),
) -> Result<Vec<LaunchFile>, Error> {
    let mut files = Vec::new();
    for PlannedFile { path, mode, owner, source } in planned {
        let content = match source {
            Source::Bytes(bytes) => Content::Bytes(bytes),
            Source::Url { download, extract } => {
                let file = fetcher.fetch(&download, &progress).await?;
                if extract { Content::Archive(file) } else { Content::File(file) }
            }
        };
        files.push(LaunchFile { path, mode, owner, content });
    }
    Ok(files)
}

/// Writes a file, or what is in its archive. Blocks.
pub(crate) fn write(file: &LaunchFile, sink: &mut dyn Sink) -> Result<(), Error> {
    let LaunchFile { path, mode, content, .. } = file;
    match content {
        Content::Bytes(bytes) => sink.file(path, *mode, bytes.len() as u64, &mut bytes.as_ref()),
        Content::File(file) => {
            let size = file.metadata().map_err(|source| Error::io(path, source))?.len();
            sink.file(path, *mode, size, &mut FileReader::new(file.clone()))
        }
        Content::Archive(file) => archive::unpack(file, path, sink),
    }
}
