//! Limits the size of output streams. A stream is written directly to its file, opened for
//! appending, so the file cannot be replaced under the writer: when it has grown too long, its end
//! is copied to a file next to it, and the file is truncated. The copy is named after the position
//! in the stream at which it begins, `stdout.1048576`, and the file itself begins where the last
//! copy ends. Positions in a stream therefore stay valid for the life of the instance, even when
//! earlier output is dropped.
//!
//! Logs must not fill a disk permanently. At most the kept size is copied, and as much again if it
//! is written meanwhile. Output that cannot be copied, because the disk is full or the writer is
//! faster, is lost, and an empty copy marks the position at which the stream continues. Output
//! written between the last check of the length and the truncation is lost and not counted.
//!
//! A copy is named `stdout.1048576.new` until the file is truncated. If an agent is killed in
//! between, the next one completes the rotation. Only if it is killed between the truncation and
//! the creation of the empty copy that marks a gap, the gap is not recorded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The streams of a resource, by the names of their files.
pub(super) const STREAMS: [&str; 2] = ["stdout", "stderr"];
/// How often the sizes of the files are checked.
const INTERVAL: Duration = Duration::from_secs(1);
/// The maximum number of copies that are kept of a stream.
const COPIES: usize = 2;
/// The extension of a copy whose content may still be in the file as well.
const NEW: &str = "new";

/// Locked to obtain a consistent view of all files of a stream.
pub(super) type Rotating = Arc<Mutex<()>>;

/// A file that holds a part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) path: PathBuf,
    /// The position in the stream at which it begins.
    pub(super) begins: u64,
    pub(super) length: u64,
}

impl Piece {
    pub(super) fn end(&self) -> u64 {
        self.begins + self.length
    }
}

/// Rotates the streams of all resources below `logs_dir`, forever.
pub(super) async fn keep_small(logs_dir: PathBuf, bytes_max: u64, rotating: Rotating) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut first = true;
    loop {
        ticks.tick().await;
        let (dir, rotating) = (logs_dir.clone(), rotating.clone());
        let looked =
            tokio::task::spawn_blocking(move || check_all(&dir, bytes_max, first, &rotating));
        if let Ok(Err(error)) = looked.await {
            tracing::warn!("the logs of instances cannot be kept small: {error}");
        }
        first = false;
    }
}

/// Checks all streams once. A failure of one stream does not affect the others.
fn check_all(logs_dir: &Path, bytes_max: u64, first: bool, rotating: &Rotating) -> io::Result<()> {
    let entries = match fs::read_dir(logs_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for dir in entries.flatten().map(|entry| entry.path()) {
        for path in STREAMS.map(|stream| dir.join(stream)) {
            // A file that does not exist has not been written yet, or was just removed.
            let Ok(length) = fs::metadata(&path).map(|metadata| metadata.len()) else { continue };
            let is_long = length > bytes_max;
            if !is_long && !first {
                continue;
            }
            let _held = rotating.lock().unwrap_or_else(PoisonError::into_inner);
            let done = if is_long { rotate(&path, bytes_max) } else { finish(&path) };
            match done {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("{} cannot be kept: {error}", path.display());
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The files that hold a stream, oldest first; the last is the one that is written to.
pub(super) fn pieces(path: &Path) -> io::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for (copy, name) in sibling_files(path)? {
        if let Ok(begins) = name.parse() {
            let length = fs::metadata(&copy)?.len();
            pieces.push(Piece { path: copy, begins, length });
        }
    }
    pieces.sort_unstable_by_key(|piece| piece.begins);
    let begins = pieces.last().map_or(0, Piece::end);
    let length = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        metadata => metadata?.len(),
    };
    pieces.push(Piece { path: path.into(), begins, length });
    Ok(pieces)
}

/// Moves the content out of a stream's file, keeping at most its last `bytes_max` bytes.
pub(super) fn rotate(path: &Path, bytes_max: u64) -> io::Result<()> {
    finish(path)?;
    let mut from = OpenOptions::new().read(true).write(true).open(path)?;
    let pieces = pieces(path)?;
    let (copies, begins) = match pieces.split_last() {
        Some((own, copies)) => (copies, own.begins),
        None => return Ok(()),
    };
    let skipped = from.metadata()?.len().saturating_sub(bytes_max);
    let copy = with(path, begins + skipped);
    let new = copy.with_added_extension(NEW);
    from.seek(SeekFrom::Start(skipped))?;
    // Copies up to the end, including output appended meanwhile, unless that exceeds `bytes_max`.
    let copied = make(&new).and_then(|mut to| io::copy(&mut (&from).take(2 * bytes_max), &mut to));
    if copied.is_err() {
        let _ = fs::remove_file(&new);
    }
    let end = from.metadata()?.len();
    from.set_len(0)?;
    if let Ok(copied) = copied {
        fs::rename(new, &copy)?;
        if skipped + copied < end {
            make(&with(path, begins + end))?;
        }
    } else {
        make(&with(path, begins + end))?;
    }
    // The new copy may have replaced an empty one.
    let others = copies.iter().filter(|old| old.path != copy);
    let (full, empty): (Vec<_>, Vec<_>) = others.partition(|old| old.length > 0);
    let spare = COPIES - usize::from(copied.is_ok());
    for old in empty.into_iter().chain(full.into_iter().rev().skip(spare)) {
        fs::remove_file(&old.path)?;
    }
    copied.map(|_| ())
}

/// Completes a rotation that was interrupted: a copy whose content is still in the file is removed,
/// and one whose content is not is kept.
fn finish(path: &Path) -> io::Result<()> {
    for (new, name) in sibling_files(path)? {
        let begins = name.strip_suffix(NEW).and_then(|name| name.strip_suffix('.')?.parse().ok());
        let Some(begins) = begins else { continue };
        let own = pieces(path)?.pop().map_or(0, |own| own.begins);
        if holds(path, u64::saturating_sub(begins, own), &new)? {
            fs::remove_file(new)?;
        } else {
            fs::rename(new, with(path, begins))?;
        }
    }
    Ok(())
}

/// Whether a file contains the content of `copy` at `place`.
fn holds(path: &Path, place: u64, copy: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(place))?;
    let mut bytes = BufReader::new(file).bytes();
    for byte in BufReader::new(File::open(copy)?).bytes() {
        if bytes.next().transpose()? != Some(byte?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The other files of a stream, each with the part of its name that follows the stream's.
fn sibling_files(path: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let (Some(dir), Some(stream)) = (path.parent(), path.file_name()) else { return Ok(vec![]) };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.to_str().zip(stream.to_str()).and_then(|(name, stream)| {
            name.strip_prefix(stream).and_then(|rest| rest.strip_prefix('.'))
        });
        if let Some(rest) = rest {
            files.push((entry.path(), rest.into()));
        }
    }
    Ok(files)
}

/// `stdout.7` for `stdout`.
fn with(path: &Path, begins: u64) -> PathBuf {
    path.with_added_extension(begins.to_string())
}

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A stream, and everything that was ever written to it.
    struct Stream {
        path: PathBuf,
        written: Vec<u8>,
        lines: u32,
    }

    impl Stream {
        fn new(dir: &Path) -> Stream {
            let path = dir.join("stdout");
            make(&path).unwrap();
            Stream { path, written: Vec::new(), lines: 0 }
        }

        fn write(&mut self, length: usize) {
            let mut bytes = Vec::new();
            while bytes.len() < length {
                self.lines += 1;
                writeln!(bytes, "line {}", self.lines).unwrap();
            }
            bytes.truncate(length);
            let mut file = OpenOptions::new().append(true).open(&self.path).unwrap();
            file.write_all(&bytes).unwrap();
            self.written.extend(bytes);
        }

        /// The begin and end of each piece; checks that each holds the output at its position.
        fn pieces(&self) -> Vec<(u64, u64)> {
            let pieces = pieces(&self.path).unwrap();
            assert_eq!(pieces.last().unwrap().end(), self.written.len() as u64);
            let places = pieces.iter().map(|piece| {
                let (begins, end) = (piece.begins, piece.end());
                let expected = &self.written[begins as usize..end as usize];
                assert!(fs::read(&piece.path).unwrap() == expected, "{begins}..{end}");
                (begins, end)
            });
            places.collect()
        }
    }

    #[test]
    fn only_the_end_of_an_oversized_file_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let mut stream = Stream::new(dir.path());
        stream.write(150);
        rotate(&stream.path, 100).unwrap();
        assert_eq!(stream.pieces(), [(50, 150), (150, 150)]);
        stream.write(1000);
        rotate(&stream.path, 100).unwrap();
        stream.write(20);
        assert_eq!(stream.pieces(), [(50, 150), (1050, 1150), (1150, 1170)]);
        stream.write(100);
        rotate(&stream.path, 100).unwrap();
        assert_eq!(stream.pieces(), [(1050, 1150), (1170, 1270), (1270, 1270)]);
    }

    #[test]
    fn an_interrupted_rotation_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let mut stream = Stream::new(dir.path());
        stream.write(150);
        rotate(&stream.path, 100).unwrap();
        stream.write(120);
        // Killed while it copied, and after it had copied everything.
        for length in [30, 100] {
            let copy = &stream.written[170..170 + length];
            fs::write(dir.path().join("stdout.170.new"), copy).unwrap();
            finish(&stream.path).unwrap();
            assert_eq!(stream.pieces(), [(50, 150), (150, 270)]);
        }
        // Killed after the truncation.
        fs::write(dir.path().join("stdout.170.new"), &stream.written[170..270]).unwrap();
        make(&stream.path).unwrap();
        stream.write(300);
        finish(&stream.path).unwrap();
        assert_eq!(stream.pieces(), [(50, 150), (170, 270), (270, 570)]);
    }

    #[test]
    fn rotation_frees_a_full_disk_and_keeps_offsets() {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("logs");
        fs::create_dir(&disk).unwrap();
        if mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=256k")).is_err() {
            return;
        }
        struct Mounted(PathBuf);
        impl Drop for Mounted {
            fn drop(&mut self) {
                let _ = unmount(&self.0, UnmountFlags::DETACH);
            }
        }
        let _mounted = Mounted(disk.clone());
        let instances = ["a", "b"].map(|name| disk.join(name));
        let mut streams = instances.each_ref().map(|dir| {
            fs::create_dir(dir).unwrap();
            Stream::new(dir)
        });
        let [a, b] = &mut streams;
        a.write(60 << 10);
        b.write(40 << 10);
        // A failure of one stream must not affect the others.
        fs::create_dir_all(disk.join("c/stdout.0.new")).unwrap();
        fs::write(disk.join("c/stdout"), [0; 32 << 10]).unwrap();
        let check_all = || check_all(&disk, 30 << 10, false, &Rotating::default()).unwrap();
        check_all();
        assert_eq!(a.pieces(), [(30 << 10, 60 << 10), (60 << 10, 60 << 10)]);
        // The disk is full: nothing can be copied, but both files are truncated and can be written
        // again.
        a.write(80 << 10);
        b.write(80 << 10);
        let rest = std::iter::repeat_n(0, 256 << 10).collect::<Vec<u8>>();
        assert!(fs::write(disk.join("rest"), rest).is_err(), "the disk is full");
        assert!(rotate(&a.path, 30 << 10).is_err());
        let end = 140 << 10;
        assert_eq!(a.pieces(), [(30 << 10, 60 << 10), (end, end), (end, end)]);
        check_all();
        assert!(b.pieces().last().is_some_and(|own| own.0 == own.1), "it was cut");
        a.write(20 << 10);
        b.write(20 << 10);
        a.pieces();
        b.pieces();
    }
}
