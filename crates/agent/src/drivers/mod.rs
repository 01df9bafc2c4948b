//! The only code in Muster that touches processes, containers, disks and addresses.
//!
//! A driver runs resources of one kind. Its methods return at once; their results arrive as
//! [`DriverEvent`]s on the agent's channel, so a slow or absent daemon never blocks the agent. A
//! driver holds no desired state: it starts, stops and reports; the core decides.

pub(crate) mod directory;
pub mod docker;
pub(crate) mod files;
pub mod process;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
pub use files::{Content, LaunchFile};
use futures_util::{Stream, StreamExt as _};
use model::{CommandLine, Exit, InstanceResource, Piece, Signal, Spec, Timestamp};

/// The drivers. A resource of an instance keeps its driver for its whole life.
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

    /// The capability by which a node announces this driver.
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
    /// The run to start.
    pub piece: Piece,
    /// The spec of the resource, without references.
    pub spec: Arc<Spec>,
    /// Its ports on the node, in the order of the spec's ports.
    pub ports: Vec<u16>,
    /// The complete environment, including Muster's own variables.
    pub env: Vec<(String, String)>,
    /// The directory of the instance, shared by its resources. It exists and persists across runs.
    pub dir: PathBuf,
    /// The files to write before the start. A launch that is only probed lists none.
    pub files: Vec<LaunchFile>,
}

/// A run that a driver found when it listed the existing runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The run.
    pub piece: Piece,
    /// The time of its start.
    pub started_at: Timestamp,
    /// Its exit, if it has ended since.
    pub exit: Option<Exit>,
    /// Whether its processes are suspended.
    pub suspended: bool,
}

/// A report of a driver to the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum DriverEvent {
    /// A run has started.
    Started {
        /// The run.
        piece: Piece,
        /// The time of the start.
        at: Timestamp,
    },
    /// A run could not start, and left nothing behind.
    NotStarted {
        /// The run.
        piece: Piece,
        /// The cause, and the remedy.
        message: String,
        /// Whether the driver itself is unavailable (its daemon does not respond). The failure does
        /// not count against the instance then.
        driver_unavailable: bool,
    },
    /// A run cannot start where it was placed; on another node or with other ports it may.
    Misplaced {
        /// The run.
        piece: Piece,
        /// The cause.
        message: String,
    },
    /// A run has ended.
    Exited {
        /// The run.
        piece: Piece,
        /// How the run ended, and when.
        exit: Exit,
    },
    /// The current step of a start that takes long, such as pulling an image.
    Preparing {
        /// The run.
        piece: Piece,
        /// The step, as a message for people.
        message: String,
    },
}

impl DriverEvent {
    /// The run that the event concerns.
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
        /// The last bytes of its output, at most a few hundred.
        output: String,
    },
    /// It was killed at its timeout.
    TimedOut,
    /// It could not be run, with the reason. The run for which it was meant has not failed.
    CannotRun(String),
}

/// The result of work that a driver does in the background.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Lines of output, including their line terminators.
pub type Output = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Selects the output to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputQuery {
    /// The streams to read.
    pub stream: api::LogStream,
    /// The maximum number of last lines to read; `None` reads all.
    pub tail: Option<u32>,
    /// Whether to continue with new output, including that of later runs.
    pub follow: bool,
}

/// Selects a part of an output stream, in bytes from the beginning of the first run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartQuery {
    /// The stream to read.
    pub stream: api::LogStream,
    /// The position of the first byte.
    pub offset: u64,
    /// The length in bytes; less is returned at the end of the stream.
    pub length: u64,
}

/// A part of an output stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The content.
    pub bytes: Vec<u8>,
    /// The position of the first byte, later than requested if the requested one is no longer kept.
    pub offset: u64,
    /// The length of the stream so far, in bytes.
    pub size: u64,
}

/// Runs resources of one kind. Shared by reference; every method returns at once.
pub trait Driver: Send + Sync + 'static {
    /// Lists the existing runs of this agent and watches them from now on. The agent calls it once
    /// before any other method, and again after the driver was unavailable.
    fn adopt(&self) -> BoxFuture<Result<Vec<Found>, String>>;

    /// Writes the files of a launch that must exist before [`Self::start`]. Returns a message if one
    /// cannot be written. The default is for a driver whose `start` writes them.
    fn write_files(&self, launch: &Launch) -> BoxFuture<Result<(), String>> {
        let _ = launch;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Writes `launch.files` for a run that is running, and then sends it `signals`. Returns a message
    /// if that fails; part of it may have been done.
    fn update_files(&self, launch: &Launch, signals: Vec<Signal>) -> BoxFuture<Result<(), String>>;

    /// Starts a run. Reports `Started` or `NotStarted`, and `Exited` once it ends.
    fn start(&self, launch: Launch);

    /// Sends `signal` to a run and, if it has not ended after `grace`, kills it with all its
    /// children. A start in progress is cancelled. Reports `Exited` (or `NotStarted`).
    fn stop(&self, piece: &Piece, signal: Signal, grace: Duration);

    /// Suspends or resumes all processes of a run. Returns a message if that fails; some of them may
    /// be suspended then. Does nothing if the run is in this state. A stop resumes them, so that
    /// they receive its signal.
    fn suspend(&self, piece: &Piece, suspend: bool) -> BoxFuture<Result<(), String>>;

    /// Runs a command inside the run of `launch`.
    fn command(
        &self,
        launch: &Launch,
        command: &CommandLine,
        timeout: Duration,
    ) -> BoxFuture<CommandOutcome>;

    /// The output of a resource, over all its runs whose output is still kept.
    fn output(
        &self,
        of: &InstanceResource,
        query: OutputQuery,
    ) -> BoxFuture<std::io::Result<Output>>;

    /// A part of one output stream of a resource. The default reads the stream from its beginning.
    fn part(&self, of: &InstanceResource, query: PartQuery) -> BoxFuture<std::io::Result<Part>> {
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

    /// Removes the remains of a resource whose last run has ended, except the directory of the
    /// instance.
    fn forget(&self, of: &InstanceResource);
}

/// The wall clock: drivers share it with their daemons, with the keeper, and with later agents.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
