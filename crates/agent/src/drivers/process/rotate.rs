//! Keeps what instances write small. A stream goes straight to its file, opened for appending, so
//! the file cannot be exchanged under the writer: when it has grown too long, its content is
//! copied to `<stream>.1` (what was there becomes `<stream>.2`) and it is cut to nothing. What is
//! written in the moment between the end of the copy and the cut is lost; nothing else is. How much
//! has been dropped stands in `<stream>.dropped`, so that places in a stream do not shift.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The streams of an instance, by the names of their files.
pub(super) const STREAMS: [&str; 2] = ["stdout", "stderr"];
/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Held by whoever must see all files of a stream as they are at one time.
pub(super) type Rotating = Arc<Mutex<()>>;

/// Looks after the files of all instances below `instances_dir`, for ever.
pub(super) async fn keep_small(instances_dir: PathBuf, bytes_max: u64, rotating: Rotating) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (dir, rotating) = (instances_dir.clone(), rotating.clone());
        let looked = tokio::task::spawn_blocking(move || look(&dir, bytes_max, &rotating)).await;
        if let Ok(Err(error)) = looked {
            tracing::warn!("the logs of instances cannot be kept small: {error}");
        }
    }
}

fn look(instances_dir: &Path, bytes_max: u64, rotating: &Rotating) -> io::Result<()> {
    let entries = match fs::read_dir(instances_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let dir = entry?.path();
        for stream in STREAMS {
            let path = dir.join(stream);
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > bytes_max) {
                let _held = rotating.lock().unwrap_or_else(PoisonError::into_inner);
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
        let second = numbered(path, 2);
        if let Ok(gone) = fs::metadata(&second) {
            // Before it goes: a place may be told twice if the agent ends here, but none is lost.
            let noted = path.with_extension("noted");
            fs::write(&noted, (dropped(path) + gone.len()).to_string())?;
            fs::rename(noted, path.with_extension("dropped"))?;
        }
        fs::rename(&first, second)?;
    }
    fs::rename(new, first)
}

/// How much of a stream is no longer kept.
pub(super) fn dropped(path: &Path) -> u64 {
    let noted = fs::read_to_string(path.with_extension("dropped"));
    noted.ok().and_then(|noted| noted.parse().ok()).unwrap_or(0)
}

/// `stdout.1` for `stdout`.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
