//! Writing files below a directory that a service may own. The agent may run as root, so it must
//! not follow a link that the service has made there: a path is opened name by name, each one
//! relative to the directory before, and none of them may be a link.
//!
//! A file is replaced as a whole: its content is written under another name, made durable and
//! renamed. Making it durable also reports a full disk while the previous file still exists.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, chownat, fchmod, fchown, fsync};
use rustix::fs::{mkdirat, open, openat2, renameat, symlinkat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::error::Error;
use super::sink::{Sink, exactly};

/// The permissions of directories that are made for files.
const DIR_MODE: u32 = 0o755;

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

    /// A sink for files of that owner; `None` leaves them to the agent's user.
    pub(crate) fn owned_by(&self, owner: Option<(Uid, Gid)>) -> OwnedTree<'_> {
        OwnedTree { tree: self, owner }
    }
}

/// A directory below which files of one owner are written. Directories that do not exist are made,
/// with the same owner.
#[derive(Debug)]
pub(crate) struct OwnedTree<'a> {
    tree: &'a Tree,
    owner: Option<(Uid, Gid)>,
}

impl OwnedTree<'_> {
    /// Opens the directory of `path`; returns it and the last name of the path.
    fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), Error> {
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut dir = self.tree.root.try_clone().map_err(|source| Error::io(path, source))?;
        for name in dirs.split('/').filter(|name| !name.is_empty()) {
            let inner = enter(&dir, name, DIR_MODE, self.owner);
            dir = inner.map_err(|error| self.explain(path, error))?;
        }
        Ok((dir, name))
    }

    /// Makes `new` by `make`, and renames it to `name`.
    fn replace(
        &self,
        path: &str,
        make: impl FnOnce(&OwnedFd, &str) -> io::Result<()>,
    ) -> Result<(), Error> {
        let (dir, name) = self.parent(path)?;
        let new = format!(".{name}.muster-new");
        // The remains of an attempt that was interrupted.
        let cleared = match unlinkat(&dir, &new, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            cleared => cleared.map_err(io::Error::from),
        };
        let made = cleared.and_then(|()| make(&dir, &new));
        let made = made.and_then(|()| Ok(renameat(&dir, &new, &dir, name)?));
        made.map_err(|error| {
            // The cause is reported; the remains are removed by the next attempt at the latest.
            let _ = unlinkat(&dir, &new, AtFlags::empty());
            match Errno::from_io_error(&error) {
                Some(errno) => self.explain(path, errno),
                None => Error::io(path, error),
            }
        })
    }

    fn explain(&self, path: &str, error: Errno) -> Error {
        let path = path.to_string();
        match (error, self.owner) {
            // A link in the place of a directory is not a directory either.
            (Errno::LOOP | Errno::NOTDIR, _) => Error::Link { path },
            (Errno::ISDIR, _) => Error::Directory { path },
            (Errno::PERM, Some((uid, _))) => Error::Owner { path, uid: uid.as_raw() },
            (error, _) => Error::io(&path, error.into()),
        }
    }
}

impl Sink for OwnedTree<'_> {
    fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        self.replace(path, |dir, new| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = openat2(dir, new, flags, Mode::RUSR | Mode::WUSR, no_links())?;
            let mut file = File::from(file);
            exactly(content, size, &mut file)?;
            // A change of the owner would clear bits of the mode.
            if let Some((uid, gid)) = self.owner {
                fchown(&file, Some(uid), Some(gid))?;
            }
            fchmod(&file, Mode::from_raw_mode(mode))?;
            Ok(fsync(&file)?)
        })
    }

    fn directory(&mut self, path: &str, mode: u32) -> Result<(), Error> {
        let (dir, name) = self.parent(path)?;
        let made = enter(&dir, name, mode, self.owner);
        made.map(drop).map_err(|error| self.explain(path, error))
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        self.replace(path, |dir, new| {
            symlinkat(target, dir, new)?;
            if let Some((uid, gid)) = self.owner {
                chownat(dir, new, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Ok(())
        })
    }

    /// Copies the file: the service may have made the target a link to a file of another user, and
    /// a second name for that file would be given away with its owner.
    fn hard_link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        let (dir, name) = self.parent(target)?;
        let opened =
            openat2(&dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), no_links());
        let mut file = File::from(opened.map_err(|error| self.explain(target, error))?);
        let found = file.metadata().map_err(|source| Error::io(target, source))?;
        self.file(path, found.mode() & 0o777, found.len(), &mut file)
    }
}

/// Opens the directory `name` in `dir`, and makes it if there is none.
fn enter(
    dir: &OwnedFd,
    name: &str,
    mode: u32,
    owner: Option<(Uid, Gid)>,
) -> Result<OwnedFd, Errno> {
    let is_new = match mkdirat(dir, name, Mode::from_raw_mode(mode)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inner = openat2(dir, name, flags, Mode::empty(), no_links())?;
    if is_new {
        if let Some((uid, gid)) = owner {
            fchown(&inner, Some(uid), Some(gid))?;
        }
        fchmod(&inner, Mode::from_raw_mode(mode))?;
    }
    Ok(inner)
}

fn no_links() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn write(tree: &Tree, path: &str, content: &str) -> Result<(), Error> {
        let size = content.len() as u64;
        tree.owned_by(None).file(path, 0o640, size, &mut content.as_bytes())
    }

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn a_file_is_written_with_its_directories_and_its_mode() {
        let (dir, tree) = tree();
        for content in ["one", "another"] {
            write(&tree, "etc/app/a.conf", content).unwrap();
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
        write(&tree, "a", "one").unwrap();
        let before = fs::metadata(dir.path().join("a")).unwrap().ino();
        let mut open = File::open(dir.path().join("a")).unwrap();
        write(&tree, "a", "two").unwrap();
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
        let refused = write(&tree, "etc/victim", "x").unwrap_err();
        assert!(matches!(refused, Error::Link { .. }), "{refused}");
        // A link in the place of the file, or of the new file, is replaced.
        symlink(&victim, dir.path().join("a")).unwrap();
        symlink(&victim, dir.path().join(".a.muster-new")).unwrap();
        write(&tree, "a", "x").unwrap();
        assert!(fs::symlink_metadata(dir.path().join("a")).unwrap().is_file());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        symlink(outside.path(), dir.path().join("link")).unwrap();
        assert!(Tree::open(&dir.path().join("link")).is_err());
    }

    #[test]
    fn a_directory_in_its_place_is_named() {
        let (dir, tree) = tree();
        fs::create_dir(dir.path().join("a")).unwrap();
        let refused = write(&tree, "a", "x").unwrap_err();
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
        write(&tree, "a", "one").unwrap();
        assert!(tree.owned_by(None).file("a", 0o640, 1, &mut Broken).is_err());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }
}
