//! What touches processes, containers, disks and addresses. Nothing else in Muster does.
//!
//! A driver runs instances of one kind. Its methods return at once; what comes of them is told as
//! a [`Told`] on the agent's channel, so a slow or absent daemon never blocks the agent. A driver
//! keeps no wishes: it starts, stops and tells; the core decides.

pub mod docker;
pub mod process;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use model::{CommandLine, Exit, InstanceId, Signal, Spec, Timestamp};

/// The drivers there are. An instance belongs to one of them all its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Plain processes.
    Process,
    /// Containers of the Docker daemon.
    Docker,
}

impl Kind {
    /// The driver that runs instances of `spec`.
    pub fn of(spec: &Spec) -> Kind {
        if spec.container.is_some() { Kind::Docker } else { Kind::Process }
    }

    /// The capability by which a node says that it has this driver.
    pub fn capability(self) -> &'static str {
        match self {
            Kind::Process => "process",
            Kind::Docker => "docker",
        }
    }
}

/// One start of one instance.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The instance.
    pub instance: InstanceId,
    /// Its nth start in place, from 1.
    pub run: u32,
    /// What to run.
    pub spec: Arc<Spec>,
    /// Its ports on the node, in the order of the spec's ports.
    pub ports: Vec<u16>,
    /// The whole environment of the instance, Muster's own variables included.
    pub env: Vec<(String, String)>,
    /// The instance's own directory: exists, survives restarts in place, belongs to its user.
    pub dir: PathBuf,
}

/// A run that a driver found when the agent started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The instance.
    pub instance: InstanceId,
    /// Its nth start in place.
    pub run: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// How it ended, if it has ended since.
    pub exit: Option<Exit>,
}

/// What a driver tells the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// A run has begun.
    Started {
        /// The instance.
        instance: InstanceId,
        /// Its run.
        run: u32,
        /// When.
        at: Timestamp,
    },
    /// A run could not begin; nothing of it is left.
    NotStarted {
        /// The instance.
        instance: InstanceId,
        /// Its run.
        run: u32,
        /// Why, and what to do.
        message: String,
        /// Whether the driver itself cannot work now (its daemon is away), so that this is no
        /// failure of the instance.
        driver_away: bool,
    },
    /// A run cannot begin where it was placed: elsewhere, or with other ports, it may.
    Misplaced {
        /// The instance.
        instance: InstanceId,
        /// Its run.
        run: u32,
        /// Why.
        message: String,
    },
    /// A run has ended.
    Exited {
        /// The instance.
        instance: InstanceId,
        /// Its run.
        run: u32,
        /// How.
        exit: Exit,
    },
    /// What is being done before the start, such as pulling an image.
    Preparing {
        /// The instance.
        instance: InstanceId,
        /// Its run.
        run: u32,
        /// In words.
        message: String,
    },
}

/// How a command in an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutcome {
    /// It ended with this code and, at most a few hundred bytes of, this output.
    Ended {
        /// Its exit code.
        code: i32,
        /// The end of what it wrote.
        output: String,
    },
    /// It was killed after the time it was given.
    TimedOut,
    /// It could not be run at all: this says nothing of the instance.
    CannotRun(String),
}

/// What comes of a driver's longer work.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Lines of output, with their line ends.
pub type Output = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Which output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputQuery {
    /// Which streams.
    pub stream: api::LogStream,
    /// Only so many of the last lines.
    pub tail: Option<u32>,
    /// Go on with what is written from now, over restarts in place.
    pub follow: bool,
}

/// Which part of an output stream is wanted, in bytes from the beginning of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartQuery {
    /// Which stream.
    pub stream: api::LogStream,
    /// The first byte.
    pub offset: u64,
    /// At most so many.
    pub length: u64,
}

/// A part of an output stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// What was written there.
    pub bytes: Vec<u8>,
    /// Where it begins; later than was asked for, where that is no longer kept.
    pub offset: u64,
    /// How much has been written in all.
    pub size: u64,
}

/// Runs instances of one kind. Shared by reference; every method returns at once.
pub trait Driver: Send + Sync + 'static {
    /// Looks for runs of this agent that are there already and follows them from now on. Called
    /// once, before anything else; called again by the agent after the driver was away.
    fn adopt(&self) -> Later<Result<Vec<Found>, String>>;

    /// Begins a run: tells `Started` or `NotStarted`, and `Exited` once it ends.
    fn start(&self, launch: Launch);

    /// Sends `signal` to a run and, if it has not ended after `grace`, kills it with all its
    /// children. A start under way is given up. Tells `Exited` (or `NotStarted`).
    fn stop(&self, instance: &InstanceId, run: u32, signal: Signal, grace: Duration);

    /// Runs a command in the instance, beside what runs there.
    fn command(
        &self,
        launch: &Launch,
        command: &CommandLine,
        timeout: Duration,
    ) -> Later<CommandOutcome>;

    /// What the instance has written, over all its runs that are still known.
    fn output(&self, instance: &InstanceId, query: OutputQuery) -> Later<std::io::Result<Output>>;

    /// A part of what the instance has written to a stream. A driver that cannot begin anywhere
    /// reads it all.
    fn part(&self, instance: &InstanceId, query: PartQuery) -> Later<std::io::Result<Part>> {
        let PartQuery { stream, offset, length } = query;
        let output = self.output(instance, OutputQuery { stream, tail: None, follow: false });
        Box::pin(async move {
            let mut output = output.await?;
            let mut part = Part { offset, ..Part::default() };
            while let Some(chunk) = output.next().await {
                let chunk = chunk?;
                let skip = offset.saturating_sub(part.size).min(chunk.len() as u64);
                let wanted = length - part.bytes.len() as u64;
                let rest = &chunk[skip as usize..];
                part.bytes.extend_from_slice(&rest[..rest.len().min(wanted as usize)]);
                part.size += chunk.len() as u64;
            }
            Ok(part)
        })
    }

    /// Removes what is left of an instance that has ended, but for its directory.
    fn forget(&self, instance: &InstanceId);
}

/// The wall clock, which is all that drivers have in common with daemons, with the keeper and with
/// who comes after them.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
