//! Fetching files over HTTP.
//!
//! | file | topic |
//! |---|---|
//! | `address` | the addresses from which a node does not fetch |
//! | `connection` | one request |
//! | `cache` | the downloads of the node |
//! | `error` | why a file cannot be fetched |
//!
//! A download is bounded in size and time, and verified by its checksum. A document gives that
//! checksum, so a file with other content is never used. A download that was interrupted, also
//! by the end of the agent, continues where it ended.

mod address;
mod cache;
mod connection;
mod error;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_RANGE, LOCATION};
use http_body_util::BodyExt;
use model::Sha256;
use ring::digest::{self, SHA256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use url::Url;

use self::cache::Cache;
use self::connection::{Reply, request};
pub(crate) use self::error::Error;
use self::error::{MIB_MAX, REDIRECTS_MAX, shown};

/// Timeout of a download as a whole.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Timeout of the next bytes of a download.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The time between two messages about the progress of a download.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum size of all downloads that a node keeps.
const CACHE_BYTES_MAX: u64 = 4 << 30;

const MIB: u64 = 1 << 20;

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Download {
    /// Where it is.
    pub(crate) url: String,
    /// The checksum that it must have; without one it is neither verified nor kept.
    pub(crate) sha256: Option<Sha256>,
    /// Whether the node keeps it for other instances.
    pub(crate) cache: bool,
}

/// Fetches files, and keeps them for other instances of the node.
#[derive(Debug)]
pub(crate) struct Fetcher {
    cache: Cache,
    allow_local: bool,
}

/// A download in progress. The bytes so far are in its file, whose position is at their end, and in
/// its digest.
struct Partial {
    file: tokio::fs::File,
    digest: digest::Context,
    len: u64,
}

impl Fetcher {
    /// Keeps downloads in `dir`. `allow_local` allows addresses that only the node can reach.
    pub(crate) fn new(dir: PathBuf, allow_local: bool) -> Fetcher {
        Fetcher { cache: Cache::new(dir, CACHE_BYTES_MAX), allow_local }
    }

    /// Returns a file, open for reading. Calls `progress` with a message from time to time.
    pub(crate) async fn fetch(
        &self,
        download: &Download,
        progress: impl Fn(String),
    ) -> Result<Arc<File>, Error> {
        let url = parse(&download.url)?;
        let failed = |source| Error::Disk { url: shown(&url), source };
        let Some(checksum) = &download.sha256 else {
            let path = self.cache.partial(None).map_err(failed)?;
            let file = self.download(&url, None, &path, &progress).await;
            remove(&path).map_err(failed)?;
            return file.map(Arc::new);
        };
        let _lock = self.cache.lock(checksum).await;
        if let Some(file) = self.cache.get(checksum).map_err(failed)? {
            return Ok(file.into());
        }
        let path = self.cache.partial(Some(checksum)).map_err(failed)?;
        let file = self.download(&url, Some(checksum), &path, &progress).await;
        match &file {
            Ok(_) if download.cache => self.cache.keep(&path, checksum).map_err(failed)?,
            // The beginning of an interrupted download is right or is found out by its checksum.
            Err(Error::Broken { .. } | Error::Timeout { .. } | Error::Connect { .. }) => {}
            Ok(_) | Err(_) => remove(&path).map_err(failed)?,
        }
        file.map(Arc::new)
    }

    async fn download(
        &self,
        url: &Url,
        checksum: Option<&Sha256>,
        path: &Path,
        progress: &impl Fn(String),
    ) -> Result<File, Error> {
        let failed = |source| Error::Disk { url: shown(url), source };
        let path = path.to_path_buf();
        let opened = tokio::task::spawn_blocking(move || Partial::open(&path)).await;
        let opened = opened.map_err(io::Error::other).and_then(|opened| opened);
        let mut partial = opened.map_err(failed)?;
        let received = timeout(DOWNLOAD_TIMEOUT, self.receive(url, &mut partial, progress)).await;
        // What has arrived is kept for the next attempt.
        partial.file.flush().await.map_err(failed)?;
        received.map_err(|_| timed_out(url))??;
        let found = Sha256(partial.digest.finish().as_ref().try_into().unwrap_or_default());
        if let Some(expected) = checksum.filter(|expected| **expected != found) {
            let (expected, found) = (expected.to_string(), found.to_string());
            return Err(Error::Checksum { url: shown(url), expected, found });
        }
        partial.file.sync_all().await.map_err(failed)?;
        Ok(partial.file.into_std().await)
    }

    /// Appends the rest of a file to its beginning, or all of it if the server does not continue.
    async fn receive(
        &self,
        url: &Url,
        partial: &mut Partial,
        progress: &impl Fn(String),
    ) -> Result<(), Error> {
        let failed = |source| Error::Disk { url: shown(url), source };
        let mut reply = self.follow(url, partial.len).await?;
        if partial.len > 0 && !continues(&reply, partial.len) {
            partial.restart().await.map_err(failed)?;
            if reply.response.status() != StatusCode::OK {
                reply = self.follow(url, 0).await?;
            }
        }
        let status = reply.response.status();
        if status != StatusCode::OK && !continues(&reply, partial.len) {
            return Err(Error::Status { url: shown(url), status });
        }
        let Reply { response, connection: _connection } = reply;
        let mut body = response.into_body();
        let rest = hyper::body::Body::size_hint(&body).exact();
        let size = rest.map(|rest| partial.len.saturating_add(rest));
        let mut reported_at: Option<Instant> = None;
        loop {
            if size.unwrap_or(partial.len) > MIB_MAX * MIB {
                return Err(Error::TooLarge { url: shown(url) });
            }
            if reported_at.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL) {
                reported_at = Some(Instant::now());
                progress(message(url, partial.len, size));
            }
            let frame = timeout(IDLE_TIMEOUT, body.frame()).await.map_err(|_| timed_out(url))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|source| Error::Broken { url: shown(url), source })?;
            if let Some(bytes) = frame.data_ref() {
                partial.append(bytes).await.map_err(failed)?;
            }
        }
    }

    /// Requests a URL, and those that it is redirected to.
    async fn follow(&self, url: &Url, offset: u64) -> Result<Reply, Error> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let reply = request(&at, offset, self.allow_local).await?;
            let headers = reply.response.headers();
            let location = headers.get(LOCATION).map(|location| location.as_bytes().to_vec());
            match location.filter(|_| reply.response.status().is_redirection()) {
                Some(location) => at = redirected(&at, &String::from_utf8_lossy(&location))?,
                None => return Ok(reply),
            }
        }
        Err(Error::Redirects { url: shown(url) })
    }
}

impl Partial {
    /// Opens a download, and reads what it has already.
    fn open(path: &Path) -> io::Result<Partial> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        let mut digest = digest::Context::new(&SHA256);
        let (mut len, mut buffer) = (0, vec![0; 64 << 10]);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => {
                    digest.update(&buffer[..count]);
                    len += count as u64;
                }
            }
        }
        Ok(Partial { file: file.into(), digest, len })
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0).await?;
        self.file.rewind().await?;
        self.digest = digest::Context::new(&SHA256);
        self.len = 0;
        Ok(())
    }

    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await?;
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// Whether a response has the bytes from `offset` on.
fn continues(reply: &Reply, offset: u64) -> bool {
    let range = reply.response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let expected = format!("bytes {offset}-");
    reply.response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&expected))
}

fn parse(text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|source| Error::Url { text: text.into(), source })?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(Error::Scheme { url: shown(&url), to: shown(&url) }),
    }
}

/// The target of a redirect. It must not leave a connection that others cannot read.
fn redirected(from: &Url, location: &str) -> Result<Url, Error> {
    let to = from.join(location);
    let to = to.map_err(|source| Error::Url { text: location.into(), source })?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        _ => Err(Error::Scheme { url: shown(from), to: shown(&to) }),
    }
}

fn timed_out(url: &Url) -> Error {
    Error::Timeout { url: shown(url), doing: "downloading" }
}

fn message(url: &Url, len: u64, size: Option<u64>) -> String {
    let url = shown(url);
    match size {
        Some(size) => format!("fetching {url}: {} of {} MiB", len / MIB, size.div_ceil(MIB)),
        None => format!("fetching {url}: {} MiB", len / MIB),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
