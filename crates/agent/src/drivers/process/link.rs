//! The agent's side of the keeper: finds or starts it, sends requests, and forwards its reports. If
//! the keeper is killed, the next one is started at once, and runs that ended meanwhile are
//! reported as if they had just ended.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;

use api::Backoff;
use model::{Ending, Exit, InstanceResource, Piece, Signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};

use super::wire::{KeeperEvent, Request};
use super::{Settings, keeper, socket_path, spawn};
use crate::drivers::directory::make_dir;
use crate::drivers::{DriverEvent, Found};

/// Bounds of the delay between two attempts to start a keeper.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Timeout for a keeper to be ready, and to report its runs.
const READY_WAIT: Duration = Duration::from_secs(15);

/// A request of the driver to its link.
#[derive(Debug)]
pub(super) enum LinkRequest {
    /// Report all runs that exist.
    Adopt(oneshot::Sender<Result<Vec<Found>, String>>),
    /// Forward this request to the keeper.
    Keeper(Request),
    /// Send a signal to the process of a run that goes on running.
    Signal { piece: Piece, signal: Signal, reply: oneshot::Sender<Result<(), String>> },
    /// Suspend or resume the processes of a run.
    Suspend { piece: Piece, suspend: bool, reply: oneshot::Sender<Result<(), String>> },
}

/// Why there is no connection to a keeper.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the keeper cannot be started")]
    Start(#[source] io::Error),
    #[error("the keeper has ended before it was ready: {why}")]
    Ended { why: String },
    #[error("the keeper was not ready within {} s", READY_WAIT.as_secs())]
    NotReady,
    #[error("the connection to the keeper was lost")]
    Lost,
}

/// The agent's knowledge of the keeper's runs.
#[derive(Debug)]
pub(super) struct Link {
    settings: Settings,
    events: mpsc::UnboundedSender<DriverEvent>,
    /// The last run of each resource, as reported.
    known: BTreeMap<InstanceResource, Found>,
    /// The numbers of the runs that were requested and have neither started nor failed.
    starting: BTreeMap<InstanceResource, u32>,
    /// The requests to stop runs that have not ended.
    stopping: BTreeMap<InstanceResource, Request>,
    /// The requests to suspend or resume runs that await a response of the present keeper.
    suspending: BTreeMap<Piece, oneshot::Sender<Result<(), String>>>,
    adopted: bool,
}

struct Connection {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    /// Whether the keeper distinguishes the resources of an instance.
    stacks: bool,
    /// Whether the keeper sends signals to processes that go on running.
    signals: bool,
    /// Whether the keeper suspends processes.
    suspends: bool,
}

impl Link {
    pub(super) fn new(settings: Settings, events: mpsc::UnboundedSender<DriverEvent>) -> Link {
        let (known, starting, stopping, suspending) = Default::default();
        Link { settings, events, known, starting, stopping, suspending, adopted: false }
    }

    /// Serves requests until the driver is dropped.
    pub(super) async fn follow(mut self, mut requests: mpsc::UnboundedReceiver<LinkRequest>) {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX, &self.settings.keeper_dir);
        loop {
            match self.connect().await {
                Ok(mut connection) => {
                    backoff.reset();
                    let ended_by = self.relay(&mut connection, &mut requests).await;
                    // Whoever waits for a response learns that none will come.
                    self.suspending.clear();
                    match ended_by {
                        Some(error) => tracing::warn!("{error}"),
                        None => return,
                    }
                }
                Err(error) => {
                    let message = api::error_chain(&error);
                    tracing::error!("{message}");
                    let delay = backoff.next_delay();
                    if self.reject_for(delay, &message, &mut requests).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Connects to a keeper, starting one if necessary, and receives the list of its runs.
    async fn connect(&mut self) -> Result<Connection, Error> {
        if let Ok(stream) = self.dial().await {
            // A keeper that is about to end may still accept.
            if let Ok(connection) = self.take_over(stream).await {
                return Ok(connection);
            }
        }
        self.start_keeper().await?;
        let stream = self.dial().await.map_err(|_| Error::Lost)?;
        self.take_over(stream).await
    }

    async fn take_over(&mut self, stream: UnixStream) -> Result<Connection, Error> {
        let (reader, writer) = stream.into_split();
        let lines = BufReader::new(reader).lines();
        let (stacks, signals, suspends) = (false, false, false);
        let mut connection = Connection { lines, writer, stacks, signals, suspends };
        let held = tokio::time::timeout(READY_WAIT, held(&mut connection));
        let held = held.await.map_err(|_| Error::Lost)??;
        self.compare(held);
        for stop in self.stopping.clone().into_values() {
            connection.send(&stop).await?;
        }
        Ok(connection)
    }

    async fn dial(&self) -> io::Result<UnixStream> {
        let (path, _dir) = socket_path(&self.settings.keeper_dir)?;
        UnixStream::connect(path).await
    }

    async fn start_keeper(&self) -> Result<(), Error> {
        let Settings { keeper_dir, keeper_exe, ephemeral, .. } = &self.settings;
        make_dir(keeper_dir, 0o700).map_err(Error::Start)?;
        let log = keeper_dir.join("log");
        let stderr = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
        let mut command = Command::new(keeper_exe);
        command.arg("keeper").arg("--dir").arg(keeper_dir);
        if *ephemeral {
            command.arg("--ephemeral");
        }
        spawn::with_file_limit(command.as_std_mut());
        let mut child = command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr.map_err(Error::Start)?)
            .spawn()
            .map_err(Error::Start)?;
        let stdout = child.stdout.take();
        // The keeper outlives the agent, but while the agent runs, it must be reaped like any
        // child.
        let ended = tokio::spawn(async move { child.wait().await });
        let ready = async {
            let mut lines = BufReader::new(stdout?).lines();
            while lines.next_line().await.ok()?? != keeper::READY {}
            Some(())
        };
        match tokio::time::timeout(READY_WAIT, ready).await {
            Ok(Some(())) => return Ok(()),
            Ok(None) => {}
            Err(_) => return Err(Error::NotReady),
        }
        let status = match tokio::time::timeout(READY_WAIT, ended).await {
            Ok(Ok(Ok(status))) => status.to_string(),
            _ => "its standard output is closed".into(),
        };
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().next_back().unwrap_or("it printed nothing");
        Err(Error::Ended { why: format!("{status}; the end of {}: {last}", log.display()) })
    }

    /// Applies the runs that a keeper reports; emits the differences from the previous keeper.
    fn compare(&mut self, held: Vec<Found>) {
        let held: BTreeMap<_, _> = held.into_iter().map(|f| (f.piece.of(), f)).collect();
        let before = std::mem::replace(&mut self.known, held.clone());
        for (of, run) in std::mem::take(&mut self.starting) {
            let piece = of.run(run);
            match held.get(&of).filter(|found| found.piece == piece) {
                Some(found) => {
                    let at = found.started_at;
                    self.emit(DriverEvent::Started { piece: piece.clone(), at });
                    if let Some(exit) = found.exit.clone() {
                        self.ended(piece, exit);
                    }
                }
                None => {
                    let message = "the keeper was killed before it was started".into();
                    self.emit(DriverEvent::NotStarted { piece, message, driver_unavailable: true });
                }
            }
        }
        for (of, Found { piece, exit, .. }) in before {
            let now = held.get(&of).filter(|found| found.piece == piece);
            match (exit, now.map(|found| found.exit.clone())) {
                (None, Some(Some(exit))) => self.ended(piece, exit),
                (None, None) => {
                    let how = Ending::Unseen { absent: "its keeper".into() };
                    let exit = Exit { at: super::now(), how };
                    self.ended(piece, exit);
                }
                _ => {}
            }
        }
    }

    fn ended(&mut self, piece: Piece, exit: Exit) {
        self.stopping.remove(&piece.of());
        self.emit(DriverEvent::Exited { piece, exit });
    }

    fn emit(&self, event: DriverEvent) {
        if self.adopted {
            // Only fails while the agent is shutting down.
            let _ = self.events.send(event);
        }
    }

    /// Relays requests and reports until the connection is lost; returns `None` once the driver is
    /// dropped.
    async fn relay(
        &mut self,
        connection: &mut Connection,
        requests: &mut mpsc::UnboundedReceiver<LinkRequest>,
    ) -> Option<Error> {
        loop {
            tokio::select! {
                link_request = requests.recv() => match link_request? {
                    LinkRequest::Adopt(reply) => {
                        self.adopted = true;
                        let _ = reply.send(Ok(self.known.values().cloned().collect()));
                    }
                    LinkRequest::Keeper(Request::Start(start)) if !connection.can_start(&start.piece) => {
                        let message = "the processes of this node are held by a keeper of an \
                            earlier version, which ends once they have: until then no stack of \
                            several resources can start here";
                        let (piece, message) = (start.piece, message.into());
                        self.emit(DriverEvent::NotStarted { piece, message, driver_unavailable: false });
                    }
                    LinkRequest::Signal { piece, signal, reply } if connection.signals => {
                        let sent = connection.send(&Request::Signal { piece, signal }).await;
                        let error = sent.err();
                        let _ = reply.send(error.as_ref().map_or(Ok(()), |e| Err(e.to_string())));
                        if let Some(error) = error {
                            return Some(error);
                        }
                    }
                    LinkRequest::Signal { reply, .. } => {
                        let message = "the processes of this node are held by a keeper of an \
                            earlier version, which cannot send signals: restart the instance";
                        let _ = reply.send(Err(message.into()));
                    }
                    LinkRequest::Suspend { piece, suspend, reply } if connection.suspends => {
                        self.suspending.insert(piece.clone(), reply);
                        let request = Request::Suspend { piece, suspend };
                        if let Err(error) = connection.send(&request).await {
                            return Some(error);
                        }
                    }
                    LinkRequest::Suspend { suspend, reply, .. } => {
                        let message = "the processes of this node are held by a keeper of an \
                            earlier version, which cannot suspend them: stop the service instead";
                        // It has suspended none.
                        let _ = reply.send(if suspend { Err(message.into()) } else { Ok(()) });
                    }
                    LinkRequest::Keeper(request) => {
                        self.track(&request);
                        if let Err(error) = connection.send(&request).await {
                            return Some(error);
                        }
                    }
                },
                line = connection.lines.next_line() => match line {
                    Ok(Some(line)) => {
                        if let Ok(event) = serde_json::from_str(&line) {
                            self.receive(event);
                        }
                    }
                    Ok(None) | Err(_) => return Some(Error::Lost),
                },
            }
        }
    }

    fn track(&mut self, request: &Request) {
        match request {
            Request::Start(start) => {
                self.starting.insert(start.piece.of(), start.piece.run);
            }
            Request::Stop { piece, .. } => {
                self.stopping.insert(piece.of(), request.clone());
            }
            Request::Forget { of } => {
                self.known.remove(of);
            }
            Request::Signal { .. } | Request::Suspend { .. } => {}
        }
    }

    fn receive(&mut self, event: KeeperEvent) {
        match event {
            KeeperEvent::Started { piece, at } => {
                let of = piece.of();
                self.starting.remove(&of);
                let suspended = false;
                let found = Found { piece: piece.clone(), started_at: at, exit: None, suspended };
                self.known.insert(of, found);
                self.emit(DriverEvent::Started { piece, at });
            }
            KeeperEvent::NotStarted { piece, message } => {
                let of = piece.of();
                self.starting.remove(&of);
                self.stopping.remove(&of);
                self.emit(DriverEvent::NotStarted { piece, message, driver_unavailable: false });
            }
            KeeperEvent::Ended { piece, exit } => {
                if let Some(found) = self.known.get_mut(&piece.of()).filter(|f| f.piece == piece) {
                    found.exit = Some(exit.clone());
                }
                self.ended(piece, exit);
            }
            KeeperEvent::Suspended { piece, suspend, error } => {
                if let Some(found) = self.known.get_mut(&piece.of()).filter(|f| f.piece == piece) {
                    found.suspended = suspend;
                }
                if let Some(reply) = self.suspending.remove(&piece) {
                    let _ = reply.send(error.map_or(Ok(()), Err));
                }
            }
            KeeperEvent::Note { message } => tracing::warn!("{message}"),
            KeeperEvent::Held { .. } | KeeperEvent::AllHeld { .. } => {}
        }
    }

    /// Handles requests without a keeper, for `span`: starts are rejected, stops are stored.
    /// Returns `None` once the driver is dropped.
    async fn reject_for(
        &mut self,
        span: Duration,
        why: &str,
        requests: &mut mpsc::UnboundedReceiver<LinkRequest>,
    ) -> Option<()> {
        let over = tokio::time::sleep(span);
        tokio::pin!(over);
        loop {
            let link_request = tokio::select! {
                () = &mut over => return Some(()),
                link_request = requests.recv() => link_request?,
            };
            match link_request {
                LinkRequest::Adopt(reply) => {
                    let _ = reply.send(Err(why.into()));
                }
                LinkRequest::Signal { reply, .. } | LinkRequest::Suspend { reply, .. } => {
                    let _ = reply.send(Err(why.into()));
                }
                LinkRequest::Keeper(Request::Start(start)) => self.emit(DriverEvent::NotStarted {
                    piece: start.piece,
                    message: why.into(),
                    driver_unavailable: true,
                }),
                LinkRequest::Keeper(request) => self.track(&request),
            }
        }
    }
}

impl Connection {
    fn can_start(&self, piece: &Piece) -> bool {
        self.stacks || piece.resource.is_main()
    }

    async fn send(&mut self, request: &Request) -> Result<(), Error> {
        let Ok(mut line) = serde_json::to_vec(request) else { return Ok(()) };
        line.push(b'\n');
        self.writer.write_all(&line).await.map_err(|_| Error::Lost)
    }
}

async fn held(connection: &mut Connection) -> Result<Vec<Found>, Error> {
    let mut all = Vec::new();
    loop {
        let line = connection.lines.next_line().await.ok().flatten().ok_or(Error::Lost)?;
        match serde_json::from_str(&line) {
            Ok(KeeperEvent::Held { piece, started_at, exit, suspended }) => {
                all.push(Found { piece, started_at, exit, suspended });
            }
            Ok(KeeperEvent::AllHeld { stacks, signals, suspends }) => {
                connection.stacks = stacks;
                connection.signals = signals;
                connection.suspends = suspends;
                return Ok(all);
            }
            Ok(_) | Err(_) => {}
        }
    }
}
