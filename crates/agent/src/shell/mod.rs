//! The shell around the core: it performs the core's effects and returns their results as events.
//!
//! One loop owns the core. Slow operations (the server, drivers, probes, the disk) run concurrently
//! and send an [`Input`] when they complete, so they never delay an instance.

mod disk;
mod drivers;
mod link;
mod logs;
mod machine;
mod ports;
mod preparations;
mod probe;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::{Client, now};
use model::{
    AgentRegistration, Facts, FileSpec, InstanceId, Registration, Signal, Spec, Timestamp,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::disk::Disk;
pub use self::disk::Error as DiskError;
use self::drivers::Drivers;
use self::preparations::Preparations;
use crate::core::{Core, Effect, Event, LaunchSpec, Memory};
use crate::drivers::files::{self, Fetcher, PlannedFile};
use crate::drivers::{Driver, DriverEvent, Kind, Launch};
use crate::environment::{self, environment};
use crate::options::Options;

/// How long the agent waits for the drivers to list existing runs before it connects to a server.
const ADOPTION_WAIT: Duration = Duration::from_secs(2);
/// How long an ephemeral agent waits at its end, in addition to the longest grace period of its
/// instances.
const END_WAIT: Duration = Duration::from_secs(60);
/// The number of consecutive failed reports after which the agent reconnects.
const FAILED_REPORTS_MAX: u32 = 3;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be used.
    #[error("the data directory cannot be used")]
    Disk(#[from] disk::Error),
    /// The API for logs cannot listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address to listen on.
        address: std::net::SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The address of the server is invalid.
    #[error("the server cannot be followed")]
    Server(#[from] api::Error),
    /// A task of the agent has ended or panicked.
    #[error("an agent task has failed; the instances keep running")]
    Broken(#[source] Option<tokio::task::JoinError>),
}

/// A message to the main loop.
#[derive(Debug)]
enum Input {
    /// An event for the core.
    Event(Event),
    /// A request of the API for logs for the resources of an instance.
    Resources(logs::ResourcesQuery),
}

/// Runs an agent until `shutdown` completes. Its instances keep running afterwards; those of an
/// ephemeral agent are stopped and removed first.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let disk = Disk::open(&options.data_dir)?;
    let memory = disk.memory()?;
    let membership = disk.membership(&options)?;
    let client = Client::new(&options.server)?.of_daemon(membership.clone());
    let failed = |source| Error::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();

    let (inputs, inbox) = mpsc::unbounded_channel();
    let (memories, receiver) = watch::channel(memory.clone());
    let persisting = tokio::spawn(Disk::persist(disk.memories(), receiver));
    // All tasks other than the main loop are cancelled with it; none of them may end before.
    let mut parts = JoinSet::new();
    let work = CancellationToken::new();
    let _ends = work.clone().drop_guard();

    let (registration, registered) = watch::channel(registration(&options, disk.agent_id()?, port));
    let (drivers, adoption) = Drivers::open(&options, &disk, &inputs, registration, &mut parts);
    parts.spawn(membership.persist());
    let router = logs::router(logs::Logs { drivers: drivers.clone(), inputs: inputs.clone() });
    parts.spawn(api::serve(listener, router, std::future::pending()));
    let reconnect = Arc::new(tokio::sync::Notify::new());
    let follow = link::follow(client.clone(), registered, inputs.clone(), reconnect.clone());
    parts.spawn(async move {
        // The first report to a server must contain the runs that exist already.
        let _ = tokio::time::timeout(ADOPTION_WAIT, adoption.wait()).await;
        follow.await;
    });

    let core = Core::new(options.node.clone(), memory, now());
    let removals = disk.removals();
    let preparations = Preparations::default();
    let fetcher = Arc::new(Fetcher::new(disk.fetched_dir(), options.fetch_local));
    let shell = Shell {
        options,
        disk,
        client,
        drivers,
        preparations,
        fetcher,
        inputs,
        memories,
        reconnect,
        work,
    };
    let main = Loop { core, shell, wake_at: None, failed_reports: 0, is_swept: false };
    let outcome = tokio::select! {
        biased;
        () = main.turn(inbox, shutdown) => Ok(()),
        broken = first_end(&mut parts) => Err(broken),
    };
    // The sender is dropped with the loop, so this completes once the newest memory is written.
    let _ = persisting.await;
    removals.close();
    removals.wait().await;
    outcome
}

/// Waits until a task of the agent ends. Without that task it would stay registered but
/// not work, so the agent ends and can be restarted.
async fn first_end(parts: &mut JoinSet<()>) -> Error {
    match parts.join_next().await {
        Some(ended) => Error::Broken(ended.err()),
        None => std::future::pending().await,
    }
}

fn registration(options: &Options, id: String, port: u16) -> Registration {
    let mut capabilities = options.capabilities.clone();
    capabilities.insert(Kind::Process.capability().into());
    Registration {
        node: options.node.clone(),
        address: options.address.clone(),
        agent: Some(AgentRegistration {
            id,
            port,
            capacity: options.capacity.unwrap_or_else(machine::capacity),
            labels: options.labels.clone(),
            capabilities,
            ports: options.ports,
            software: model::Software::current(),
        }),
    }
}

/// The core, and the shell that performs its effects.
struct Loop {
    core: Core,
    shell: Shell,
    wake_at: Option<Timestamp>,
    failed_reports: u32,
    /// Whether the removal of remains of earlier agents has started.
    is_swept: bool,
}

/// Performs the effects of the core.
struct Shell {
    options: Options,
    disk: Disk,
    client: Client,
    drivers: Drivers,
    preparations: Preparations,
    fetcher: Arc<Fetcher>,
    inputs: mpsc::UnboundedSender<Input>,
    memories: watch::Sender<Memory>,
    reconnect: Arc<tokio::sync::Notify>,
    work: CancellationToken,
}

impl Loop {
    async fn turn(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Input>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut give_up = None;
        loop {
            let span = self.wake_at.map(|at| Duration::from_millis(at.since(now()).0));
            let input = tokio::select! {
                biased;
                () = &mut shutdown, if give_up.is_none() => {
                    if !self.shell.options.ephemeral {
                        return;
                    }
                    give_up = Some(tokio::time::Instant::now() + self.end_wait());
                    Input::Event(Event::End)
                }
                input = inbox.recv() => match input {
                    Some(input) => input,
                    None => return,
                },
                () = sleep(span) => Input::Event(Event::Tick),
                () = until(give_up) => {
                    tracing::warn!("not all instances have ended in time; they are left to the keeper");
                    return;
                }
            };
            match input {
                Input::Event(event) => self.handle(event),
                Input::Resources(query) => {
                    // The request may have been cancelled meanwhile.
                    let _ = query.reply.send(self.core.resources_of(&query.instance));
                }
            }
            if give_up.is_some() && self.core.is_empty() {
                return;
            }
        }
    }

    /// The longest grace period of the instances on this node, plus [`END_WAIT`].
    fn end_wait(&self) -> Duration {
        let memory = self.shell.memories.borrow();
        let graces = memory.assignments.iter().map(|assignment| assignment.spec.stop.grace.0);
        END_WAIT + Duration::from_millis(graces.max().unwrap_or(0))
    }

    fn handle(&mut self, event: Event) {
        match &event {
            Event::Tick => self.wake_at = None,
            Event::ReportSent { .. } | Event::Connected => self.failed_reports = 0,
            Event::ReportFailed { .. } => {
                self.failed_reports += 1;
                if self.failed_reports.is_multiple_of(FAILED_REPORTS_MAX) {
                    self.shell.reconnect.notify_one();
                }
            }
            _ => {}
        }
        trace("event", event.summary());
        for effect in self.core.handle(event, now()) {
            trace("effect", effect.summary());
            match effect {
                Effect::WakeAt(at) => self.wake_at = Some(at),
                effect => self.shell.perform(effect),
            }
        }
        if !self.is_swept && self.core.knows_all() {
            self.is_swept = true;
            let known: Vec<_> = self.core.resources().collect();
            self.shell.disk.remove_all_but(&known);
        }
    }
}

impl Shell {
    fn perform(&self, effect: Effect) {
        match effect {
            Effect::Start(launch) => self.start(launch),
            Effect::Stop { piece, driver, signal, grace } => {
                if self.preparations.cancel(&piece) {
                    return;
                }
                if let Some(driver) = self.drivers.get(driver) {
                    driver.stop(&piece, signal, Duration::from_millis(grace.0));
                }
            }
            Effect::Probe { launch, check, probe, timeout } => {
                let piece = launch.piece.clone();
                let driver = self.drivers.get(Kind::of(&launch.spec));
                let probe = self.with_facts(&launch, |facts| probe.resolved(facts));
                let (launch, address) = (self.launch(launch), self.options.address.clone());
                let timeout = Duration::from_millis(timeout.0);
                self.spawn_work(async move {
                    let probed = match driver {
                        Some(driver) => {
                            let probing = probe::probe(driver, launch, address, probe, timeout);
                            tokio::spawn(probing).await
                        }
                        None => Ok(crate::core::Outcome::CannotRun("it has no driver".into())),
                    };
                    let outcome = probed.unwrap_or_else(|error| {
                        crate::core::Outcome::CannotRun(format!("the probe broke: {error}"))
                    });
                    Event::Probed { piece, check, outcome }
                });
            }
            Effect::UpdateFiles { launch, paths } => {
                let piece = launch.piece.clone();
                let driver = self.drivers.get(Kind::of(&launch.spec));
                let signals = signals(&launch.spec, &paths);
                let launch = self.launch(launch);
                let mut files = environment::files(&launch.spec);
                files.retain(|file| paths.contains(&file.path));
                let fetcher = self.fetcher.clone();
                self.spawn_work(async move {
                    let outcome = async {
                        let driver = driver.ok_or("its driver is missing on this node")?;
                        let files = files::fetch(&fetcher, files, |_| {}).await;
                        let files = files.map_err(|error| api::error_chain(&error))?;
                        driver.update_files(&Launch { files, ..launch }, signals).await
                    };
                    Event::FilesUpdated { piece, outcome: outcome.await }
                });
            }
            Effect::Suspend { piece, driver, suspend } => {
                let driver = self.drivers.get(driver);
                self.spawn_work(async move {
                    let outcome = match driver {
                        Some(driver) => driver.suspend(&piece, suspend).await,
                        None => Err("its driver is missing on this node".into()),
                    };
                    Event::Suspended { piece, suspend, outcome }
                });
            }
            Effect::Forget { of, driver } => {
                if let Some(driver) = self.drivers.get(driver) {
                    driver.forget(&of);
                }
                self.disk.remove_output(&of);
            }
            Effect::RemoveDirectory(instance) => self.disk.remove_instance(&instance),
            Effect::Persist(memory) => {
                self.memories.send_replace(memory);
            }
            Effect::Report(report) => self.spawn_work(link::report(self.client.clone(), report)),
            Effect::WakeAt(_) => {}
        }
    }

    fn start(&self, launch: LaunchSpec) {
        let piece = launch.piece.clone();
        let driver = self.drivers.get(Kind::of(&launch.spec));
        if let Some(port) = ports::taken(&launch) {
            let message = format!("port {port} is taken by another program on this node");
            // Only fails while the agent is shutting down.
            let event = Event::Driver(DriverEvent::Misplaced { piece, message });
            let _ = self.inputs.send(Input::Event(event));
            return;
        }
        let launch = self.launch(launch);
        let files = environment::files(&launch.spec);
        let made = self.disk.make_instance(&launch.piece.instance);
        let message = match (driver, made) {
            (Some(driver), Ok(())) if files.is_empty() => return driver.start(launch),
            (Some(driver), Ok(())) => return self.prepare(driver, launch, files),
            (None, _) => "its driver is missing on this node".to_string(),
            (_, Err(error)) => format!("its directory cannot be made: {error}"),
        };
        let event = DriverEvent::NotStarted { piece, message, driver_unavailable: false };
        // Only fails while the agent is shutting down.
        let _ = self.inputs.send(Input::Event(Event::Driver(event)));
    }

    /// Starts a run once its files are fetched and written.
    fn prepare(&self, driver: Arc<dyn Driver>, mut launch: Launch, files: Vec<PlannedFile>) {
        let (preparations, inputs) = (self.preparations.clone(), self.inputs.clone());
        let (piece, fetcher) = (launch.piece.clone(), self.fetcher.clone());
        let cancelled = preparations.begin(piece.clone());
        tokio::spawn(self.work.clone().run_until_cancelled_owned(async move {
            let progress = |message| {
                let event = DriverEvent::Preparing { piece: piece.clone(), message };
                let _ = inputs.send(Input::Event(Event::Driver(event)));
            };
            let fetching = files::fetch(&fetcher, files, progress);
            let written = match cancelled.run_until_cancelled(fetching).await {
                Some(Ok(files)) => {
                    launch.files = files;
                    // Not cancelled: what is written must be finished before the instance ends.
                    driver.write_files(&launch).await
                }
                Some(Err(error)) => Err(api::error_chain(&error)),
                None => Ok(()),
            };
            let is_written = written.is_ok();
            let has_started = preparations.end(&piece, || {
                if is_written {
                    driver.start(launch);
                }
            });
            let message = match (written, has_started) {
                (Ok(()), true) => return,
                (Ok(()), false) => "stopped before it had started".into(),
                (Err(message), _) => message,
            };
            let event = DriverEvent::NotStarted { piece, message, driver_unavailable: false };
            // Only fails while the agent is shutting down.
            let _ = inputs.send(Input::Event(Event::Driver(event)));
        }));
    }

    fn launch(&self, launch: LaunchSpec) -> Launch {
        let (spec, env) = self.with_facts(&launch, |facts| {
            let spec = launch.spec.resolved(facts);
            let env = environment(&spec, facts);
            (spec, env)
        });
        let (ports, dir) =
            (launch.ports().to_vec(), self.disk.instance_dir(&launch.piece.instance));
        Launch { piece: launch.piece, spec, ports, env, dir, files: Vec::new() }
    }

    /// Calls `read` with the facts that the references of a launch stand for.
    fn with_facts<T>(&self, launch: &LaunchSpec, read: impl FnOnce(&Facts<'_>) -> T) -> T {
        read(&Facts {
            node: &self.options.node,
            address: &self.options.address,
            instance: &launch.piece.instance,
            resource: &launch.piece.resource,
            revision: launch.revision,
            revision_created_at: launch.revision_created_at,
            run: Some(launch.piece.run),
            dir: Some(&self.disk.instance_dir(&launch.piece.instance).display().to_string()),
            spec: &launch.instance,
            given: &launch.given,
        })
    }

    /// Runs a slow operation in the background; its result is sent to the core.
    fn spawn_work(&self, work: impl Future<Output = Event> + Send + 'static) {
        let inputs = self.inputs.clone();
        tokio::spawn(self.work.clone().run_until_cancelled_owned(async move {
            let _ = inputs.send(Input::Event(work.await));
        }));
    }
}

/// The signals that tell a resource that files have changed, each once.
fn signals(spec: &Spec, paths: &BTreeSet<String>) -> Vec<Signal> {
    let changed = spec.files.iter().filter(|file| paths.contains(&file.path));
    let mut signals = Vec::new();
    for signal in changed.filter_map(FileSpec::signal) {
        if !signals.contains(&signal) {
            signals.push(signal);
        }
    }
    signals
}

fn trace(kind: &str, (what, instance): (&str, Option<&InstanceId>)) {
    tracing::trace!(instance = instance.map(tracing::field::display), "{kind}: {what}");
}

async fn sleep(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_is_reported_as_an_error() {
        async fn panics() {
            panic!("this part breaks")
        }
        let mut parts = JoinSet::new();
        parts.spawn(std::future::pending());
        parts.spawn(async {});
        assert!(matches!(first_end(&mut parts).await, Error::Broken(None)));
        parts.spawn(panics());
        assert!(matches!(first_end(&mut parts).await, Error::Broken(Some(_))));
    }
}
