//! The keeper: a small process that stands between plain processes and the death of their agent.
//!
//! It starts the runs of one agent as its own children, waits for them, and tells the agent over
//! a socket. It decides nothing. The agent may be killed and come back: the keeper tells it all
//! that it holds, ended runs included. The keeper itself may be killed: the next one goes on with
//! what is on disk (`record`), though it cannot learn the exit codes of what is not its child.
//! Without an agent and without anything running, it ends.
//!
//! Everything happens on one thread, in [`Keeper::turn`]; only starting a process, which takes
//! long, and waiting for one to end are done beside it.

mod begin;
mod record;
mod watch;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{Exit, InstanceId, Millis, Signal};
use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::begin::Starts;
use self::record::{Record, Records};
use self::watch::Process;
use super::cgroup::Cgroups;
use super::files::raise_file_limit;
use super::wire::{Request, Tell};

/// The line on standard output that says that agents can connect.
pub(super) const READY: &str = "ready";
/// With nothing to keep and no agent, the keeper stays for so long.
const IDLE: Duration = Duration::from_secs(2);
/// So long a new agent waits for starts that are under way.
const GREETING_WAIT: Duration = Duration::from_secs(5);
/// How long to wait for another keeper of the same directory to end.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How to run a keeper: `muster keeper --dir DIR [--ephemeral]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// Its own directory, below the data directory of its agent.
    pub dir: PathBuf,
    /// Stop everything and end once the agent is gone.
    pub ephemeral: bool,
}

/// Why a keeper cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another keeper has the directory.
    #[error("another keeper is at work in {}", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// Something on disk, or the socket, cannot be used.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

/// Something that happens to the keeper.
#[derive(Debug)]
enum Event {
    /// An agent has connected, in place of the one before.
    Connected(UnixStream),
    /// An agent asks something.
    Asked(Request),
    /// The nth agent is gone.
    Gone(u64),
    /// A start has come to its end.
    Spawned { instance: InstanceId, run: u32, outcome: Result<Process, String> },
    /// A start takes too long; what it may be.
    Overdue { instance: InstanceId, message: String },
    /// The nth agent has waited long enough to be told what is held.
    GreetingDue(u64),
    /// A run has ended.
    Ended { instance: InstanceId, run: u32, end: watch::End, out_of_memory: u64 },
    /// A run was given enough time to stop.
    GraceOver { instance: InstanceId, run: u32 },
}

/// The last run of an instance, as it is.
#[derive(Debug)]
struct Held {
    record: Record,
    /// `None` while its start is under way, and once it has ended.
    process: Option<Process>,
    /// It was told to stop, with this grace.
    stopping: Option<Millis>,
    killed: bool,
}

struct Keeper {
    ephemeral: bool,
    records: Records,
    cgroups: Arc<Cgroups>,
    note: Option<String>,
    held: BTreeMap<InstanceId, Held>,
    starts: Starts,
    /// Starts that have not come to an end, those that were given up included.
    starting: BTreeMap<InstanceId, CancellationToken>,
    agent: Option<mpsc::UnboundedSender<Tell>>,
    /// The agent has been told what is held.
    greeted: bool,
    agents: u64,
    events: mpsc::UnboundedSender<Event>,
}

/// Runs a keeper until there is nothing to keep. Called before anything else is set up in the
/// process, since it becomes its own session.
pub fn run(args: &Args) -> Result<(), Error> {
    // Fails only if it is the leader of a group already, which is as good.
    let _ = rustix::process::setsid();
    // It holds a file for each process. With the usual limit it just holds fewer.
    let _ = raise_file_limit();
    let failed = |doing, source| Error::Io { doing, path: args.dir.clone(), source };
    std::fs::create_dir_all(&args.dir).map_err(|source| failed("make", source))?;
    let _lock = lock(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| failed("run in", source))?;
    let outcome = runtime.block_on(keep(args));
    let _ = std::fs::remove_file(args.dir.join("socket"));
    outcome
}

fn lock(args: &Args) -> Result<File, Error> {
    let path = args.dir.join("lock");
    let failed = |source| Error::Io { doing: "lock", path: path.clone(), source };
    let file = File::create(&path).map_err(failed)?;
    let begun = std::time::Instant::now();
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(failed(error.into()));
        }
        if begun.elapsed() > LOCK_WAIT {
            return Err(Error::InUse { dir: args.dir.clone() });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(file)
}

async fn keep(args: &Args) -> Result<(), Error> {
    let failed = |doing| {
        let path = args.dir.clone();
        move |source| Error::Io { doing, path, source }
    };
    let socket = args.dir.join("socket");
    let _ = std::fs::remove_file(&socket);
    let (path, _dir) = super::socket_path(&args.dir).map_err(failed("open"))?;
    let listener = UnixListener::bind(path).map_err(failed("listen in"))?;
    let records = Records::open(args.dir.join("runs")).map_err(failed("keep records in"))?;
    let (cgroups, note) = Cgroups::detect(&super::digest(&args.dir));
    let (events, mut inbox) = mpsc::unbounded_channel();
    let mut keeper = Keeper {
        ephemeral: args.ephemeral,
        records,
        cgroups: Arc::new(cgroups),
        note,
        held: BTreeMap::new(),
        starts: Starts::new(),
        starting: BTreeMap::new(),
        agent: None,
        greeted: false,
        agents: 0,
        events,
    };
    keeper.take_over().map_err(failed("read records in"))?;
    // The agent that started it reads this line; nobody else sees its output.
    let _ = rustix::io::write(rustix::stdio::stdout(), format!("{READY}\n").as_bytes());
    loop {
        let idle = async {
            match keeper.may_end() {
                true => tokio::time::sleep(IDLE).await,
                false => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            Some(event) = inbox.recv() => event,
            Ok((stream, _)) = listener.accept() => Event::Connected(stream),
            () = idle => break,
        };
        let agent_is_gone = matches!(event, Event::Gone(_));
        keeper.turn(event);
        if keeper.ephemeral && keeper.agents > 0 && keeper.agent.is_none() {
            if agent_is_gone {
                keeper.stop_all();
            }
            if !keeper.is_running() {
                break;
            }
        }
    }
    keeper.cgroups.remove();
    Ok(())
}

impl Keeper {
    /// Goes on with the runs that an earlier keeper has left.
    fn take_over(&mut self) -> io::Result<()> {
        for (mut record, alive) in self.records.read()? {
            let cgroup = self.cgroups.of(&record.instance.slug());
            let process =
                alive.and_then(|identity| Process::open(identity.pid, cgroup.clone()).ok());
            if let Some(process) = &process {
                self.watch(&record.instance, record.run, process.clone());
            } else if record.exit.is_none() {
                record.exit = Some(watch::unseen(&cgroup, &record.memory));
                self.records.write(&record)?;
            }
            let held = Held { record, process, stopping: None, killed: false };
            self.held.insert(held.record.instance.clone(), held);
        }
        Ok(())
    }

    fn is_running(&self) -> bool {
        // What a start that was given up may still bring forth must be killed.
        self.held.values().any(|held| held.record.exit.is_none()) || !self.starting.is_empty()
    }

    fn may_end(&self) -> bool {
        self.agent.is_none() && !self.is_running()
    }

    fn tell(&mut self, tell: Tell) {
        if let Some(agent) = self.agent.as_ref().filter(|_| self.greeted) {
            // An agent that is gone will be told all when it comes again.
            let _ = agent.send(tell);
        }
    }

    fn turn(&mut self, event: Event) {
        match event {
            Event::Connected(stream) => self.connected(stream),
            Event::Gone(number) if number == self.agents => self.agent = None,
            Event::Gone(_) => {}
            Event::Asked(Request::Start(start)) => self.start(*start),
            Event::Asked(Request::Stop { instance, run, signal, grace }) => {
                self.stop(&instance, run, signal, grace);
            }
            Event::Asked(Request::Forget { instance }) => {
                if self.held.get(&instance).is_some_and(|held| held.record.exit.is_some()) {
                    self.held.remove(&instance);
                    self.records.remove(&instance);
                }
            }
            Event::Spawned { instance, run, outcome } => self.spawned(&instance, run, outcome),
            Event::Overdue { instance, message } => self.give_up(&instance, message),
            Event::GreetingDue(number) => {
                if number == self.agents && !self.greeted {
                    let under_way: Vec<_> = self.starting.keys().cloned().collect();
                    for instance in under_way {
                        self.give_up(&instance, "its start took too long".into());
                    }
                    self.greet();
                }
            }
            Event::Ended { instance, run, end, out_of_memory } => {
                self.ended(&instance, run, end, out_of_memory);
            }
            Event::GraceOver { instance, run } => {
                if let Some(held) = self.held.get_mut(&instance)
                    && held.record.run == run
                {
                    held.kill();
                }
            }
        }
    }

    fn connected(&mut self, stream: UnixStream) {
        self.agents += 1;
        let (reader, mut writer) = stream.into_split();
        let (tells, mut outbox) = mpsc::unbounded_channel();
        self.agent = Some(tells);
        self.greeted = false;
        self.greet();
        tokio::spawn(async move {
            while let Some(tell) = outbox.recv().await {
                let Ok(mut line) = serde_json::to_vec(&tell) else { continue };
                line.push(b'\n');
                if writer.write_all(&line).await.is_err() {
                    break;
                }
            }
        });
        let (events, number) = (self.events.clone(), self.agents);
        let later = events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GREETING_WAIT).await;
            let _ = later.send(Event::GreetingDue(number));
        });
        tokio::spawn(async move {
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // What a newer agent asks and this keeper does not know, it cannot do.
                if let Ok(request) = serde_json::from_str(&line) {
                    let _ = events.send(Event::Asked(request));
                }
            }
            let _ = events.send(Event::Gone(number));
        });
    }

    /// Tells a new agent what is held, once no start is under way: of one that is, it is not
    /// known yet whether there is anything to hold. An agent is not left waiting for ever: what
    /// has not started by then is given up.
    fn greet(&mut self) {
        let starting = |held: &Held| held.process.is_none() && held.record.exit.is_none();
        if self.greeted || self.held.values().any(starting) {
            return;
        }
        self.greeted = true;
        let records: Vec<_> = self.held.values().map(|held| held.record.clone()).collect();
        for Record { instance, run, started_at, exit, .. } in records {
            self.tell(Tell::Held { instance, run, started_at, exit });
        }
        self.tell(Tell::AllHeld);
        if let Some(message) = self.note.clone() {
            self.tell(Tell::Note { message });
        }
    }

    fn watch(&self, instance: &InstanceId, run: u32, process: Process) {
        let (events, instance) = (self.events.clone(), instance.clone());
        tokio::spawn(async move {
            let (end, out_of_memory) = process.ended().await;
            let _ = events.send(Event::Ended { instance, run, end, out_of_memory });
        });
    }

    fn ended(&mut self, instance: &InstanceId, run: u32, end: watch::End, out_of_memory: u64) {
        let Some(held) = self.held.get_mut(instance).filter(|held| held.record.run == run) else {
            return;
        };
        let why = held.stopping.map(|grace| format!("it had not ended {grace} after it was asked"));
        let killed = why.as_deref().filter(|_| held.killed);
        let exit: Exit = watch::exit(end, out_of_memory, &held.record.memory, killed);
        held.process = None;
        held.record.exit = Some(exit.clone());
        if let Err(error) = self.records.write(&held.record) {
            let message = format!("the end of {instance} cannot be recorded: {error}");
            self.tell(Tell::Note { message });
        }
        self.tell(Tell::Ended { instance: instance.clone(), run, exit });
    }

    fn stop(&mut self, instance: &InstanceId, run: u32, signal: Signal, grace: Millis) {
        match self.held.get_mut(instance).filter(|held| held.record.run == run) {
            Some(held) if held.record.exit.is_none() => {
                if held.stopping.replace(grace).is_some() {
                    // Asked again: it has been killed already, or will be when its grace is over.
                    if held.killed {
                        held.kill();
                    }
                    return;
                }
                if let Some(process) = &held.process {
                    process.signal(signal);
                }
                let (events, instance) = (self.events.clone(), instance.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(grace.0)).await;
                    let _ = events.send(Event::GraceOver { instance, run });
                });
            }
            Some(held) => {
                let exit = held.record.exit.clone();
                if let Some(exit) = exit {
                    self.tell(Tell::Ended { instance: instance.clone(), run, exit });
                }
            }
            None => {
                let message = "it was not running".into();
                self.tell(Tell::NotStarted { instance: instance.clone(), run, message });
            }
        }
    }

    fn stop_all(&mut self) {
        let running = self.held.values().filter(|held| held.record.exit.is_none());
        let all: Vec<_> = running
            .map(|held| (held.record.instance.clone(), held.record.run, held.record.stop))
            .collect();
        for (instance, run, (signal, grace)) in all {
            self.stop(&instance, run, signal, grace);
        }
    }
}

impl Held {
    fn kill(&mut self) {
        if let Some(process) = &self.process {
            self.killed = true;
            process.kill();
        }
    }
}
