//! The output of a resource: the daemon's logs of its containers, one run after the other.

use std::io;
use std::sync::Arc;

use bollard::query_parameters::{LogsOptions, LogsOptionsBuilder};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use model::InstanceResource;
use tokio::sync::mpsc;

use super::super::{Output, OutputQuery};
use super::Core;
use super::daemon::{Client, Error};

/// The maximum number of chunks that are read ahead.
const BUFFERED_MAX: usize = 64;

/// The output of a resource; see [`super::super::Driver::output`].
pub(super) async fn output(
    core: Arc<Core>,
    of: InstanceResource,
    query: OutputQuery,
) -> io::Result<Output> {
    let client = core.daemon.client().await.map_err(io::Error::other)?;
    let (sender, receiver) = mpsc::channel(BUFFERED_MAX);
    let reader = Reader { core: core.clone(), client, of, query, sender };
    core.spawn(async move {
        let sender = reader.sender.clone();
        tokio::select! {
            read = reader.read() => if let Err(error) = read {
                let _ = sender.send(Err(error)).await;
            },
            () = sender.closed() => {}
        }
    });
    let next = |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async move {
        receiver.recv().await.map(|part| (part, receiver))
    };
    Ok(Box::pin(stream::unfold(receiver, next)))
}

struct Reader {
    core: Arc<Core>,
    client: Client,
    of: InstanceResource,
    query: OutputQuery,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Reader {
    async fn read(&self) -> io::Result<()> {
        let mut changes = self.core.runs().changes();
        let containers = self.core.runs().containers(&self.of);
        let mut last_run = 0;
        if let Some(((run, newest), older)) = containers.split_last() {
            last_run = *run;
            let tail = self.read_older(older, newest).await?;
            self.pass_on(newest, self.query.follow, tail).await?;
        }
        if !self.query.follow {
            return Ok(());
        }
        loop {
            changes.borrow_and_update();
            let containers = self.core.runs().containers(&self.of);
            if let Some((run, next)) = containers.into_iter().find(|(run, _)| *run > last_run) {
                last_run = run;
                self.pass_on(&next, true, None).await?;
            } else if !self.core.runs().knows(&self.of) || changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Sends the requested part of the earlier containers' output; returns the number of last lines
    /// to read from the newest container.
    async fn read_older(&self, older: &[(u32, String)], newest: &str) -> io::Result<Option<u32>> {
        let Some(tail) = self.query.tail else {
            for (_, container) in older {
                self.pass_on(container, false, None).await?;
            }
            return Ok(None);
        };
        if older.is_empty() {
            return Ok(Some(tail));
        }
        let of_newest = self.collect(newest, tail).await?;
        let mut wanted = tail.saturating_sub(lines(&of_newest));
        let mut parts = Vec::new();
        for (_, container) in older.iter().rev() {
            if wanted == 0 {
                break;
            }
            let part = self.collect(container, wanted).await?;
            wanted = wanted.saturating_sub(lines(&part));
            parts.push(part);
        }
        for part in parts.into_iter().rev().flatten() {
            if self.sender.send(Ok(part)).await.is_err() {
                break;
            }
        }
        Ok(Some(tail))
    }

    fn options(&self, follow: bool, tail: Option<u32>) -> LogsOptions {
        let tail = tail.map_or_else(|| "all".to_string(), |lines| lines.to_string());
        LogsOptionsBuilder::default()
            .stdout(self.query.stream != api::LogStream::Stderr)
            .stderr(self.query.stream != api::LogStream::Stdout)
            .follow(follow)
            .tail(&tail)
            .build()
    }

    async fn pass_on(&self, container: &str, follow: bool, tail: Option<u32>) -> io::Result<()> {
        let options = self.options(follow, tail);
        let mut logs = self.client.docker().logs(container, Some(options));
        loop {
            let next = tokio::select! {
                next = logs.next() => next,
                () = self.client.abandoned() => {
                    let error = self.client.unavailable("the connection was lost".into());
                    return Err(io::Error::other(error));
                }
            };
            match next.transpose().map_err(|error| self.client.convert_error(error)) {
                Ok(Some(part)) => {
                    if self.sender.send(Ok(part.into_bytes())).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => return tolerate(error),
            }
        }
    }

    async fn collect(&self, container: &str, tail: u32) -> io::Result<Vec<Bytes>> {
        let options = self.options(false, Some(tail));
        let mut logs = self.client.docker().logs(container, Some(options));
        let mut parts = Vec::new();
        while let Some(part) = logs.next().await {
            match part {
                Ok(part) => parts.push(part.into_bytes()),
                Err(error) => {
                    tolerate(self.client.convert_error(error))?;
                    break;
                }
            }
        }
        Ok(parts)
    }
}

/// Treats an error as the end of the output if the container is being removed; returns any other
/// error.
fn tolerate(error: Error) -> io::Result<()> {
    match error {
        error if error.is_unknown() || error.is_conflict() => Ok(()),
        error => Err(io::Error::other(error)),
    }
}

fn lines(parts: &[Bytes]) -> u32 {
    let ends = parts.iter().filter(|part| part.ends_with(b"\n")).count();
    u32::try_from(ends).unwrap_or(u32::MAX)
}
