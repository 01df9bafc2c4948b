//! The only code in Muster that touches processes, containers, disks and addresses.
//!
//! A driver runs resources of one kind. Its methods return at once; their results arrive as
//! [`DriverEvent`]s on the agent's channel, so a slow or absent daemon never blocks the agent. A
//! driver holds no desired state: it starts, stops and reports; the core decides.

pub mod docker;
pub mod process;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use model::{CommandLine, Exit, InstanceResource, Piece, Signal, Spec, Timestamp};

/// The drivers. A resource of an instance belongs to one of them all its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Plain processes.
    Process,
    /// Containers of the Docker daemon.
    Docker,
}

impl Kind {
    /// The driver that runs `spec`.
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

/// One start of one resource of an instance.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The run to begin.
    pub piece: Piece,
    /// What to run.
    pub spec: Arc<Spec>,
    /// Its ports on the node, in the order of the spec's ports.
    pub ports: Vec<u16>,
    /// The whole environment, Muster's own variables included.
    pub env: Vec<(String, String)>,
    /// The directory of the instance, shared by its resources. It exists, and outlives runs.
    pub dir: PathBuf,
}

/// A run that a driver found when the agent started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The run.
    pub piece: Piece,
    /// When it was started.
    pub started_at: Timestamp,
    /// How it ended, if it has ended since.
    pub exit: Option<Exit>,
}

/// What a driver reports to the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum DriverEvent {
    /// A run has begun.
    Started {
        /// The run.
        piece: Piece,
        /// When.
        at: Timestamp,
    },
    /// A run could not begin, and left nothing behind.
    NotStarted {
        /// The run.
        piece: Piece,
        /// Why, and what to do.
        message: String,
        /// Whether the cause is that the driver itself cannot work now (its daemon does not
        /// respond): then this is no failure of the instance.
        driver_away: bool,
    },
    /// A run cannot begin where it was placed: on another node, or with other ports, it may.
    Misplaced {
        /// The run.
        piece: Piece,
        /// Why.
        message: String,
    },
    /// A run has ended.
    Exited {
        /// The run.
        piece: Piece,
        /// How.
        exit: Exit,
    },
    /// The present step of a start that takes long, such as pulling an image.
    Preparing {
        /// The run.
        piece: Piece,
        /// The step, for people.
        message: String,
    },
}

impl DriverEvent {
    /// The run that it is about.
    pub fn piece(&self) -> &Piece {
        match self {
            DriverEvent::Started { piece, .. }
            | DriverEvent::NotStarted { piece, .. }
            | DriverEvent::Misplaced { piece, .. }
            | DriverEvent::Exited { piece, .. }
            | DriverEvent::Preparing { piece, .. } => piece,
        }
    }
}

/// How a command inside a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutcome {
    /// It exited.
    Ended {
        /// Its exit code.
        code: i32,
        /// The end of its output, at most a few hundred bytes.
        output: String,
    },
    /// It was killed at its timeout.
    TimedOut,
    /// It could not be run, and why: this is no failure of the run it was meant for.
    CannotRun(String),
}

/// The result of a driver's longer work.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Lines of output, with their line ends.
pub type Output = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Which output to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputQuery {
    /// Which streams.
    pub stream: api::LogStream,
    /// At most this number of the last lines.
    pub tail: Option<u32>,
    /// Continue with new output, over restarts in place.
    pub follow: bool,
}

/// Which part of an output stream to read, in bytes from the beginning of the first run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartQuery {
    /// Which stream.
    pub stream: api::LogStream,
    /// The position of the first byte.
    pub offset: u64,
    /// The length; less is returned at the end of the stream.
    pub length: u64,
}

/// A part of an output stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The content.
    pub bytes: Vec<u8>,
    /// The position of the first byte: later than requested where that is no longer kept.
    pub offset: u64,
    /// The length of the stream so far.
    pub size: u64,
}

/// Runs resources of one kind. Shared by reference; every method returns at once.
pub trait Driver: Send + Sync + 'static {
    /// Finds the runs of this agent that exist already, and follows them from now on. Called
    /// once, before anything else; called again by the agent after the driver could not work.
    fn adopt(&self) -> Later<Result<Vec<Found>, String>>;

    /// Begins a run. Reports `Started` or `NotStarted`, and `Exited` once it ends.
    fn start(&self, launch: Launch);

    /// Sends `signal` to a run and, if it has not ended after `grace`, kills it with all its
    /// children. A start under way is cancelled. Reports `Exited` (or `NotStarted`).
    fn stop(&self, piece: &Piece, signal: Signal, grace: Duration);

    /// Runs a command inside the run of `launch`.
    fn command(
        &self,
        launch: &Launch,
        command: &CommandLine,
        timeout: Duration,
    ) -> Later<CommandOutcome>;

    /// The output of a resource over all its runs whose output is kept.
    fn output(&self, of: &InstanceResource, query: OutputQuery) -> Later<std::io::Result<Output>>;

    /// A part of one output stream of a resource. The default reads the stream from its beginning.
    fn part(&self, of: &InstanceResource, query: PartQuery) -> Later<std::io::Result<Part>> {
        let PartQuery { stream, offset, length } = query;
        let output = self.output(of, OutputQuery { stream, tail: None, follow: false });
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

    /// Removes what is left of a resource whose last run has ended, except for the directory of
    /// the instance.
    fn forget(&self, of: &InstanceResource);
}

/// The wall clock: drivers share it with their daemons, with the keeper, and with later agents.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
