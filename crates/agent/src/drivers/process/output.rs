//! What an instance has written: the last lines, and what follows. The files of both streams are
//! apart, so what was written before is told stream by stream; what follows, as it comes.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use api::LogStream;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::rotate::{Rotating, STREAMS, dropped, numbered};
use crate::drivers::{Output, OutputQuery, Part, PartQuery};

/// How often a file that is followed is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
const CHUNK_BYTES: usize = 64 << 10;

/// Reads the output in `dir`.
pub(super) async fn read(dir: PathBuf, query: OutputQuery) -> io::Result<Output> {
    if !tokio::fs::try_exists(&dir).await? {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (sender, mut receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut streams: Vec<_> =
            wanted(query.stream).map(|name| Reader::new(&dir, name)).collect();
        let mut first = true;
        loop {
            for reader in &mut streams {
                let mut taken = std::mem::take(reader);
                let tail = query.tail.filter(|_| first);
                let to = sender.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let read = if first { taken.begin(tail, &to) } else { taken.go_on(&to) };
                    (taken, read)
                });
                let Ok((taken, outcome)) = read.await else { return };
                *reader = taken;
                match outcome {
                    Ok(true) => {}
                    // Nobody listens any more.
                    Ok(false) => return,
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            }
            first = false;
            if !query.follow || !tokio::fs::try_exists(&dir).await.unwrap_or(false) {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = sender.closed() => return,
            }
        }
    });
    Ok(Box::pin(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))))
}

/// Reads a part of a stream, and only that.
pub(super) fn part(dir: &Path, query: PartQuery, rotating: &Rotating) -> io::Result<Part> {
    let Some(stream) = query.stream.name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    if !fs::exists(dir)? {
        return Err(io::ErrorKind::NotFound.into());
    }
    let _held = rotating.lock().unwrap_or_else(PoisonError::into_inner);
    let path = dir.join(stream);
    let mut place = dropped(&path);
    let end = query.offset.saturating_add(query.length);
    let mut part = Part { offset: query.offset.max(place), ..Part::default() };
    for path in [numbered(&path, 2), numbered(&path, 1), path] {
        let Some(mut file) = open(&path)? else { continue };
        let next = place + file.metadata()?.len();
        let (from, to) = (query.offset.max(place), end.min(next));
        if from < to {
            file.seek(SeekFrom::Start(from - place))?;
            file.take(to - from).read_to_end(&mut part.bytes)?;
        }
        place = next;
    }
    part.size = place;
    Ok(part)
}

fn wanted(stream: LogStream) -> impl Iterator<Item = &'static str> {
    STREAMS.into_iter().filter(move |name| match stream {
        LogStream::All => true,
        LogStream::Stdout => *name == "stdout",
        LogStream::Stderr => *name == "stderr",
    })
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

/// A stream that is read up to some place.
#[derive(Debug, Default)]
struct Reader {
    path: PathBuf,
    /// Read up to here.
    position: u64,
    /// Which file `<stream>.1` was then: another one tells that the stream was rotated.
    rotated: Option<u64>,
}

impl Reader {
    fn new(dir: &Path, stream: &str) -> Reader {
        Reader { path: dir.join(stream), ..Reader::default() }
    }

    /// Sends what is there: everything, or the last lines. `false` if nobody listens.
    fn begin(&mut self, tail: Option<u32>, to: &Sender) -> io::Result<bool> {
        self.rotated = inode(&numbered(&self.path, 1));
        let older = [2, 1].map(|number| numbered(&self.path, number));
        let Some(tail) = tail else {
            for path in &older {
                if !send(path, 0, to)?.1 {
                    return Ok(false);
                }
            }
            return self.send_rest(to);
        };
        let mut lines = VecDeque::new();
        let mut bytes = 0;
        for path in older.iter().chain([&self.path]) {
            bytes = last_lines(path, tail as usize, &mut lines)?;
        }
        self.position = bytes;
        for line in lines {
            if to.blocking_send(Ok(line.into())).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends what was written since. `false` if nobody listens.
    fn go_on(&mut self, to: &Sender) -> io::Result<bool> {
        let first = numbered(&self.path, 1);
        let rotated = inode(&first);
        if rotated != self.rotated {
            if !send(&first, self.position, to)?.1 {
                return Ok(false);
            }
            self.rotated = rotated;
            self.position = 0;
        } else if fs::metadata(&self.path).is_ok_and(|file| file.len() < self.position) {
            // It has just been cut; where the rest is will be known in a moment.
            return Ok(true);
        }
        self.send_rest(to)
    }

    fn send_rest(&mut self, to: &Sender) -> io::Result<bool> {
        let (position, listens) = send(&self.path, self.position, to)?;
        self.position = position;
        Ok(listens)
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a file from `position`; says up to where, and whether anybody listens.
fn send(path: &Path, position: u64, to: &Sender) -> io::Result<(u64, bool)> {
    let Some(mut file) = open(path)? else { return Ok((position, true)) };
    file.seek(SeekFrom::Start(position))?;
    let mut position = position;
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok((position, true));
        }
        chunk.truncate(count);
        position += count as u64;
        if to.blocking_send(Ok(chunk.into())).is_err() {
            return Ok((position, false));
        }
    }
}

/// Adds the lines of a file, keeping only the last `count`; says how long the file was.
fn last_lines(path: &Path, count: usize, lines: &mut VecDeque<Vec<u8>>) -> io::Result<u64> {
    let Some(file) = open(path)? else { return Ok(0) };
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
    let mut position = 0;
    loop {
        let mut line = Vec::new();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(position);
        }
        position += read as u64;
        lines.push_back(line);
        while lines.len() > count {
            lines.pop_front();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
mod tests {
    use super::super::rotate::rotate;
    use super::*;

    #[test]
    fn places_in_a_stream_do_not_shift_when_a_file_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let rotating = Rotating::default();
        let part = |offset, length| {
            let query = PartQuery { stream: LogStream::Stdout, offset, length };
            let Part { bytes, offset, size } = part(dir.path(), query, &rotating).unwrap();
            (String::from_utf8(bytes).unwrap(), offset, size)
        };
        assert_eq!(part(0, 9), (String::new(), 0, 0));
        let mut written = String::new();
        for turn in 0..6u64 {
            let text = format!("these are the bytes of turn {turn}\n");
            let mut before = fs::read_to_string(&path).unwrap_or_default();
            before.push_str(&text);
            fs::write(&path, before).unwrap();
            written.push_str(&text);
            let (size, line) = (written.len() as u64, text.len() as u64);
            // All that is kept is where it always was: in three files before the next rotation.
            let first = size.saturating_sub(3 * line);
            assert_eq!(part(first, u64::MAX), (written[first as usize..].into(), first, size));
            for (offset, length) in
                [(size - 7, 7), (size - line, 3), (size, 5), (size - line, line)]
            {
                let end = (offset + length).min(size) as usize;
                let expected = written[offset as usize..end].to_string();
                assert_eq!(part(offset, length), (expected, offset, size));
            }
            if turn > 2 {
                assert_eq!(part(first - 5, 5), (String::new(), first, size), "where to go on");
                assert_eq!(part(first - 5, 9), ("thes".into(), first, size));
            }
            rotate(&path).unwrap();
            assert_eq!(part(0, 0).2, size);
        }
    }
}
