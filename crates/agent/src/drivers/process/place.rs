//! Writing the files of a process into the directory of its instance.

use std::path::Path;

use super::user;
use crate::drivers::files::{Error, LaunchFile, Tree, write};

/// Writes `files` below `dir`. `user` is the user of the process, who owns the files that have no
/// other owner.
pub(super) fn place(files: &[LaunchFile], dir: &Path, user: Option<&str>) -> Result<(), Error> {
    let dir_name = dir.to_string_lossy();
    let tree = Tree::open(dir).map_err(|source| Error::io(&dir_name, source))?;
    for file in files {
        let owner = file.owner.as_deref().or(user).map(user::look_up).transpose();
        let owner = owner
            .map_err(|message| Error::UnknownOwner { path: file.path.clone(), message })?
            .map(|user| (user.uid, user.gid));
        write(file, &mut tree.owned_by(owner))?;
    }
    Ok(())
}
