//! The agent's side of the keeper: finds it or starts it, asks it, and tells what it tells. When
//! the keeper is killed, the next one is started at once, and what has become of the runs
//! meanwhile is told as if it had just happened.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use api::Backoff;
use model::{Exit, InstanceId};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};

use super::wire::{Request, Tell};
use super::{Settings, keeper, socket_path, spawn};
use crate::drivers::{Found, Told};

/// Bounds of the delay between two attempts to start a keeper.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// So long a keeper may take to be ready, or to tell what it holds.
const READY_WAIT: Duration = Duration::from_secs(15);

/// What the driver asks of its link.
#[derive(Debug)]
pub(super) enum Ask {
    /// What is there.
    Adopt(oneshot::Sender<Result<Vec<Found>, String>>),
    /// Something of the keeper.
    Keeper(Request),
}

/// Why there is no keeper to talk to.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the keeper cannot be started")]
    Start(#[source] io::Error),
    #[error("the keeper has ended before it was ready; {log} may say why")]
    NotReady { log: String },
    #[error("the connection to the keeper was lost")]
    Lost,
}

/// What the agent knows of the keeper's runs.
#[derive(Debug)]
pub(super) struct Link {
    settings: Settings,
    told: mpsc::UnboundedSender<Told>,
    /// The last run of each instance, as told.
    known: BTreeMap<InstanceId, Found>,
    /// Starts that were asked for and not answered.
    starting: BTreeMap<InstanceId, u32>,
    /// Stops that were asked for, of runs that have not ended.
    stopping: BTreeMap<InstanceId, Request>,
    adopted: bool,
}

struct Connection {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Link {
    pub(super) fn new(settings: Settings, told: mpsc::UnboundedSender<Told>) -> Link {
        let (known, starting, stopping) = Default::default();
        Link { settings, told, known, starting, stopping, adopted: false }
    }

    /// Works until the driver is dropped.
    pub(super) async fn follow(mut self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX, &self.settings.keeper_dir);
        loop {
            match self.connect().await {
                Ok(mut connection) => {
                    backoff.reset();
                    match self.talk(&mut connection, &mut asks).await {
                        Some(error) => tracing::warn!("{error}"),
                        None => return,
                    }
                }
                Err(error) => {
                    let message = api::in_full(&error);
                    tracing::error!("{message}");
                    let delay = backoff.next_delay();
                    if self.refuse_for(delay, &message, &mut asks).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Connects to a keeper, starting one if need be, and takes over what it holds.
    async fn connect(&mut self) -> Result<Connection, Error> {
        if let Ok(stream) = self.dial().await {
            // One that is just about to end may still accept.
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
        let mut connection = Connection { lines, writer };
        let held = tokio::time::timeout(READY_WAIT, held(&mut connection));
        let held = held.await.map_err(|_| Error::Lost)??;
        self.compare(held);
        for stop in self.stopping.clone().into_values() {
            connection.ask(&stop).await?;
        }
        Ok(connection)
    }

    async fn dial(&self) -> io::Result<UnixStream> {
        let (path, _dir) = socket_path(&self.settings.keeper_dir)?;
        UnixStream::connect(path).await
    }

    async fn start_keeper(&self) -> Result<(), Error> {
        let Settings { keeper_dir, keeper_exe, ephemeral, .. } = &self.settings;
        std::fs::create_dir_all(keeper_dir).map_err(Error::Start)?;
        let log = keeper_dir.join("log");
        let stderr = OpenOptions::new().create(true).append(true).open(&log);
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
        let ready = async {
            let stdout = child.stdout.take()?;
            let mut lines = BufReader::new(stdout).lines();
            while lines.next_line().await.ok()?? != keeper::READY {}
            Some(())
        };
        let ready = tokio::time::timeout(READY_WAIT, ready).await;
        // It outlives the agent; while the agent is there, it is waited for like any child.
        tokio::spawn(async move { child.wait().await });
        match ready {
            Ok(Some(())) => Ok(()),
            _ => Err(Error::NotReady { log: log.display().to_string() }),
        }
    }

    /// Takes in what a keeper holds; tells what has changed since the last one.
    fn compare(&mut self, held: Vec<Found>) {
        let held: BTreeMap<_, _> = held.into_iter().map(|f| (f.instance.clone(), f)).collect();
        let before = std::mem::replace(&mut self.known, held.clone());
        for (instance, run) in std::mem::take(&mut self.starting) {
            match held.get(&instance).filter(|found| found.run == run) {
                Some(found) => {
                    let at = found.started_at;
                    self.tell(Told::Started { instance: instance.clone(), run, at });
                    if let Some(exit) = found.exit.clone() {
                        self.ended(instance, run, exit);
                    }
                }
                None => {
                    let message = "the keeper was killed before it was started".into();
                    let driver_away = true;
                    self.tell(Told::NotStarted { instance, run, message, driver_away });
                }
            }
        }
        for (instance, Found { run, exit, .. }) in before {
            let now = held.get(&instance).filter(|found| found.run == run);
            match (exit, now.map(|found| found.exit.clone())) {
                (None, Some(Some(exit))) => self.ended(instance, run, exit),
                (None, None) => {
                    let message = "its end was not seen: its keeper was killed".into();
                    let exit = Exit { at: super::now(), code: None, signal: None, message };
                    self.ended(instance, run, exit);
                }
                _ => {}
            }
        }
    }

    fn ended(&mut self, instance: InstanceId, run: u32, exit: Exit) {
        self.stopping.remove(&instance);
        self.tell(Told::Exited { instance, run, exit });
    }

    fn tell(&self, told: Told) {
        if self.adopted {
            // Only fails while the agent is being torn down.
            let _ = self.told.send(told);
        }
    }

    /// Asks and listens until the connection is lost; `None` once the driver is dropped.
    async fn talk(
        &mut self,
        connection: &mut Connection,
        asks: &mut mpsc::UnboundedReceiver<Ask>,
    ) -> Option<Error> {
        loop {
            tokio::select! {
                ask = asks.recv() => match ask? {
                    Ask::Adopt(answer) => {
                        self.adopted = true;
                        let _ = answer.send(Ok(self.known.values().cloned().collect()));
                    }
                    Ask::Keeper(request) => {
                        self.asking(&request);
                        if let Err(error) = connection.ask(&request).await {
                            return Some(error);
                        }
                    }
                },
                line = connection.lines.next_line() => match line {
                    Ok(Some(line)) => {
                        if let Ok(tell) = serde_json::from_str(&line) {
                            self.told(tell);
                        }
                    }
                    Ok(None) | Err(_) => return Some(Error::Lost),
                },
            }
        }
    }

    fn asking(&mut self, request: &Request) {
        match request {
            Request::Start(start) => {
                self.starting.insert(start.instance.clone(), start.run);
            }
            Request::Stop { instance, .. } => {
                self.stopping.insert(instance.clone(), request.clone());
            }
            Request::Forget { instance } => {
                self.known.remove(instance);
            }
        }
    }

    fn told(&mut self, tell: Tell) {
        match tell {
            Tell::Started { instance, run, at } => {
                self.starting.remove(&instance);
                let found = Found { instance: instance.clone(), run, started_at: at, exit: None };
                self.known.insert(instance.clone(), found);
                self.tell(Told::Started { instance, run, at });
            }
            Tell::NotStarted { instance, run, message } => {
                self.starting.remove(&instance);
                self.stopping.remove(&instance);
                self.tell(Told::NotStarted { instance, run, message, driver_away: false });
            }
            Tell::Ended { instance, run, exit } => {
                if let Some(found) = self.known.get_mut(&instance).filter(|f| f.run == run) {
                    found.exit = Some(exit.clone());
                }
                self.ended(instance, run, exit);
            }
            Tell::Note { message } => tracing::warn!("{message}"),
            Tell::Held { .. } | Tell::AllHeld => {}
        }
    }

    /// Without a keeper, answers what is asked, for so long. `None` once the driver is dropped.
    async fn refuse_for(
        &mut self,
        span: Duration,
        why: &str,
        asks: &mut mpsc::UnboundedReceiver<Ask>,
    ) -> Option<()> {
        let over = tokio::time::sleep(span);
        tokio::pin!(over);
        loop {
            let ask = tokio::select! {
                () = &mut over => return Some(()),
                ask = asks.recv() => ask?,
            };
            match ask {
                Ask::Adopt(answer) => {
                    let _ = answer.send(Err(why.into()));
                }
                Ask::Keeper(Request::Start(start)) => self.tell(Told::NotStarted {
                    instance: start.instance,
                    run: start.run,
                    message: why.into(),
                    driver_away: true,
                }),
                Ask::Keeper(request) => self.asking(&request),
            }
        }
    }
}

impl Connection {
    async fn ask(&mut self, request: &Request) -> Result<(), Error> {
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
            Ok(Tell::Held { instance, run, started_at, exit }) => {
                all.push(Found { instance, run, started_at, exit });
            }
            Ok(Tell::AllHeld) => return Ok(all),
            Ok(_) | Err(_) => {}
        }
    }
}
