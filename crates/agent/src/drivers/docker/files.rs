//! Copying the files of a run into its container, as an archive that the daemon unpacks.
//!
//! The alternative, mounting them from the node, was rejected. A mount of a single file shows the
//! inode that it was made with, so that a file that is replaced by renaming never appears in the
//! container; and a node's paths mean nothing to a daemon that runs elsewhere, such as one whose
//! agent is in a container itself. The daemon resolves links of the image within the container.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use bollard::query_parameters::{KillContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use model::Signal;
use rustix::fs::{Mode, OFlags, open};
use tokio_util::io::ReaderStream;

use super::container::signal_name;
use super::daemon::{Client, WORK_TIMEOUT};
use super::{Core, advice, daemon};
use crate::drivers::Launch;
use crate::drivers::files::{Content, Error as FileError, LaunchFile, Sink, write};

/// Why files cannot be copied into a container.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The daemon rejects them, or is unreachable.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    /// They cannot be packed into an archive.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Error {
    /// The cause, and the remedy.
    pub(super) fn message(&self) -> String {
        match self {
            Error::Daemon(error) => advice::files(error),
            Error::File(error) => api::error_chain(error),
        }
    }

    pub(super) fn is_unavailable(&self) -> bool {
        matches!(self, Error::Daemon(error) if error.is_unavailable())
    }
}

/// Copies the files of a launch into a container, running or not.
pub(super) async fn copy(client: &Client, container: &str, launch: &Launch) -> Result<(), Error> {
    // Without this, a file would replace a directory of the image with all that is in it.
    let options = UploadToContainerOptionsBuilder::default()
        .path("/")
        .no_overwrite_dir_non_dir("true")
        .build();
    let from = launch.clone();
    let packed = tokio::task::spawn_blocking(move || pack(&from)).await;
    let packed = packed.unwrap_or_else(|error| Err(FileError::io("/", io::Error::other(error))));
    let body = match packed? {
        Packed::Bytes(bytes) => bollard::body_full(bytes.into()),
        Packed::File(file) => {
            let stream = ReaderStream::new(tokio::fs::File::from_std(file));
            bollard::body_try_stream(stream)
        }
    };
    let copied = client.docker().upload_to_container(container, Some(options), body);
    Ok(client.call(WORK_TIMEOUT, copied).await?)
}

/// An archive for the daemon.
enum Packed {
    Bytes(Vec<u8>),
    /// For files that may be large.
    File(File),
}

fn pack(launch: &Launch) -> Result<Packed, FileError> {
    let user = launch.spec.container.as_ref().and_then(|container| container.user.as_deref());
    let is_small = |file: &LaunchFile| matches!(file.content, Content::Bytes(_));
    if launch.files.iter().all(is_small) {
        return archive(&launch.files, user, Vec::new()).map(Packed::Bytes);
    }
    let failed = |source| FileError::io("/", source);
    // A file without a name, which disappears when it is closed.
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = open(&launch.dir, flags, Mode::RUSR | Mode::WUSR);
    let file = File::from(file.map_err(io::Error::from).map_err(failed)?);
    let mut file = archive(&launch.files, user, file)?;
    file.rewind().map_err(failed)?;
    Ok(Packed::File(file))
}

/// Copies the files of a launch into its running container, and sends it `signals`.
pub(super) async fn update(
    core: Arc<Core>,
    launch: Launch,
    signals: Vec<Signal>,
) -> Result<(), String> {
    let container = core.runs().running(&launch.piece).ok_or("its container does not run")?;
    let client = core.daemon.client().await.map_err(|error| error.to_string())?;
    let copied = copy(&client, &container, &launch).await;
    copied.map_err(|error| error.message())?;
    for signal in signals {
        let options = KillContainerOptionsBuilder::default().signal(signal_name(signal)).build();
        let sent = client.docker().kill_container(&container, Some(options));
        let sent = client.call(WORK_TIMEOUT, sent).await;
        sent.map_err(|error| format!("cannot send {}: {error}", signal_name(signal)))?;
    }
    Ok(())
}

/// Writes an archive of `files`. Those without an owner belong to `user`, if that is a number, and
/// to root otherwise.
fn archive<W: Write>(files: &[LaunchFile], user: Option<&str>, archive: W) -> Result<W, FileError> {
    let mut builder = tar::Builder::new(archive);
    for file in files {
        let (uid, gid) = file.owner.as_deref().or(user).and_then(ids).unwrap_or((0, 0));
        write(file, &mut Archive { builder: &mut builder, uid, gid })?;
    }
    builder.into_inner().map_err(|source| FileError::io("/", source))
}

/// An archive whose next entries have one owner.
struct Archive<'a, W: Write> {
    builder: &'a mut tar::Builder<W>,
    uid: u32,
    gid: u32,
}

impl<W: Write> Archive<'_, W> {
    fn header(&self, kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.uid.into());
        header.set_gid(self.gid.into());
        header.set_size(size);
        header
    }
}

/// The path of an entry: the daemon unpacks it in the root directory of the container.
fn entry(path: &str) -> &str {
    path.trim_start_matches('/')
}

impl<W: Write> Sink for Archive<'_, W> {
    fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), FileError> {
        let mut header = self.header(tar::EntryType::Regular, mode, size);
        let appended = self.builder.append_data(&mut header, entry(path), content.take(size));
        appended.map_err(|source| FileError::io(path, source))
    }

    fn directory(&mut self, path: &str, mode: u32) -> Result<(), FileError> {
        let mut header = self.header(tar::EntryType::Directory, mode, 0);
        let appended = self.builder.append_data(&mut header, entry(path), io::empty());
        appended.map_err(|source| FileError::io(path, source))
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), FileError> {
        let mut header = self.header(tar::EntryType::Symlink, 0o777, 0);
        let appended = self.builder.append_link(&mut header, entry(path), target);
        appended.map_err(|source| FileError::io(path, source))
    }

    fn hard_link(&mut self, path: &str, target: &str) -> Result<(), FileError> {
        let mut header = self.header(tar::EntryType::Link, 0o644, 0);
        let appended = self.builder.append_link(&mut header, entry(path), entry(target));
        appended.map_err(|source| FileError::io(path, source))
    }
}

/// The numbers in `user` or `user:group`; the group is by default the number of the user.
fn ids(owner: &str) -> Option<(u32, u32)> {
    match owner.split_once(':') {
        Some((user, group)) => Some((user.parse().ok()?, group.parse().ok()?)),
        None => owner.parse().ok().map(|id| (id, id)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_has_each_file_with_its_attributes() {
        let long = format!("/etc/{}/a", "n".repeat(200));
        let file = |path: &str, mode, owner: Option<&str>| LaunchFile {
            path: path.into(),
            mode,
            owner: owner.map(String::from),
            content: Content::Bytes(path.to_string().into()),
        };
        let files =
            [file("/a", 0o755, None), file(&long, 0o600, Some("7")), file("/c", 0, Some("8:9"))];
        let check = |user, expected: [(u64, u64); 3]| {
            let bytes = archive(&files, user, Vec::new()).unwrap();
            let mut archive = tar::Archive::new(&bytes[..]);
            let mut entries = archive.entries().unwrap().map(Result::unwrap);
            for (file, (uid, gid)) in files.iter().zip(expected) {
                let mut entry = entries.next().unwrap();
                let header = entry.header();
                assert_eq!(header.mode().unwrap(), file.mode);
                assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (uid, gid));
                assert_eq!(format!("/{}", entry.path().unwrap().display()), file.path);
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                assert_eq!(content, file.path);
            }
            assert!(entries.next().is_none());
        };
        check(None, [(0, 0), (7, 7), (8, 9)]);
        check(Some("1000"), [(1000, 1000), (7, 7), (8, 9)]);
        check(Some("www-data"), [(0, 0), (7, 7), (8, 9)]);
    }
}
