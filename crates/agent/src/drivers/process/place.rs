//! Writing the files of a process into the directory of its instance.

use std::io;
use std::path::{Path, PathBuf};

use super::user;
use crate::drivers::files::{self, Attributes, LaunchFile, Tree};

/// Why the files of a process cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The directory of the instance cannot be opened.
    #[error("cannot open {}", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The owner of a file does not exist.
    #[error("{path}: {message}")]
    Owner {
        /// The path as in the document.
        path: String,
        /// Which user or group there is not.
        message: String,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] files::Error),
}

/// Writes `files` below `dir`. `user` is the user of the process, who owns the files that have no
/// other owner.
pub(super) fn place(files: &[LaunchFile], dir: &Path, user: Option<&str>) -> Result<(), Error> {
    let tree = Tree::open(dir).map_err(|source| Error::Dir { dir: dir.into(), source })?;
    for file in files {
        let owner = file.owner.as_deref().or(user).map(user::look_up).transpose();
        let owner = owner.map_err(|message| Error::Owner { path: file.path.clone(), message })?;
        let owner = owner.map(|user| (user.uid, user.gid));
        let attributes = Attributes { mode: file.mode, owner };
        tree.write(&file.path, attributes, &mut file.content.as_ref())?;
    }
    Ok(())
}
