//! Keeps what instances write small. A stream goes straight to its file, opened for appending, so
//! the file cannot be exchanged under the writer: when it has grown too long, its content is
//! copied to `<stream>.1` (what was there becomes `<stream>.2`) and it is cut to nothing. What is
//! written in the moment between the end of the copy and the cut is lost; nothing else is.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The streams of an instance, by the names of their files.
pub(super) const STREAMS: [&str; 2] = ["stdout", "stderr"];
/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks after the files of all instances below `instances_dir`, for ever.
pub(super) async fn keep_small(instances_dir: PathBuf, bytes_max: u64) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let dir = instances_dir.clone();
        let looked = tokio::task::spawn_blocking(move || look(&dir, bytes_max)).await;
        if let Ok(Err(error)) = looked {
            tracing::warn!("the logs of instances cannot be kept small: {error}");
        }
    }
}

fn look(instances_dir: &Path, bytes_max: u64) -> io::Result<()> {
    let entries = match fs::read_dir(instances_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let dir = entry?.path();
        for stream in STREAMS {
            let path = dir.join(stream);
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > bytes_max) {
                rotate(&path)?;
            }
        }
    }
    Ok(())
}

/// Moves the content of a stream's file to the file beside it. That file appears once the
/// stream's own has been cut, so who follows knows what to read on.
pub(super) fn rotate(path: &Path) -> io::Result<()> {
    let (first, new) = (numbered(path, 1), path.with_extension("new"));
    let mut from = OpenOptions::new().read(true).write(true).open(path)?;
    let mut to = File::create(&new)?;
    // Ends when it has read up to the end, whatever was appended meanwhile; at once after that
    // the file is cut.
    io::copy(&mut from, &mut to)?;
    from.set_len(0)?;
    if first.exists() {
        fs::rename(&first, numbered(path, 2))?;
    }
    fs::rename(new, first)
}

/// `stdout.1` for `stdout`.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
