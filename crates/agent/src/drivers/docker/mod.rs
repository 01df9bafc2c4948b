//! The Docker driver: each run of an instance is one container, made, started, followed, stopped
//! and, once nobody needs its output any more, removed.
//!
//! The daemon is a neighbour, not a part: it may be slow, hang, or be away. So nothing here waits
//! for it in a caller's time; every call has a limit, ends early when the daemon is found to be
//! away, and says so with `driver_away` where an instance is concerned. What was to be stopped or
//! removed meanwhile is tried again when the daemon is back.
//!
//! Exits are learnt from the daemon's events, never by asking again and again. Events can be lost
//! while nobody listens, so after each connection the containers are listed once and compared
//! with what is known; see `follow`. The labels of a container say which run it is, so an agent
//! that starts anew finds its containers by them. Nothing is kept on disk.
//!
//! | file | topic |
//! |---|---|
//! | `daemon` | the connection: calls with limits, whether it answers |
//! | `follow` | events, the comparison after each connection, adoption |
//! | `runs` | what is known of each run |
//! | `container` | what the container of a run looks like |
//! | `begin`, `end` | starting a run; stopping and removing one |
//! | `image`, `auth` | pulls, and the logins for them |
//! | `exit`, `advice` | ends and errors in words |
//! | `command`, `output` | commands in a run; what it has written |

mod advice;
mod auth;
mod begin;
mod command;
mod container;
mod daemon;
mod end;
mod exit;
mod follow;
mod image;
mod output;
mod runs;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{CommandLine, InstanceId, NodeId, Signal};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::daemon::Daemon;
use self::image::Images;
use self::runs::{Key, Runs, StopAnswer};
use super::{CommandOutcome, Driver, Found, Later, Launch, Output, OutputQuery, Told, now};

/// So many containers are made and started at once. The daemon does one after the other anyway;
/// more at once only make each of them, and everything else asked of it, slower.
const STARTS_MAX: usize = 4;

/// So many containers that nobody waits for are removed at once, for the same reason.
const BURIALS_MAX: usize = 2;

/// How a Docker driver is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of the node; a label of each container.
    pub node: NodeId,
    /// What tells the containers of this agent from those of others on the same daemon: the same
    /// whenever this agent starts again, different for any other agent. A digest of its data
    /// directory will do.
    pub agent: String,
    /// The address of the daemon as in `DOCKER_HOST`, or the path of its socket; left out, the
    /// usual socket. Only Unix sockets are supported.
    pub host: Option<String>,
    /// The directory with `config.json`, which holds the logins of registries; left out, none.
    pub config_dir: Option<PathBuf>,
}

/// Runs instances as Docker containers. Dropped, it ends all its work at once and leaves the
/// containers as they are, to be adopted by the next one with the same [`Settings::agent`].
#[derive(Debug)]
pub struct Docker {
    core: Arc<Core>,
}

/// What all the work of a driver shares.
#[derive(Debug)]
struct Core {
    settings: Settings,
    daemon: Daemon,
    images: Images,
    starts: Semaphore,
    burials: Semaphore,
    runs: Mutex<Runs>,
    told: mpsc::UnboundedSender<Told>,
    asks: mpsc::UnboundedSender<follow::Ask>,
    dropped: CancellationToken,
}

impl Docker {
    /// A driver that begins at once to look for its daemon. Must be called within a Tokio runtime.
    pub fn new(settings: Settings, told: mpsc::UnboundedSender<Told>) -> Docker {
        let (asks, asked) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            daemon: Daemon::new(settings.host.as_deref()),
            images: Images::new(settings.config_dir.clone()),
            starts: Semaphore::new(STARTS_MAX),
            burials: Semaphore::new(BURIALS_MAX),
            runs: Mutex::new(Runs::new(told.clone())),
            told,
            asks,
            dropped: CancellationToken::new(),
            settings,
        });
        core.spawn(follow::follow(core.clone(), asked));
        Docker { core }
    }

    /// Whether the daemon answers, and each change of it. False until it is first reached. When
    /// it turns true, the containers have been compared with what is known, and
    /// [`Driver::adopt`] tells them all.
    pub fn answers(&self) -> watch::Receiver<bool> {
        self.core.daemon.answers()
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

    /// Runs `work` beside everything else, until the driver is dropped.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let dropped = self.dropped.clone();
        tokio::spawn(async move { dropped.run_until_cancelled(work).await });
    }

    /// Tells the agent; it no longer listens only when it is ending.
    fn tell(&self, told: Told) {
        let _ = self.told.send(told);
    }

    fn stop(self: &Arc<Self>, key: &Key, signal: Signal, grace: Duration) {
        let answer = self.runs().stop(key, signal, grace);
        match answer {
            StopAnswer::Signal { container, ended } => {
                self.spawn(end::stop(self.clone(), container, ended, signal, grace));
            }
            StopAnswer::Unknown => {
                self.runs().not_started(key, "no such run is there".into(), false);
            }
            StopAnswer::Done | StopAnswer::WillBe => {}
        }
    }
}

impl Driver for Docker {
    fn adopt(&self) -> Later<Result<Vec<Found>, String>> {
        let (reply, found) = oneshot::channel();
        let asked = self.core.asks.send(follow::Ask::Adopt(reply));
        Box::pin(async move {
            let ended = || "the Docker driver has ended".to_string();
            asked.map_err(|_| ended())?;
            found.await.map_err(|_| ended())?
        })
    }

    fn start(&self, launch: Launch) {
        let key = Key { instance: launch.instance.clone(), run: launch.run };
        let memory = launch.spec.resources.memory;
        let Some(given_up) = self.core.runs().begin(key.clone(), memory) else {
            tracing::warn!(instance = %key.instance, run = key.run, "asked to start a run twice");
            return;
        };
        self.core.spawn(begin::begin(self.core.clone(), launch, key, given_up));
    }

    fn stop(&self, instance: &InstanceId, run: u32, signal: Signal, grace: Duration) {
        self.core.stop(&Key { instance: instance.clone(), run }, signal, grace);
    }

    fn command(
        &self,
        launch: &Launch,
        command: &CommandLine,
        timeout: Duration,
    ) -> Later<CommandOutcome> {
        let key = Key { instance: launch.instance.clone(), run: launch.run };
        Box::pin(command::command(self.core.clone(), key, command.words(), timeout))
    }

    fn output(&self, instance: &InstanceId, query: OutputQuery) -> Later<std::io::Result<Output>> {
        Box::pin(output::output(self.core.clone(), instance.clone(), query))
    }

    fn forget(&self, instance: &InstanceId) {
        for container in self.core.runs().forget(instance) {
            self.core.spawn(end::bury(self.core.clone(), container));
        }
    }
}
