//! A running proxy: its threads, and the task that switches their tables and watches that they make
//! progress. It knows no server; `follow` connects it with one.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use model::RouteTable;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::core::{Core, Effect, Event, GatewayState};
use crate::ports::{Listener, Ports};
use crate::progress::{Progress, Task};
use crate::settings::Settings;
use crate::table::Compiled;
use crate::thread::{self, Command};

/// Interval between attempts to open a listener that could not be opened.
const RETRY: Duration = Duration::from_millis(500);
/// Interval between the checks of the watchdog.
const CHECK: Duration = Duration::from_secs(1);
/// How much longer than its grace a thread may take to stop.
const STOP_DELAY: Duration = Duration::from_secs(1);

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses a thread, or a runtime on it.
    #[error("cannot start a thread of the gateway")]
    Thread(#[source] io::Error),
}

/// A running proxy. Dropping it cuts off all requests; see [`Proxy::stop`].
#[derive(Debug)]
pub struct Proxy {
    events: UnboundedSender<Event>,
    gateway_state: watch::Receiver<GatewayState>,
    threads: Vec<Thread>,
    workers: Workers,
    stop_grace: Duration,
    control: tokio::task::JoinHandle<()>,
}

/// A thread, as the proxy and its control task see it.
#[derive(Debug, Clone)]
struct Thread {
    commands: UnboundedSender<Command>,
    progress: Arc<Progress>,
}

/// Where the workers run.
#[derive(Debug)]
enum Workers {
    Threads(Vec<Running>),
    Local(tokio::task::JoinHandle<()>),
}

/// A running thread.
#[derive(Debug)]
struct Running {
    handle: JoinHandle<()>,
    /// Closes when the thread ends.
    ended: oneshot::Receiver<()>,
}

impl Proxy {
    /// Starts the threads. They serve nothing until the first [`Proxy::switch`]. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn start(settings: Settings) -> Result<Proxy, Error> {
        let settings = Arc::new(settings.within_limits(getrlimit(Resource::Nofile).current));
        let (events, received) = unbounded_channel();
        let (mut threads, mut running) = (Vec::new(), Vec::new());
        for number in 0..settings.threads {
            let (commands, of_thread) = unbounded_channel();
            let progress = Arc::<Progress>::default();
            let worker = {
                let (settings, progress, events) =
                    (settings.clone(), progress.clone(), events.clone());
                move || thread::run(number, settings, progress, events, of_thread)
            };
            running.push(spawn(format!("gateway-{number}"), worker)?);
            threads.push(Thread { commands, progress });
        }
        let grace = settings.stop_grace;
        Ok(Self::control(events, received, threads, Workers::Threads(running), grace))
    }

    /// Starts a proxy without threads: one worker runs as a task of the current runtime and sees
    /// its clock, which a test may pause. Must be called within a `tokio::runtime::LocalRuntime`;
    /// requests that take longer than `Settings::stop_grace` end with that runtime.
    pub fn start_local(settings: Settings) -> Proxy {
        let files_max = getrlimit(Resource::Nofile).current;
        let settings = Settings { threads: 1, ..settings }.within_limits(files_max);
        let (events, received) = unbounded_channel();
        let (commands, of_thread) = unbounded_channel();
        let (progress, grace) = (Arc::<Progress>::default(), settings.stop_grace);
        let settings = Arc::new(settings);
        let worker = thread::run(0, settings, progress.clone(), events.clone(), of_thread);
        let worker = Workers::Local(tokio::task::spawn_local(worker));
        Self::control(events, received, vec![Thread { commands, progress }], worker, grace)
    }

    fn control(
        events: UnboundedSender<Event>,
        received: UnboundedReceiver<Event>,
        threads: Vec<Thread>,
        workers: Workers,
        stop_grace: Duration,
    ) -> Proxy {
        let (state_sender, gateway_state) = watch::channel(GatewayState::default());
        let control = Control {
            core: Core::new(threads.len()),
            ports: Ports::default(),
            sockets: vec![BTreeMap::new(); threads.len()],
            threads: threads.clone(),
            switches: 0,
            state_sender,
        };
        let control = tokio::spawn(control.run(received));
        Proxy { events, gateway_state, threads, workers, stop_grace, control }
    }

    /// Switches to a table, unless the current one is as new. [`Proxy::gateway_state`] shows when
    /// all threads have switched.
    pub fn switch(&self, table: RouteTable) {
        // Fails only while the proxy stops.
        drop(self.events.send(Event::Table(table)));
    }

    /// The current state of the proxy and its changes.
    pub fn gateway_state(&self) -> watch::Receiver<GatewayState> {
        self.gateway_state.clone()
    }

    /// What a thread is doing, as a phrase. Of interest for a thread that is stuck.
    pub fn task_of(&self, thread: usize) -> String {
        self.threads.get(thread).map_or(Task::Other, |thread| thread.progress.task()).to_string()
    }

    /// Closes the listeners and waits for the requests in flight, at most `Settings::stop_grace`. A
    /// thread that is stuck does not delay it further; it ends with the process.
    pub async fn stop(mut self) {
        for thread in &self.threads {
            drop(thread.commands.send(Command::Stop));
        }
        let deadline = tokio::time::Instant::now() + self.stop_grace + STOP_DELAY;
        match &mut self.workers {
            Workers::Threads(running) => {
                for (number, Running { handle, ended }) in running.drain(..).enumerate() {
                    if tokio::time::timeout_at(deadline, ended).await.is_err() {
                        let task = self.threads[number].progress.task();
                        tracing::error!(thread = number, %task, "a stuck thread was left behind");
                    } else if handle.join().is_err() {
                        tracing::error!(thread = number, "a thread of the gateway has panicked");
                    }
                }
            }
            Workers::Local(worker) => {
                if worker.await.is_err() {
                    tracing::error!("the worker of the gateway has panicked");
                }
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The control task holds the other senders of commands. Without them the workers end.
        self.control.abort();
    }
}

/// Starts a thread that runs a worker.
fn spawn<F: Future<Output = ()>>(
    name: String,
    worker: impl FnOnce() -> F + Send + 'static,
) -> Result<Running, Error> {
    let (started, start) = std::sync::mpsc::channel();
    let (end, ended) = oneshot::channel();
    let run = move || {
        // Dropped when the thread ends, also by a panic.
        let _end: oneshot::Sender<()> = end;
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                drop(started.send(Ok(())));
                runtime.block_on(worker());
            }
            Err(error) => drop(started.send(Err(error))),
        }
    };
    let handle = std::thread::Builder::new().name(name).spawn(run).map_err(Error::Thread)?;
    let no_start = || io::Error::other("the thread ended at once");
    start.recv().map_err(|_| no_start()).flatten().map_err(Error::Thread)?;
    Ok(Running { handle, ended })
}

/// The shell of [`Core`].
struct Control {
    core: Core,
    ports: Ports,
    threads: Vec<Thread>,
    /// The sockets of each thread, which hold them open.
    sockets: Vec<BTreeMap<SocketAddr, Weak<std::net::TcpListener>>>,
    /// The number of switches.
    switches: u64,
    state_sender: watch::Sender<GatewayState>,
}

impl Control {
    async fn run(mut self, mut events: UnboundedReceiver<Event>) {
        let (mut retry, mut check) = (tokio::time::interval(RETRY), tokio::time::interval(CHECK));
        // A check that was delayed must not be followed by another one immediately.
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => event,
                    None => return,
                },
                _ = retry.tick() => Event::Retry,
                _ = check.tick() => {
                    let beats = self.threads.iter().map(|thread| thread.progress.beats());
                    Event::Checked(beats.collect())
                }
            };
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        let mut opened = Vec::new();
        let mut effects: VecDeque<Effect> = self.core.handle(event).into();
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Open(listen) => {
                    let threads = self.threads.len() - self.core.stuck().len();
                    let event = match self.ports.open(listen, threads) {
                        Ok(sockets) => {
                            tracing::info!(%listen, "listening");
                            opened.push(sockets);
                            Event::Opened(listen)
                        }
                        Err(error) => Event::NotOpened(listen, error.to_string()),
                    };
                    effects.extend(self.core.handle(event));
                }
                Effect::Switch(table) => {
                    self.switches += 1;
                    let compiled = Arc::new(Compiled::new(&table, self.switches));
                    for thread in &self.threads {
                        drop(thread.commands.send(Command::Follow(compiled.clone())));
                    }
                }
                Effect::Isolate(thread) => self.isolate(thread),
                Effect::Restore(thread, listeners) => self.restore(thread, listeners),
                Effect::StateChanged(gateway_state) => {
                    if gateway_state.failed != self.state_sender.borrow().failed {
                        for (listen, reason) in &gateway_state.failed {
                            tracing::warn!(%listen, %reason, "cannot open the listener");
                        }
                    }
                    self.state_sender.send_replace(gateway_state);
                }
            }
        }
        // After the table: a request on a new listener must find its routes.
        let stuck = self.core.stuck();
        for sockets in opened {
            let threads = (0..self.threads.len()).filter(|thread| !stuck.contains(thread));
            for (thread, socket) in threads.zip(sockets) {
                self.give(thread, socket);
            }
        }
    }

    /// Lets a thread accept connections on a socket.
    fn give(&mut self, thread: usize, socket: Listener) {
        let sockets = &mut self.sockets[thread];
        sockets.retain(|_, socket| socket.strong_count() > 0);
        sockets.insert(socket.listen, Arc::downgrade(&socket.twin));
        drop(self.threads[thread].commands.send(Command::Open(socket)));
    }

    /// Closes the sockets of a stuck thread: the kernel would give it connections.
    fn isolate(&mut self, thread: usize) {
        let task = self.threads[thread].progress.task();
        tracing::error!(thread, %task, "a thread is stuck: its requests wait");
        for socket in std::mem::take(&mut self.sockets[thread]).into_values() {
            if let Some(socket) = socket.upgrade()
                && let Err(error) = socket2::SockRef::from(&*socket).shutdown(Shutdown::Both)
            {
                tracing::warn!(thread, %error, "cannot close a listener of the stuck thread");
            }
        }
    }

    /// Opens the listeners of a thread again.
    fn restore(&mut self, thread: usize, listeners: Vec<SocketAddr>) {
        tracing::warn!(thread, "a thread that was stuck makes progress again");
        for listen in listeners {
            match self.ports.open(listen, 1) {
                Ok(sockets) => sockets.into_iter().for_each(|socket| self.give(thread, socket)),
                Err(error) => {
                    tracing::warn!(thread, %listen, %error, "the thread cannot listen again");
                }
            }
        }
    }
}
