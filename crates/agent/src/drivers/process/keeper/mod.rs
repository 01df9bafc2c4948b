//! The keeper: a small supervisor process (a shim) that lets plain processes outlive the agent that
//! started them.
//!
//! It starts the runs of one agent as its own children, waits for them, and reports to the agent
//! over a socket. It makes no decisions. When the agent is killed and restarted, the keeper reports
//! all its runs, including those that have ended. When the keeper is killed, the next one continues
//! from the records on disk (`record`), though it cannot obtain the exit codes of processes that
//! are not its children. A keeper without an agent and without a running process ends.
//!
//! All events are handled on one thread, in [`Keeper::turn`]. Only starting a process, which can
//! block, and waiting for its end happen in other tasks.

mod begin;
mod family;
mod record;
mod suspend;
mod watch;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{Exit, InstanceResource, Millis, Piece, Signal};
use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::begin::Starts;
use self::record::{Record, Records};
use self::watch::Process;
use super::cgroup::Cgroups;
use super::inherited::take_over_files;
use super::wire::{KeeperEvent, Request};
use crate::drivers::directory::make_dir;

/// The line that is written to standard output once agents can connect.
pub(super) const READY: &str = "ready";
/// How long a keeper without processes and without an agent remains.
const IDLE: Duration = Duration::from_secs(2);
/// How long a new agent waits for starts in progress.
const REPORT_HELD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for another keeper of the same directory to end.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The arguments of a keeper: `muster keeper --dir DIR [--ephemeral]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// Its own directory, below the data directory of its agent.
    pub dir: PathBuf,
    /// Stop all runs and end once the agent disconnects.
    pub ephemeral: bool,
}

/// Why a keeper cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another keeper uses the directory.
    #[error("another keeper is at work in {}", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// A file, or the socket, cannot be used.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The path that was used.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// An input of the keeper's loop.
#[derive(Debug)]
enum Event {
    /// An agent has connected and replaces the previous one.
    Connected(UnixStream),
    /// A request of the agent.
    Asked(Request),
    /// The nth agent has disconnected.
    Gone(u64),
    /// A start has returned, including one that was cancelled.
    Spawned { piece: Piece, outcome: Result<Process, String> },
    /// A start has exceeded its timeout; the message names the likely cause.
    Overdue { of: InstanceResource, message: String },
    /// The nth agent has waited [`REPORT_HELD_TIMEOUT`] for the reports of existing runs.
    GreetingDue(u64),
    /// A run has ended.
    Ended { piece: Piece, end: watch::End, out_of_memory: u64 },
    /// A request to suspend or resume the processes of a run has returned.
    Suspended { piece: Piece, suspend: bool, outcome: io::Result<()> },
    /// The grace period of a stop has passed.
    GraceOver(Piece),
}

/// The last run of a resource.
#[derive(Debug)]
struct Held {
    record: Record,
    /// `None` during its start, and after its end.
    process: Option<Process>,
    /// The grace period of the stop that was requested.
    stopping: Option<Millis>,
    killed: bool,
    /// A request to suspend or resume it is in progress; the inner value is the next one.
    suspending: Option<Option<bool>>,
}

struct Keeper {
    ephemeral: bool,
    records: Records,
    cgroups: Arc<Cgroups>,
    note: Option<String>,
    held: BTreeMap<InstanceResource, Held>,
    starts: Starts,
    /// Starts that have not returned, including those that were cancelled.
    starting: BTreeMap<InstanceResource, CancellationToken>,
    agent: Option<mpsc::UnboundedSender<KeeperEvent>>,
    /// The agent has received the reports of existing runs.
    greeted: bool,
    agents: u64,
    events: mpsc::UnboundedSender<Event>,
}

/// Runs a keeper until it has no processes and no agent. Must be called before anything else is set
/// up in the process, since the process becomes the leader of a new session.
pub fn run(args: &Args) -> Result<(), Error> {
    // Fails only if the process already is a group leader, which is equivalent here.
    let _ = rustix::process::setsid();
    // The keeper holds a file descriptor for each process. With the default limit it can only hold
    // fewer.
    let _ = take_over_files();
    let failed = |doing, source| Error::Io { doing, path: args.dir.clone(), source };
    make_dir(&args.dir, 0o700).map_err(|source| failed("make", source))?;
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
    // The agent that started it reads this line; standard output has no other reader.
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
            Ok((stream, _)) = listener.accept() => match is_agent(&stream) {
                true => Event::Connected(stream),
                false => continue,
            },
            () = idle => break,
        };
        let agent_has_left = matches!(event, Event::Gone(_));
        keeper.turn(event);
        if keeper.ephemeral && keeper.agents > 0 && keeper.agent.is_none() {
            if agent_has_left {
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

/// Whether the other side is the agent, by its user.
fn is_agent(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| may_be_agent(peer.uid(), own))
}

/// A keeper starts any program as any user for its agent, so it serves only its own user and root.
fn may_be_agent(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

impl Keeper {
    /// Takes over the runs of an earlier keeper.
    fn take_over(&mut self) -> io::Result<()> {
        for (mut record, alive) in self.records.read()? {
            let of = record.piece.of();
            let cgroup = self.cgroups.of(&of.slug());
            let process =
                alive.and_then(|identity| Process::open(identity.pid, cgroup.clone()).ok());
            if let Some(process) = &process {
                self.watch(record.piece.clone(), process.clone());
            } else if record.exit.is_none() {
                record.exit = Some(watch::exit_without_keeper(&cgroup, &record.memory));
                self.records.write(&record)?;
            }
            let held = Held { record, process, stopping: None, killed: false, suspending: None };
            let piece = held.record.piece.clone();
            let is_suspended = held.record.suspended && held.process.is_some();
            self.held.insert(of, held);
            if is_suspended {
                // The earlier keeper may have been killed before it had suspended all processes.
                self.begin_suspend(&piece, true);
            }
        }
        Ok(())
    }

    fn is_running(&self) -> bool {
        // A cancelled start may still produce a process, which must be killed.
        self.held.values().any(|held| held.record.exit.is_none()) || !self.starting.is_empty()
    }

    fn may_end(&self) -> bool {
        self.agent.is_none() && !self.is_running()
    }

    fn send_event(&mut self, event: KeeperEvent) {
        if let Some(agent) = self.agent.as_ref().filter(|_| self.greeted) {
            // An agent that has disconnected receives everything when it returns.
            let _ = agent.send(event);
        }
    }

    fn turn(&mut self, event: Event) {
        match event {
            Event::Connected(stream) => self.connected(stream),
            Event::Gone(number) if number == self.agents => self.agent = None,
            Event::Gone(_) => {}
            Event::Asked(Request::Start(start)) => self.start(*start),
            Event::Asked(Request::Stop { piece, signal, grace }) => {
                self.stop(piece, signal, grace);
            }
            Event::Asked(Request::Signal { piece, signal }) => {
                if let Some(process) = self.held_run(&piece).and_then(|held| held.process.as_ref())
                {
                    process.notify(signal);
                }
            }
            Event::Asked(Request::Suspend { piece, suspend }) => self.suspend(&piece, suspend),
            Event::Suspended { piece, suspend, outcome } => {
                self.suspended(&piece, suspend, outcome);
            }
            Event::Asked(Request::Forget { of }) => {
                if self.held.get(&of).is_some_and(|held| held.record.exit.is_some()) {
                    self.held.remove(&of);
                    self.records.remove(&of);
                }
            }
            Event::Spawned { piece, outcome } => self.spawned(piece, outcome),
            Event::Overdue { of, message } => self.give_up(&of, message),
            Event::GreetingDue(number) => {
                if number == self.agents && !self.greeted {
                    let in_flight: Vec<_> = self.starting.keys().cloned().collect();
                    for of in in_flight {
                        self.give_up(&of, "its start took too long".into());
                    }
                    self.report_held();
                }
            }
            Event::Ended { piece, end, out_of_memory } => self.ended(piece, end, out_of_memory),
            Event::GraceOver(piece) => {
                if let Some(held) = self.held_run(&piece) {
                    held.kill();
                }
            }
        }
    }

    fn held_run(&mut self, piece: &Piece) -> Option<&mut Held> {
        self.held.get_mut(&piece.of()).filter(|held| held.record.piece == *piece)
    }

    fn connected(&mut self, stream: UnixStream) {
        self.agents += 1;
        let (reader, mut writer) = stream.into_split();
        let (sender, mut outbox) = mpsc::unbounded_channel();
        self.agent = Some(sender);
        self.greeted = false;
        self.report_held();
        tokio::spawn(async move {
            while let Some(event) = outbox.recv().await {
                let Ok(mut line) = serde_json::to_vec(&event) else { continue };
                line.push(b'\n');
                if writer.write_all(&line).await.is_err() {
                    break;
                }
            }
        });
        let (events, number) = (self.events.clone(), self.agents);
        let later = events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(REPORT_HELD_TIMEOUT).await;
            let _ = later.send(Event::GreetingDue(number));
        });
        tokio::spawn(async move {
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // Requests of a newer agent that this keeper does not know are ignored.
                if let Ok(request) = serde_json::from_str(&line) {
                    let _ = events.send(Event::Asked(request));
                }
            }
            let _ = events.send(Event::Gone(number));
        });
    }

    /// Reports the existing runs to a new agent, once no start is in progress: until a start has
    /// returned, it is not known whether it leaves a process. After [`REPORT_HELD_TIMEOUT`], starts
    /// that have not returned are cancelled.
    fn report_held(&mut self) {
        let starting = |held: &Held| held.process.is_none() && held.record.exit.is_none();
        if self.greeted || self.held.values().any(starting) {
            return;
        }
        self.greeted = true;
        let records: Vec<_> = self.held.values().map(|held| held.record.clone()).collect();
        for Record { piece, started_at, exit, suspended, .. } in records {
            self.send_event(KeeperEvent::Held { piece, started_at, exit, suspended });
        }
        self.send_event(KeeperEvent::AllHeld { stacks: true, signals: true, suspends: true });
        if let Some(message) = self.note.clone() {
            self.send_event(KeeperEvent::Note { message });
        }
    }

    fn watch(&self, piece: Piece, process: Process) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let (end, out_of_memory) = process.ended().await;
            let _ = events.send(Event::Ended { piece, end, out_of_memory });
        });
    }

    fn ended(&mut self, piece: Piece, end: watch::End, out_of_memory: u64) {
        let Some(held) = self.held_run(&piece) else { return };
        let why =
            held.stopping.map(|grace| format!("it had not exited {grace} after the stop signal"));
        let killed = why.as_deref().filter(|_| held.killed);
        let exit: Exit = watch::exit(end, out_of_memory, &held.record.memory, killed);
        held.process = None;
        held.record.exit = Some(exit.clone());
        held.record.suspended = false;
        let record = held.record.clone();
        if let Err(error) = self.records.write(&record) {
            let message = format!("the end of {piece} cannot be recorded: {error}");
            self.send_event(KeeperEvent::Note { message });
        }
        self.send_event(KeeperEvent::Ended { piece, exit });
    }

    fn stop(&mut self, piece: Piece, signal: Signal, grace: Millis) {
        match self.held_run(&piece) {
            Some(held) if held.record.exit.is_none() => {
                if held.stopping.replace(grace).is_some() {
                    // A repeated request: the run was killed already, or will be after its grace
                    // period.
                    if held.killed {
                        held.kill();
                    }
                    return;
                }
                let stopped = held.process.as_ref().map_or(Ok(()), |process| process.stop(signal));
                if let Err(error) = stopped {
                    let message = format!("{piece} cannot be resumed to stop: {error}");
                    self.send_event(KeeperEvent::Note { message });
                }
                let events = self.events.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(grace.0)).await;
                    let _ = events.send(Event::GraceOver(piece));
                });
            }
            Some(held) => {
                let exit = held.record.exit.clone();
                if let Some(exit) = exit {
                    self.send_event(KeeperEvent::Ended { piece, exit });
                }
            }
            None => {
                let message = "it was not running".into();
                self.send_event(KeeperEvent::NotStarted { piece, message });
            }
        }
    }

    fn stop_all(&mut self) {
        let running = self.held.values().filter(|held| held.record.exit.is_none());
        let all: Vec<_> =
            running.map(|held| (held.record.piece.clone(), held.record.stop)).collect();
        for (piece, (signal, grace)) in all {
            self.stop(piece, signal, grace);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_user_and_root_may_ask_a_keeper() {
        for (peer, own, expected) in [(0, 0, true), (7, 7, true), (0, 7, true), (7, 0, false)] {
            assert_eq!(may_be_agent(peer, own), expected, "user {peer} of {own}");
        }
    }
}
