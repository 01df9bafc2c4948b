//! The process driver: plain processes, each in its own session and control group.
//!
//! The agent does not start them itself: a [`keeper`] does, which outlives the agent. A restart of
//! the agent therefore does not disturb an instance, and the exit code of a process that ends
//! meanwhile is known. If the keeper is killed, the next one identifies the processes by process id
//! and start time; only exit codes are lost then.
//!
//! | file | topic |
//! |---|---|
//! | [`link`] | the agent's side: finding or starting the keeper, requests and reports |
//! | [`keeper`] | the keeper's side |
//! | [`wire`] | the protocol between them |
//! | [`spawn`], [`cgroup`], [`user`], [`identity`] | starting a process, and its prerequisites |
//! | [`freezer`] | suspending and resuming processes |
//! | [`files`] | the file descriptors of daemons and of their children |
//! | [`place`] | the files of an instance, written before its start |
//! | [`command`] | commands of health checks, run alongside the instance |
//! | [`output`], [`rotate`] | reading output, and rotating it |

mod cgroup;
mod command;
mod files;
mod freezer;
mod identity;
mod inherited;
pub mod keeper;
mod link;
mod output;
mod place;
mod rotate;
mod spawn;
mod user;
mod wire;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{CommandLine, InstanceResource, Millis, Piece, Signal, Spec};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::cgroup::Cgroups;
pub(super) use self::identity::Stat;
pub use self::inherited::take_over_files;
use self::wire::{Request, Start};
use super::{
    BoxFuture, CommandOutcome, Driver, DriverEvent, Found, Launch, Output, OutputQuery, Part,
    PartQuery, now,
};

/// The longest path a Unix socket can have (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// The settings of a process driver.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The keeper's directory, an absolute path.
    pub keeper_dir: PathBuf,
    /// The directory that holds, for each resource, a directory with its output; an absolute path.
    /// Only the agent's user may write to it. Any other user could replace a stream by a link, and
    /// make the keeper and the agent, which may run as root, open any file.
    pub logs_dir: PathBuf,
    /// The program to run as the keeper: `<exe> keeper --dir DIR [--ephemeral]`.
    pub keeper_exe: PathBuf,
    /// Whether the keeper stops all runs once the agent is gone.
    pub ephemeral: bool,
    /// The size in bytes at which the file of an output stream is rotated. Up to two rotated copies
    /// are kept, each of this size or, if it is written to during rotation, of at most twice this.
    pub log_bytes_max: u64,
}

impl Settings {
    /// The default of [`Settings::log_bytes_max`].
    pub const LOG_BYTES_MAX: u64 = 10 << 20;
}

/// Runs resources as plain processes. Dropping it disconnects from the keeper, which keeps running.
#[derive(Debug)]
pub struct Processes {
    requests: mpsc::UnboundedSender<link::LinkRequest>,
    /// Those of the keeper.
    cgroups: Cgroups,
    logs_dir: PathBuf,
    /// Locked while a stream is rotated, or read by position.
    rotating: rotate::Rotating,
    _work: DropGuard,
}

impl Processes {
    /// A driver that reports to `events`. Must be called within a tokio runtime.
    pub fn new(settings: Settings, events: mpsc::UnboundedSender<DriverEvent>) -> Processes {
        let (requests, inbox) = mpsc::unbounded_channel();
        let dropped = CancellationToken::new();
        let rotating = rotate::Rotating::default();
        // The keeper logs what is missing.
        let (cgroups, _) = Cgroups::detect(&digest(&settings.keeper_dir));
        let (logs_dir, bytes_max) = (settings.logs_dir.clone(), settings.log_bytes_max);
        let logs = rotate::keep_small(logs_dir.clone(), bytes_max, rotating.clone());
        tokio::spawn(dropped.clone().run_until_cancelled_owned(logs));
        let link = link::Link::new(settings, events);
        tokio::spawn(dropped.clone().run_until_cancelled_owned(link.follow(inbox)));
        Processes { requests, cgroups, logs_dir, rotating, _work: dropped.drop_guard() }
    }

    fn send(&self, request: link::LinkRequest) {
        // Only fails while the agent is being torn down.
        let _ = self.requests.send(request);
    }

    /// The directory of the output streams of a resource.
    fn logs_of(&self, of: &InstanceResource) -> PathBuf {
        self.logs_dir.join(of.slug())
    }

    fn start_of(&self, launch: &Launch) -> Start {
        let Spec { process, resources, stop, .. } = launch.spec.as_ref();
        let workdir = process.as_ref().and_then(|process| process.workdir.as_ref());
        Start {
            piece: launch.piece.clone(),
            dir: launch.dir.clone(),
            logs: self.logs_of(&launch.piece.of()),
            words: process.as_ref().map(|process| process.command.words()).unwrap_or_default(),
            env: launch.env.clone(),
            workdir: workdir.map_or_else(|| launch.dir.clone(), |dir| dir.text().as_ref().into()),
            user: process.as_ref().and_then(|process| process.user.clone()),
            cpu: resources.cpu,
            memory: resources.memory,
            stop: (stop.signal, stop.grace),
        }
    }
}

impl Driver for Processes {
    fn adopt(&self) -> BoxFuture<Result<Vec<Found>, String>> {
        let (reply, found) = oneshot::channel();
        self.send(link::LinkRequest::Adopt(reply));
        Box::pin(async move {
            found.await.unwrap_or_else(|_| Err("the process driver has ended".into()))
        })
    }

    fn write_files(&self, launch: &Launch) -> BoxFuture<Result<(), String>> {
        let (files, dir) = (launch.files.clone(), launch.dir.clone());
        let user = launch.spec.process.as_ref().and_then(|process| process.user.clone());
        let written =
            tokio::task::spawn_blocking(move || place::place(&files, &dir, user.as_deref()));
        Box::pin(async move {
            let written = written.await.map_err(|error| format!("its files: {error}"))?;
            written.map_err(|error| api::error_chain(&error))
        })
    }

    fn update_files(&self, launch: &Launch, signals: Vec<Signal>) -> BoxFuture<Result<(), String>> {
        let (written, requests) = (self.write_files(launch), self.requests.clone());
        let piece = launch.piece.clone();
        Box::pin(async move {
            written.await?;
            for signal in signals {
                let (reply, sent) = oneshot::channel();
                // Only fails while the agent is being torn down.
                let _ = requests.send(link::LinkRequest::Signal {
                    piece: piece.clone(),
                    signal,
                    reply,
                });
                sent.await.unwrap_or_else(|_| Err("the process driver has ended".into()))?;
            }
            Ok(())
        })
    }

    fn start(&self, launch: Launch) {
        let start = self.start_of(&launch);
        self.send(link::LinkRequest::Keeper(Request::Start(Box::new(start))));
    }

    fn stop(&self, piece: &Piece, signal: Signal, grace: Duration) {
        let grace = Millis(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        let piece = piece.clone();
        self.send(link::LinkRequest::Keeper(Request::Stop { piece, signal, grace }));
    }

    fn suspend(&self, piece: &Piece, suspend: bool) -> BoxFuture<Result<(), String>> {
        let (reply, done) = oneshot::channel();
        self.send(link::LinkRequest::Suspend { piece: piece.clone(), suspend, reply });
        Box::pin(async move {
            done.await.unwrap_or_else(|_| Err("the connection to the keeper was lost".into()))
        })
    }

    fn command(
        &self,
        launch: &Launch,
        command: &CommandLine,
        timeout: Duration,
    ) -> BoxFuture<CommandOutcome> {
        let cgroup = self.cgroups.of(&launch.piece.of().slug());
        Box::pin(command::run(self.start_of(launch), cgroup, command.words(), timeout))
    }

    fn output(&self, of: &InstanceResource, query: OutputQuery) -> BoxFuture<io::Result<Output>> {
        Box::pin(output::read(self.logs_of(of), query, self.rotating.clone()))
    }

    fn part(&self, of: &InstanceResource, query: PartQuery) -> BoxFuture<io::Result<Part>> {
        let (dir, rotating) = (self.logs_of(of), self.rotating.clone());
        let read = tokio::task::spawn_blocking(move || output::part(&dir, query, &rotating));
        Box::pin(async move { read.await.unwrap_or_else(|error| Err(io::Error::other(error))) })
    }

    fn forget(&self, of: &InstanceResource) {
        self.send(link::LinkRequest::Keeper(Request::Forget { of: of.clone() }));
    }
}

/// The path by which to bind or connect to the socket in `dir`, and the file that must stay open
/// meanwhile: a directory whose path is too long for a socket is reached by a descriptor.
fn socket_path(dir: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = dir.join("socket");
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((path, None));
    }
    let dir = File::open(dir)?;
    Ok((format!("/proc/self/fd/{}/socket", dir.as_raw_fd()).into(), Some(dir)))
}

/// A short name for a directory, the same in every process (FNV-1a).
pub(crate) fn digest(dir: &Path) -> String {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = dir.as_os_str().as_encoded_bytes();
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}
