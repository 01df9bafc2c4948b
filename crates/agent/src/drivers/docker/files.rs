//! Copying the files of a run into its container, as an archive that the daemon unpacks.
//!
//! The alternative, mounting them from the node, was rejected. A mount of a single file shows the
//! inode that it was made with, so that a file that is replaced by renaming never appears in the
//! container; and a node's paths mean nothing to a daemon that runs elsewhere, such as one whose
//! agent is in a container itself. The daemon resolves links of the image within the container.

use std::io;
use std::sync::Arc;

use bollard::query_parameters::{KillContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use model::Signal;

use super::container::signal_name;
use super::daemon::{Client, Error, WORK_LIMIT};
use super::{Core, advice};
use crate::drivers::Launch;
use crate::drivers::files::LaunchFile;

/// Copies files into a container, running or not.
pub(super) async fn copy(
    client: &Client,
    container: &str,
    files: &[LaunchFile],
    user: Option<&str>,
) -> Result<(), Error> {
    // Writing to memory does not fail, and neither does a path that a document may contain.
    let archive = archive(files, user)
        .map_err(|error| Error::Refused { status: 400, message: error.to_string() })?;
    // Without this, a file would replace a directory of the image with all that is in it.
    let options = UploadToContainerOptionsBuilder::default()
        .path("/")
        .no_overwrite_dir_non_dir("true")
        .build();
    let body = bollard::body_full(archive.into());
    client
        .call(WORK_LIMIT, client.docker().upload_to_container(container, Some(options), body))
        .await
}

/// Copies the files of a launch into its running container, and sends it `signals`.
pub(super) async fn update(
    core: Arc<Core>,
    launch: Launch,
    signals: Vec<Signal>,
) -> Result<(), String> {
    let container = core.runs().running(&launch.piece).ok_or("its container does not run")?;
    let client = core.daemon.client().await.map_err(|error| error.to_string())?;
    let user = launch.spec.container.as_ref().and_then(|container| container.user.as_deref());
    let copied = copy(&client, &container, &launch.files, user).await;
    copied.map_err(|error| advice::files(&error))?;
    for signal in signals {
        let options = KillContainerOptionsBuilder::default().signal(signal_name(signal)).build();
        let sent = client.docker().kill_container(&container, Some(options));
        let sent = client.call(WORK_LIMIT, sent).await;
        sent.map_err(|error| format!("cannot send {}: {error}", signal_name(signal)))?;
    }
    Ok(())
}

/// An archive of `files`. Those without an owner belong to `user`, if that is a number, and to root
/// otherwise.
fn archive(files: &[LaunchFile], user: Option<&str>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let (uid, gid) = file.owner.as_deref().or(user).and_then(ids).unwrap_or((0, 0));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(file.mode);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_size(file.content.len() as u64);
        archive.append_data(&mut header, file.path.trim_start_matches('/'), &*file.content)?;
    }
    archive.into_inner()
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
            content: path.to_string().into(),
        };
        let files =
            [file("/a", 0o755, None), file(&long, 0o600, Some("7")), file("/c", 0, Some("8:9"))];
        let check = |user, expected: [(u64, u64); 3]| {
            let bytes = archive(&files, user).unwrap();
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
