//! The Docker driver. Each run of a resource is one container, which is created, started, watched,
//! stopped and, once its output is no longer needed, removed.
//!
//! The daemon may be slow, hang, or be unreachable. Therefore no caller waits for it: every request
//! has a timeout, fails early when the daemon is found to be unreachable, and reports
//! `driver_unavailable` if it concerns a run. Stops and removals that fail meanwhile are retried
//! when the daemon responds again.
//!
//! Exits are received from the daemon's events, without polling. Events are lost while there is no
//! connection, so after each connection the containers are listed once and compared with the known
//! runs; see `follow`. The labels of a container identify its run, so a new agent finds its
//! containers by them. Nothing is stored on disk.
//!
//! | file | topic |
//! |---|---|
//! | `daemon` | the connection: requests with timeouts, whether it responds |
//! | `follow` | events, the comparison after each connection, adoption |
//! | `runs` | the state of each run |
//! | `container` | the container configuration of a run, and its labels |
//! | `begin`, `end` | starting a run; suspending, stopping and removing one |
//! | `leftover` | processes of containers that the daemon has forgotten |
//! | `image`, `auth` | pulls, and the credentials for them |
//! | `files` | copying files into a container |
//! | `exit`, `advice` | messages for exits and errors |
//! | `command`, `output` | commands inside a run; its output |

mod advice;
mod auth;
mod begin;
mod command;
mod container;
mod daemon;
mod end;
mod exit;
mod files;
mod follow;
mod image;
mod leftover;
mod output;
mod runs;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{CommandLine, InstanceResource, NodeId, Piece, Signal};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::daemon::Daemon;
use self::image::Images;
use self::runs::{Runs, StopOutcome};
use super::{
    BoxFuture, CommandOutcome, Driver, DriverEvent, Found, Launch, Output, OutputQuery, now,
};

/// The maximum number of containers created and started at a time. The daemon handles them one
/// after the other anyway; more at a time only delay each of them and all other requests.
const STARTS_MAX: usize = 4;

/// The maximum number of containers removed at a time, for the same reason.
const REMOVALS_MAX: usize = 2;

/// The settings of a Docker driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of the node; a label of each container.
    pub node: NodeId,
    /// Identifies the containers of this agent among those of others on the same daemon. Must be
    /// constant across restarts of this agent and different for any other agent, such as a digest
    /// of its data directory.
    pub agent: String,
    /// The address of the daemon as in `DOCKER_HOST`, or the path of its socket; `None` means the
    /// default socket. Only Unix sockets are supported.
    pub host: Option<String>,
    /// The directory of `config.json`, which holds registry credentials; `None` means no
    /// credentials.
    pub config_dir: Option<PathBuf>,
}

/// Runs resources as Docker containers. Dropping it cancels all its tasks at once and leaves the
/// containers running, to be adopted by the next driver with the same [`Settings::agent`].
#[derive(Debug)]
pub struct Docker {
    core: Arc<Core>,
}

/// The state shared by the driver's tasks.
#[derive(Debug)]
struct Core {
    settings: Settings,
    daemon: Daemon,
    images: Images,
    starts: Semaphore,
    removals: Semaphore,
    runs: Mutex<Runs>,
    events: mpsc::UnboundedSender<DriverEvent>,
    requests: mpsc::UnboundedSender<LoopRequest>,
    dropped: CancellationToken,
}

/// A request to the loop that watches the containers; see `follow`.
#[derive(Debug)]
enum LoopRequest {
    /// Return all runs, after a comparison with the daemon's containers.
    Adopt(oneshot::Sender<Result<Vec<Found>, String>>),
    /// Make a comparison, after an unexpected response of the daemon.
    Look,
}

impl Docker {
    /// A driver that connects to its daemon at once. Must be called within a Tokio runtime.
    pub fn new(settings: Settings, events: mpsc::UnboundedSender<DriverEvent>) -> Docker {
        let (requests, inbox) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            daemon: Daemon::new(settings.host.as_deref()),
            images: Images::new(settings.config_dir.clone()),
            starts: Semaphore::new(STARTS_MAX),
            removals: Semaphore::new(REMOVALS_MAX),
            runs: Mutex::new(Runs::new(events.clone())),
            events,
            requests,
            dropped: CancellationToken::new(),
            settings,
        });
        core.spawn(follow::follow(core.clone(), inbox));
        Docker { core }
    }

    /// Whether the daemon responds, with each change. False until it is first reached. When it
    /// turns true, the containers have been compared with the known runs, and [`Driver::adopt`]
    /// returns them all.
    pub fn is_responding(&self) -> watch::Receiver<bool> {
        self.core.daemon.is_responding()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.core.dropped.cancel();
    }
}

impl Core {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` as a task, until the driver is dropped.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let dropped = self.dropped.clone();
        tokio::spawn(async move { dropped.run_until_cancelled(work).await });
    }

    fn emit(&self, event: DriverEvent) {
        // Only fails while the agent is shutting down.
        let _ = self.events.send(event);
    }

    fn stop(self: &Arc<Self>, key: &Piece, signal: Signal, grace: Duration) {
        let answer = self.runs().stop(key, signal, grace);
        match answer {
            StopOutcome::Signal { container, ended } => {
                self.spawn(end::stop(self.clone(), container, ended, signal, grace));
            }
            StopOutcome::Unknown => {
                self.runs().not_started(key, "there is no such run".into(), false);
            }
            StopOutcome::Done | StopOutcome::AlreadyInProgress => {}
        }
    }
}

impl Driver for Docker {
    fn adopt(&self) -> BoxFuture<Result<Vec<Found>, String>> {
        let (reply, found) = oneshot::channel();
        let sent = self.core.requests.send(LoopRequest::Adopt(reply));
        Box::pin(async move {
            let ended = || "the Docker driver has ended".to_string();
            sent.map_err(|_| ended())?;
            found.await.map_err(|_| ended())?
        })
    }

    fn update_files(&self, launch: &Launch, signals: Vec<Signal>) -> BoxFuture<Result<(), String>> {
        Box::pin(files::update(self.core.clone(), launch.clone(), signals))
    }

    fn start(&self, launch: Launch) {
        let key = launch.piece.clone();
        let memory = launch.spec.resources.memory;
        let Some(abandoned) = self.core.runs().begin(key.clone(), memory) else {
            tracing::warn!("{key} is to be started twice");
            return;
        };
        self.core.spawn(begin::begin(self.core.clone(), launch, key, abandoned));
    }

    fn stop(&self, piece: &Piece, signal: Signal, grace: Duration) {
        self.core.stop(piece, signal, grace);
    }

    fn suspend(&self, piece: &Piece, suspend: bool) -> BoxFuture<Result<(), String>> {
        Box::pin(end::suspend(self.core.clone(), piece.clone(), suspend))
    }

    fn command(
        &self,
        launch: &Launch,
        command: &CommandLine,
        timeout: Duration,
    ) -> BoxFuture<CommandOutcome> {
        Box::pin(command::command(
            self.core.clone(),
            launch.piece.clone(),
            command.words(),
            timeout,
        ))
    }

    fn output(
        &self,
        of: &InstanceResource,
        query: OutputQuery,
    ) -> BoxFuture<std::io::Result<Output>> {
        Box::pin(output::output(self.core.clone(), of.clone(), query))
    }

    fn forget(&self, of: &InstanceResource) {
        for container in self.core.runs().forget(of) {
            self.core.spawn(end::remove_container(self.core.clone(), container));
        }
    }
}
