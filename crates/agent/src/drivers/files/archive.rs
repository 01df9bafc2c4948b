//! Unpacking archives: tar, tar compressed by gzip, and zip, recognized by their content.
//!
//! An archive comes from outside. None of its entries may have a path outside of the directory into
//! which it is unpacked, or be a device; a link must lead to a place inside. The number of entries
//! and the size of their content are bounded, since a small archive can contain any amount.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::error::{ENTRIES_MAX, Error, MIB_MAX};
use super::sink::Sink;

/// The permission bits that an entry keeps. A service must not get a program with the rights of
/// another user.
const MODE_MASK: u32 = 0o777;
/// The permission bits that a directory has at least: its owner must be able to use it.
const DIR_MODE_MIN: u32 = 0o700;

/// A reader of a file from its beginning. It does not move the position that the file's other
/// readers share.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: Arc<File>,
    position: u64,
}

impl FileReader {
    pub(crate) fn new(file: Arc<File>) -> Self {
        Self { file, position: 0 }
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Unpacks an archive into the directory `root` of `sink`.
pub(super) fn unpack(archive: &Arc<File>, root: &str, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut start = [0; 512];
    let failed = |source| Error::Archive { path: root.into(), source };
    let count = FileReader::new(archive.clone()).read(&mut start).map_err(failed)?;
    let reader = BufReader::new(FileReader::new(archive.clone()));
    let mut unpacking = Unpacking { root, sink, entries: 0, bytes: 0 };
    match &start[..count] {
        [0x1f, 0x8b, ..] => unpacking.tar(MultiGzDecoder::new(reader)),
        start if start.get(257..262) == Some(b"ustar") => unpacking.tar(reader),
        _ => Err(Error::Format { path: root.into() }),
    }
}

struct Unpacking<'a> {
    root: &'a str,
    sink: &'a mut dyn Sink,
    entries: usize,
    bytes: u64,
}

impl Unpacking<'_> {
    fn tar(&mut self, reader: impl Read) -> Result<(), Error> {
        let root = self.root;
        let failed = |source| Error::Archive { path: root.into(), source };
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let refused = |why| Error::Entry { path: root.into(), name: name.clone(), why };
            let Some(path) = inside(&name).map_err(refused)? else { continue };
            let mode = entry.header().mode().map_err(failed)? & MODE_MASK;
            let target = entry.link_name_bytes().map(|target| target.into_owned());
            let target = target.map(|target| String::from_utf8_lossy(&target).into_owned());
            self.count()?;
            let at = join(root, &path);
            match kind {
                tar::EntryType::Directory => self.sink.directory(&at, mode | DIR_MODE_MIN)?,
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    self.file(&at, mode, entry.size(), &mut entry)?;
                }
                tar::EntryType::Symlink => {
                    let target = target.unwrap_or_default();
                    check_link(&path, &target).map_err(refused)?;
                    self.sink.link(&at, &target)?;
                }
                tar::EntryType::Link => {
                    let target = inside(&target.unwrap_or_default()).map_err(refused)?;
                    let target = target.ok_or_else(|| refused("it is a link to a directory"))?;
                    self.sink.hard_link(&at, &join(root, &target))?;
                }
                _ => return Err(refused("only files, directories and links are unpacked")),
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        at: &str,
        mode: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        // The size in a header may be a lie, but a reader returns no more than that.
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MIB_MAX << 20 {
            return Err(Error::ArchiveTooLarge { path: self.root.into() });
        }
        self.sink.file(at, mode, size, &mut content.take(size))
    }

    fn count(&mut self) -> Result<(), Error> {
        self.entries += 1;
        match self.entries > ENTRIES_MAX {
            true => Err(Error::ArchiveTooLarge { path: self.root.into() }),
            false => Ok(()),
        }
    }
}

/// The path of an entry below the directory into which it is unpacked; `None` for that directory
/// itself.
fn inside(name: &str) -> Result<Option<String>, &'static str> {
    if name.starts_with('/') {
        return Err("its path is absolute");
    }
    let names: Vec<_> = name.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.contains(&"..") {
        return Err("its path leads out of the directory");
    }
    if name.contains('\0') || name.contains(char::REPLACEMENT_CHARACTER) {
        return Err("its path is not UTF-8");
    }
    Ok((!names.is_empty()).then(|| names.join("/")))
}

/// Whether a link leads to a place inside. `..` may only stand at the beginning: behind a name it
/// would lead to the parent of whatever that name links to. The directory of the link is none, so
/// leading ones are counted against its depth.
fn check_link(path: &str, target: &str) -> Result<(), &'static str> {
    if target.starts_with('/') || target.is_empty() {
        return Err("it is a link to an absolute path");
    }
    let names: Vec<_> = target.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let ups = names.iter().take_while(|name| **name == "..").count();
    let depth = path.split('/').count() - 1;
    match ups > depth || names[ups..].contains(&"..") {
        true => Err("it is a link that leads out of the directory"),
        false => Ok(()),
    }
}

fn join(root: &str, path: &str) -> String {
    match root {
        "." => path.into(),
        root => format!("{}/{path}", root.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;

    use proptest::prelude::*;
    use tar::EntryType;

    use super::super::tree::Tree;
    use super::*;

    /// An archive with one entry of each given kind, name and link target; files contain their name.
    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, target) in entries {
            let mut header = tar::Header::new_old();
            header.set_entry_type(*kind);
            header.set_mode(0o4750);
            let content = if kind.is_file() { name.as_bytes() } else { b"" };
            header.set_size(content.len() as u64);
            // By hand: the library refuses to write what this module must refuse to read.
            let old = header.as_old_mut();
            old.name[..name.len()].copy_from_slice(name.as_bytes());
            old.linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.as_mut_bytes()[257..265].copy_from_slice(b"ustar\x0000");
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpack_into(dir: &Path, root: &str, archive: &[u8]) -> Result<(), Error> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(archive).unwrap();
        unpack(&Arc::new(file), root, &mut Tree::open(dir).unwrap().owned_by(None))
    }

    fn refused(entries: &[(EntryType, &str, &str)]) {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let error = unpack_into(&inner, ".", &archive(entries)).unwrap_err();
        assert!(matches!(error, Error::Entry { .. }), "{entries:?}: {error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{entries:?}");
    }

    #[test]
    fn an_archive_is_unpacked_with_its_directories_and_links() {
        let entries = [
            (EntryType::Directory, "./", ""),
            (EntryType::Directory, "bin/", ""),
            (EntryType::Regular, "bin/tool", ""),
            (EntryType::Regular, "lib/deep/x", ""),
            (EntryType::Symlink, "bin/link", "../lib/deep/x"),
            (EntryType::Link, "bin/hard", "bin/tool"),
        ];
        let plain = archive(&entries);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        for bytes in [plain, gzip.finish().unwrap()] {
            for root in [".", "opt/app"] {
                let dir = tempfile::tempdir().unwrap();
                unpack_into(dir.path(), root, &bytes).unwrap();
                let read = |path| fs::read_to_string(dir.path().join(root).join(path)).unwrap();
                assert_eq!(read("bin/tool"), "bin/tool");
                assert_eq!(read("bin/link"), "lib/deep/x");
                assert_eq!(read("bin/hard"), "bin/tool");
                let tool = fs::metadata(dir.path().join(root).join("bin/tool")).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::mode(&tool.permissions());
                assert_eq!(mode & 0o7777, 0o750, "no rights of another user");
            }
        }
    }

    #[test]
    fn nothing_leaves_the_directory() {
        use EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
        for name in ["/etc/x", "../x", "a/../../x", "a/.."] {
            refused(&[(Regular, name, "")]);
        }
        for (name, target) in [
            ("a", "/etc"),
            ("a", ".."),
            ("a/b", "../.."),
            ("a", "b/.."),
            ("a/b", "../c/../.."),
            ("a", ""),
        ] {
            refused(&[(Symlink, name, target)]);
        }
        for target in ["/etc/passwd", "../x", "."] {
            refused(&[(Link, "a", target)]);
        }
        for kind in [Block, Char, Fifo] {
            refused(&[(kind, "a", "")]);
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        use EntryType::{Link, Regular, Symlink};
        let (regular, symlink) = ((Regular, "b/x", ""), (Symlink, "b", "a"));
        for entries in [
            &[(Regular, "a/y", ""), symlink, regular][..],
            &[(Regular, "a/y", ""), symlink, (Link, "z", "b/y")],
        ] {
            let dir = tempfile::tempdir().unwrap();
            let error = unpack_into(dir.path(), ".", &archive(entries)).unwrap_err();
            assert!(matches!(error, Error::Link { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_no_archive_or_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let check = |bytes: &[u8]| unpack_into(dir.path(), ".", bytes).unwrap_err();
        assert!(matches!(check(b"PK\x03\x04"), Error::Format { .. }));
        assert!(matches!(check(b""), Error::Format { .. }));
        assert!(matches!(check(&[0x1f, 0x8b, 0]), Error::Archive { .. }));
        let whole = archive(&[(EntryType::Regular, "a", ""), (EntryType::Regular, "b", "")]);
        assert!(unpack_into(dir.path(), ".", &whole[..512]).is_err());
    }

    #[test]
    fn an_archive_is_bounded_by_what_its_headers_say() {
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size((MIB_MAX << 20) + 1);
        header.set_mode(0o644);
        header.set_cksum();
        let dir = tempfile::tempdir().unwrap();
        let error = unpack_into(dir.path(), ".", header.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::ArchiveTooLarge { .. }), "{error}");
    }

    proptest! {
        /// Whatever an archive contains, nothing appears beside the directory, and no link in it
        /// resolves to a place outside.
        #[test]
        fn no_archive_leaves_its_directory(
            entries in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link,
                    ]),
                    names(),
                    names(),
                ),
                1..6,
            )
        ) {
            let dir = tempfile::tempdir().unwrap();
            let inner = dir.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let entries: Vec<_> =
                entries.iter().map(|(kind, name, target)| (*kind, &**name, &**target)).collect();
            let _ = unpack_into(&inner, ".", &archive(&entries));
            prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            let inner = fs::canonicalize(&inner).unwrap();
            let mut rest = vec![inner.clone()];
            while let Some(at) = rest.pop() {
                for entry in fs::read_dir(&at).unwrap().flatten() {
                    if entry.file_type().unwrap().is_dir() {
                        rest.push(entry.path());
                    } else if let Ok(real) = fs::canonicalize(entry.path()) {
                        prop_assert!(real.starts_with(&inner), "{entry:?} is {real:?}");
                    }
                }
            }
        }
    }

    fn names() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["a", "b", "..", ".", "", "c"]);
        prop::collection::vec(name, 0..4).prop_map(|names| names.join("/"))
    }
}
