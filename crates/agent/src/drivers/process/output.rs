//! Reading the output of a resource: the last lines, and new output as it is written. The two
//! streams are separate files, so earlier output is returned stream by stream.
//!
//! Everything is read by its position in the stream, so it does not matter which file holds it at
//! the time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use api::LogStream;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::rotate::{Piece, Rotating, pieces};
use crate::drivers::{Output, OutputQuery, Part, PartQuery};

/// The polling interval of a stream that is followed.
const INTERVAL: Duration = Duration::from_millis(100);
const CHUNK_BYTES: u64 = 64 << 10;

/// Reads the output in `dir`.
pub(super) async fn read(
    dir: PathBuf,
    query: OutputQuery,
    rotating: Rotating,
) -> io::Result<Output> {
    if !tokio::fs::try_exists(&dir).await? {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (sender, mut receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut streams: Vec<_> = wanted(query.stream).map(|stream| (stream, None)).collect();
        loop {
            for (stream, place) in &mut streams {
                let reader = Reader { dir: &dir, stream: *stream, rotating: &rotating };
                match reader.send(*place, query.tail, &sender).await {
                    Ok(reached @ Some(_)) => *place = reached,
                    // The reader is gone.
                    Ok(None) => return,
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            }
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

/// Reads only a part of a stream.
pub(super) fn part(dir: &Path, query: PartQuery, rotating: &Rotating) -> io::Result<Part> {
    let Some(stream) = query.stream.name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let _held = rotating.lock().unwrap_or_else(PoisonError::into_inner);
    let pieces = pieces(&dir.join(stream))?;
    let PartQuery { offset, length, .. } = query;
    let end = offset.saturating_add(length);
    // If the requested position is no longer kept, the next position that is kept is used.
    let begins = pieces.iter().find(|piece| offset < piece.end());
    let begins = begins.map_or(offset, |piece| offset.max(piece.begins));
    let mut part = Part { offset: begins, ..Part::default() };
    for piece in pieces {
        let from = begins + part.bytes.len() as u64;
        let to = end.min(piece.end());
        if piece.begins <= from && from < to {
            let mut file = File::open(&piece.path)?;
            file.seek(SeekFrom::Start(from - piece.begins))?;
            file.take(to - from).read_to_end(&mut part.bytes)?;
        }
        part.size = piece.end();
    }
    Ok(part)
}

fn wanted(stream: LogStream) -> impl Iterator<Item = LogStream> {
    let each = [LogStream::Stdout, LogStream::Stderr].into_iter();
    each.filter(move |one| stream == LogStream::All || stream == *one)
}

/// Reads a stream in chunks, so that rotation is blocked only for a moment at a time.
struct Reader<'a> {
    dir: &'a Path,
    stream: LogStream,
    rotating: &'a Rotating,
}

impl Reader<'_> {
    /// Sends the output from `place`, or, without one, the last lines or everything; returns the
    /// position that was reached. Returns `None` if the receiver is gone.
    async fn send(
        &self,
        place: Option<u64>,
        tail: Option<u32>,
        to: &mpsc::Sender<io::Result<Bytes>>,
    ) -> io::Result<Option<u64>> {
        let mut place = match (place, tail) {
            (Some(place), _) => place,
            (None, None) => 0,
            (None, Some(tail)) => self.last_lines(tail).await?,
        };
        let end = self.part(place, 0).await?.size;
        while place < end {
            let Part { bytes, offset, .. } = self.part(place, CHUNK_BYTES.min(end - place)).await?;
            let reached = offset + bytes.len() as u64;
            if reached == place {
                break;
            }
            place = reached;
            if !bytes.is_empty() && to.send(Ok(bytes.into())).await.is_err() {
                return Ok(None);
            }
        }
        Ok(Some(place))
    }

    async fn part(&self, offset: u64, length: u64) -> io::Result<Part> {
        let query = PartQuery { stream: self.stream, offset, length };
        let (dir, rotating) = (self.dir.to_path_buf(), self.rotating.clone());
        let part = tokio::task::spawn_blocking(move || part(&dir, query, &rotating)).await;
        match part.unwrap_or_else(|error| Err(io::Error::other(error))) {
            // The stream was removed with its instance, so there is no further output.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Part { offset, ..Part::default() })
            }
            part => part,
        }
    }

    async fn last_lines(&self, count: u32) -> io::Result<u64> {
        let path = self.dir.join(self.stream.name().unwrap_or_default());
        let rotating = self.rotating.clone();
        let found = tokio::task::spawn_blocking(move || {
            let _held = rotating.lock().unwrap_or_else(PoisonError::into_inner);
            last_lines(&pieces(&path)?, u64::from(count))
        });
        found.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// The position in the stream at which the last `count` lines begin.
fn last_lines(pieces: &[Piece], count: u64) -> io::Result<u64> {
    let size = pieces.last().map_or(0, Piece::end);
    let mut begun = 0;
    for piece in pieces.iter().rev().filter(|piece| piece.length > 0) {
        let file = File::open(&piece.path)?;
        let mut end = piece.length;
        while end > 0 {
            let begins = end.saturating_sub(CHUNK_BYTES);
            let mut chunk = vec![0; (end - begins) as usize];
            file.read_exact_at(&mut chunk, begins)?;
            for (index, byte) in chunk.iter().enumerate().rev() {
                let next = piece.begins + begins + index as u64 + 1;
                if *byte == b'\n' || next == size {
                    if begun == count {
                        return Ok(next);
                    }
                    begun += 1;
                }
            }
            end = begins;
        }
    }
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
mod tests {
    use std::fs;

    use super::super::rotate::rotate;
    use super::*;

    #[test]
    fn offsets_in_a_stream_stay_valid_when_a_file_is_dropped() {
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
            // Before the next rotation, all kept output is in three files, at its original
            // position.
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
            rotate(&path, u64::MAX / 2).unwrap();
            assert_eq!(part(0, 0).2, size);
        }
    }

    #[test]
    fn the_last_lines_are_read_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let check = |count, expected: u64| {
            assert_eq!(last_lines(&pieces(&path).unwrap(), count).unwrap(), expected, "{count}");
        };
        check(1, 0);
        fs::write(&path, "one\ntwo\nth").unwrap();
        rotate(&path, 100).unwrap();
        fs::write(&path, "ree\nfour").unwrap();
        for (count, expected) in [(0, 18), (1, 14), (2, 8), (3, 4), (4, 0), (5, 0)] {
            check(count, expected);
        }
        fs::write(&path, "ree\nfour\n").unwrap();
        for (count, expected) in [(0, 19), (1, 14), (2, 8)] {
            check(count, expected);
        }
    }

    #[tokio::test]
    async fn discarded_output_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        fs::write(&path, "gone gone kept\n").unwrap();
        rotate(&path, 5).unwrap();
        fs::write(&path, "gone too, last\n").unwrap();
        rotate(&path, 5).unwrap();
        let query = OutputQuery { stream: LogStream::All, tail: None, follow: false };
        let output = read(dir.path().into(), query, Rotating::default()).await.unwrap();
        let chunks: Vec<_> = futures_util::StreamExt::collect(output).await;
        let text: Vec<_> = chunks.into_iter().map(Result::unwrap).collect();
        assert_eq!(text.concat(), b"kept\nlast\n");
        let ask = |offset, length| {
            let query = PartQuery { stream: LogStream::Stdout, offset, length };
            let Part { bytes, offset, size } =
                part(dir.path(), query, &Rotating::default()).unwrap();
            (String::from_utf8(bytes).unwrap(), offset, size)
        };
        assert_eq!(ask(0, 100), ("kept\n".into(), 10, 30));
        assert_eq!(ask(12, 8), ("pt\n".into(), 12, 30));
        assert_eq!(ask(20, 2), (String::new(), 25, 30), "where to go on");
        assert_eq!(ask(27, 9), ("st\n".into(), 27, 30));
    }
}
