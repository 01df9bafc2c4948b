//! What an instance has written: the last lines, and what follows. The files of both streams are
//! apart, so what was written before is told stream by stream; what follows, as it comes.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::LogStream;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::rotate::{STREAMS, numbered};
use crate::drivers::{Output, OutputQuery};

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
