//! Writing files below a directory that a service may own. The agent may run as root, so it must
//! not follow a link that the service has made there: a path is opened name by name, each one
//! relative to the directory before, and none of them may be a link.
//!
//! A file is replaced as a whole: its content is written under another name, made durable and
//! renamed. Making it durable also reports a full disk while the previous file still exists.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, fchmod, fchown, fsync};
use rustix::fs::{mkdirat, open, openat2, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

/// The permissions of directories that are made for files.
const DIR_MODE: u32 = 0o755;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The path leads through a link, which the agent does not follow.
    #[error("{path} is, or leads through, a link, which is not followed; remove the link")]
    Link {
        /// The path as in the document.
        path: String,
    },
    /// There is a directory in the place of the file.
    #[error("{path} is a directory; remove it, or give the file another path")]
    Directory {
        /// The path as in the document.
        path: String,
    },
    /// Only root may give a file to another user.
    #[error("{path} cannot be given to user {uid}: the agent does not run as root")]
    Owner {
        /// The path as in the document.
        path: String,
        /// The user.
        uid: u32,
    },
    /// An operation failed.
    #[error("cannot write {path}")]
    Io {
        /// The path as in the document.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The attributes of a file to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    /// Its permission bits.
    pub(crate) mode: u32,
    /// Its owner; `None` leaves it to the agent's user.
    pub(crate) owner: Option<(Uid, Gid)>,
}

/// A directory below which files are written.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// Opens the directory, which must not be a link.
    pub(crate) fn open(dir: &Path) -> io::Result<Tree> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Tree { root: open(dir, flags, Mode::empty())? })
    }

    /// Replaces the file at `path`, which is relative and has no `.` or `..`. Directories that do
    /// not exist are made, with the same owner.
    pub(crate) fn write(
        &self,
        path: &str,
        attributes: Attributes,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let failed = |error: Errno| explain(path, attributes, error);
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut dir = self.root.try_clone().map_err(|source| io_error(path, source))?;
        for name in dirs.split('/').filter(|name| !name.is_empty()) {
            dir = enter(&dir, name, attributes.owner).map_err(failed)?;
        }
        let new = format!(".{name}.muster-new");
        let written = replace(&dir, &new, name, attributes, content);
        written.map_err(|error| {
            // The cause is reported; the remains are removed by the next attempt at the latest.
            let _ = unlinkat(&dir, &new, AtFlags::empty());
            match Errno::from_io_error(&error) {
                Some(errno) => failed(errno),
                None => io_error(path, error),
            }
        })
    }
}

/// Opens the directory `name` in `dir`, and makes it if there is none.
fn enter(dir: &OwnedFd, name: &str, owner: Option<(Uid, Gid)>) -> Result<OwnedFd, Errno> {
    let is_new = match mkdirat(dir, name, Mode::from_raw_mode(DIR_MODE)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inner = openat2(dir, name, flags, Mode::empty(), no_links())?;
    if is_new {
        fchmod(&inner, Mode::from_raw_mode(DIR_MODE))?;
        if let Some((uid, gid)) = owner {
            fchown(&inner, Some(uid), Some(gid))?;
        }
    }
    Ok(inner)
}

fn replace(
    dir: &OwnedFd,
    new: &str,
    name: &str,
    attributes: Attributes,
    content: &mut dyn Read,
) -> io::Result<()> {
    // The remains of an attempt that was interrupted.
    match unlinkat(dir, new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(openat2(dir, new, flags, Mode::RUSR | Mode::WUSR, no_links())?);
    io::copy(content, &mut file)?;
    // A change of the owner would clear bits of the mode.
    if let Some((uid, gid)) = attributes.owner {
        fchown(&file, Some(uid), Some(gid))?;
    }
    fchmod(&file, Mode::from_raw_mode(attributes.mode))?;
    fsync(&file)?;
    renameat(dir, new, dir, name)?;
    Ok(())
}

fn no_links() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

fn explain(path: &str, attributes: Attributes, error: Errno) -> Error {
    let path = path.to_string();
    match (error, attributes.owner) {
        // A link in the place of a directory is not a directory either.
        (Errno::LOOP | Errno::NOTDIR, _) => Error::Link { path },
        (Errno::ISDIR, _) => Error::Directory { path },
        (Errno::PERM, Some((uid, _))) => Error::Owner { path, uid: uid.as_raw() },
        (error, _) => io_error(&path, error.into()),
    }
}

fn io_error(path: &str, source: io::Error) -> Error {
    Error::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    const PLAIN: Attributes = Attributes { mode: 0o640, owner: None };

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn a_file_is_written_with_its_directories_and_its_mode() {
        let (dir, tree) = tree();
        for content in ["one", "another"] {
            tree.write("etc/app/a.conf", PLAIN, &mut content.as_bytes()).unwrap();
            let path = dir.path().join("etc/app/a.conf");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        }
        let names = fs::read_dir(dir.path().join("etc/app")).unwrap();
        assert_eq!(names.count(), 1, "nothing else is left");
    }

    #[test]
    fn a_reader_keeps_the_file_that_it_has_opened() {
        let (dir, tree) = tree();
        tree.write("a", PLAIN, &mut &b"one"[..]).unwrap();
        let before = fs::metadata(dir.path().join("a")).unwrap().ino();
        let mut open = File::open(dir.path().join("a")).unwrap();
        tree.write("a", PLAIN, &mut &b"two"[..]).unwrap();
        assert_ne!(fs::metadata(dir.path().join("a")).unwrap().ino(), before);
        assert_eq!(io::read_to_string(&mut open).unwrap(), "one");
    }

    #[test]
    fn links_of_the_service_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let (dir, tree) = tree();
        symlink(outside.path(), dir.path().join("etc")).unwrap();
        let refused = tree.write("etc/victim", PLAIN, &mut &b"x"[..]).unwrap_err();
        assert!(matches!(refused, Error::Link { .. }), "{refused}");
        // A link in the place of the file, or of the new file, is replaced.
        symlink(&victim, dir.path().join("a")).unwrap();
        symlink(&victim, dir.path().join(".a.muster-new")).unwrap();
        tree.write("a", PLAIN, &mut &b"x"[..]).unwrap();
        assert!(fs::symlink_metadata(dir.path().join("a")).unwrap().is_file());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        symlink(outside.path(), dir.path().join("link")).unwrap();
        assert!(Tree::open(&dir.path().join("link")).is_err());
    }

    #[test]
    fn a_directory_in_its_place_is_named() {
        let (dir, tree) = tree();
        fs::create_dir(dir.path().join("a")).unwrap();
        let refused = tree.write("a", PLAIN, &mut &b"x"[..]).unwrap_err();
        assert!(matches!(refused, Error::Directory { .. }), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn the_previous_file_remains_if_its_successor_cannot_be_read() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let (dir, tree) = tree();
        tree.write("a", PLAIN, &mut &b"one"[..]).unwrap();
        assert!(tree.write("a", PLAIN, &mut Broken).is_err());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }
}
