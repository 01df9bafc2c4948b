//! A running proxy: its threads, and the task that switches their tables. It knows no server;
//! `follow` connects it with one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use model::RouteTable;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::core::{Core, Effect, Event, Standing};
use crate::ports::Ports;
use crate::settings::Settings;
use crate::table::Compiled;
use crate::thread::{self, Command};

/// Interval between attempts to open a listener that could not be opened.
const RETRY: Duration = Duration::from_millis(500);

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
    standing: watch::Receiver<Standing>,
    commands: Vec<UnboundedSender<Command>>,
    workers: Workers,
    control: tokio::task::JoinHandle<()>,
}

/// Where the workers run.
#[derive(Debug)]
enum Workers {
    Threads(Vec<JoinHandle<()>>),
    Local(tokio::task::JoinHandle<()>),
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
        let (mut commands, mut threads) = (Vec::new(), Vec::new());
        for thread in 0..settings.threads {
            let (command, commands_of_thread) = unbounded_channel();
            threads.push(spawn(thread, settings.clone(), events.clone(), commands_of_thread)?);
            commands.push(command);
        }
        Ok(Self::control(events, received, commands, Workers::Threads(threads)))
    }

    /// Starts a proxy without threads: one worker runs as a task of the current runtime and sees
    /// its clock, which a test may pause. Must be called within a `tokio::runtime::LocalRuntime`;
    /// requests that take longer than `Settings::stop_grace` end with that runtime.
    pub fn start_local(settings: Settings) -> Proxy {
        let files_max = getrlimit(Resource::Nofile).current;
        let settings = Settings { threads: 1, ..settings }.within_limits(files_max);
        let (events, received) = unbounded_channel();
        let (command, commands) = unbounded_channel();
        let worker = thread::run(0, Arc::new(settings), events.clone(), commands);
        let worker = tokio::task::spawn_local(worker);
        Self::control(events, received, vec![command], Workers::Local(worker))
    }

    fn control(
        events: UnboundedSender<Event>,
        received: UnboundedReceiver<Event>,
        commands: Vec<UnboundedSender<Command>>,
        workers: Workers,
    ) -> Proxy {
        let (stands, standing) = watch::channel(Standing::default());
        let (core, ports) = (Core::new(commands.len()), Ports::default());
        let control = Control { core, ports, commands: commands.clone(), stands };
        let control = tokio::spawn(control.run(received));
        Proxy { events, standing, commands, workers, control }
    }

    /// Switches to a table, unless the current one is as new. [`Proxy::standing`] shows when all
    /// threads have switched.
    pub fn switch(&self, table: RouteTable) {
        // Fails only while the proxy stops.
        drop(self.events.send(Event::Table(table)));
    }

    /// The current state of the proxy and its changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Closes the listeners and waits for the requests in flight, at most `Settings::stop_grace`.
    pub async fn stop(mut self) {
        for command in &self.commands {
            drop(command.send(Command::Stop));
        }
        let stopped = match &mut self.workers {
            Workers::Threads(threads) => {
                let threads = std::mem::take(threads);
                tokio::task::spawn_blocking(move || {
                    let joined: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
                    joined.iter().all(Result::is_ok)
                })
                .await
            }
            Workers::Local(worker) => worker.await.map(|()| true),
        };
        if !stopped.unwrap_or(false) {
            tracing::error!("a thread of the gateway has panicked");
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
fn spawn(
    thread: usize,
    settings: Arc<Settings>,
    events: UnboundedSender<Event>,
    commands: UnboundedReceiver<Command>,
) -> Result<JoinHandle<()>, Error> {
    let (started, start) = std::sync::mpsc::channel();
    let run = move || {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                drop(started.send(Ok(())));
                runtime.block_on(thread::run(thread, settings, events, commands));
            }
            Err(error) => drop(started.send(Err(error))),
        }
    };
    let name = format!("gateway-{thread}");
    let handle = std::thread::Builder::new().name(name).spawn(run).map_err(Error::Thread)?;
    let ended = || io::Error::other("the thread ended at once");
    start.recv().map_err(|_| ended()).flatten().map_err(Error::Thread)?;
    Ok(handle)
}

/// The shell of [`Core`].
struct Control {
    core: Core,
    ports: Ports,
    commands: Vec<UnboundedSender<Command>>,
    stands: watch::Sender<Standing>,
}

impl Control {
    async fn run(mut self, mut events: UnboundedReceiver<Event>) {
        let mut retry = tokio::time::interval(RETRY);
        loop {
            let event = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => event,
                    None => return,
                },
                _ = retry.tick() => Event::Retry,
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
                    let event = match self.ports.open(listen, self.commands.len()) {
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
                    let compiled = Arc::new(Compiled::new(&table));
                    for command in &self.commands {
                        drop(command.send(Command::Follow(compiled.clone())));
                    }
                }
                Effect::Stand(standing) => {
                    if standing.failed != self.stands.borrow().failed {
                        for (listen, reason) in &standing.failed {
                            tracing::warn!(%listen, %reason, "cannot open the listener");
                        }
                    }
                    self.stands.send_replace(standing);
                }
            }
        }
        // After the table: a request on a new listener must find its routes.
        for sockets in opened {
            for (command, socket) in self.commands.iter().zip(sockets) {
                drop(command.send(Command::Open(socket)));
            }
        }
    }
}
