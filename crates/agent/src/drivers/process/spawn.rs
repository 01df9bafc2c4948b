//! Starting a process, an event for its end, and the descriptors that it inherits. This is the only module of this crate that needs
//! `unsafe`.
//!
//! The steps of a child between fork and exec (a new session, its control group, its identity, its
//! user) require `CommandExt::pre_exec`. That is unsafe because the child of a process with threads
//! may only make async-signal-safe calls after the fork. These steps consist of system calls on
//! resources that were opened and allocated before. Registering an `AsyncFd` is unsafe because its
//! descriptor might be closed meanwhile; here it owns the descriptor. Borrowing a descriptor by its
//! number is unsafe for the same reason; an inherited one has no other owner.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::cgroup::Cgroup;
use super::files::restore_file_limit;
use super::rotate::STREAMS;
use super::user::{self, User};
use super::wire::Start;
use crate::drivers::directory::make_dir;

/// The file from which a process reads its own identity.
const OWN_STAT: &CStr = c"/proc/self/stat";
/// The error of a child that cannot join its control group; exec never fails with it.
const NOT_JOINED: Errno = Errno::PROTO;

/// Starts a process in its control group, with its identity written to `identity`. The caller must
/// reap the process. Returns a message if it cannot be started.
pub(super) fn spawn(
    start: &Start,
    cgroup: &Cgroup,
    identity: &Path,
    given_up: &CancellationToken,
) -> Result<Pid, String> {
    let user = start.user.as_deref().map(user::look_up).transpose()?;
    let [stdout, stderr] = streams(&start.logs)
        .map_err(|error| format!("{} cannot be written to: {error}", start.logs.display()))?;
    let identity = File::create(identity)
        .map_err(|error| format!("{} cannot be made: {error}", identity.display()))?;
    if let Some(user) = &user {
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        std::os::unix::fs::chown(&start.dir, Some(uid), Some(gid))
            .map_err(|error| format!("cannot act for user {uid}: {error}"))?;
    }
    if !start.workdir.is_dir() {
        return Err(format!("there is no directory {}", start.workdir.display()));
    }
    let joins = cgroup
        .make(start.cpu, start.memory)
        .map_err(|error| format!("its control group cannot be made: {error}"))?;
    let (program, arguments) = start.words.split_first().ok_or("there is no program to run")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(start.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&start.workdir)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    // The previous steps may have blocked on a file system until the start was cancelled.
    if given_up.is_cancelled() {
        cgroup.remove();
        return Err("it was cancelled".into());
    }
    become_member(&mut command, Member { joins, identity: Some(identity), user });
    match command.spawn() {
        Ok(child) => Ok(Pid::from_child(&child)),
        Err(error) => {
            cgroup.remove();
            Err(explain(start, program, &error))
        }
    }
}

/// Opens the output streams of a process. Output may contain secrets, as the environment may, so
/// only the agent's user may read it.
fn streams(dir: &Path) -> io::Result<[File; 2]> {
    make_dir(dir, 0o700)?;
    let open = |name| OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join(name));
    let [stdout, stderr] = STREAMS.map(open);
    Ok([stdout?, stderr?])
}

/// What a child process becomes before it executes its program.
pub(super) struct Member {
    /// The files by which it joins its control group.
    pub(super) joins: Vec<File>,
    /// The file to which it writes its identity.
    pub(super) identity: Option<File>,
    pub(super) user: Option<User>,
}

/// Starts a command as a member of the family of an instance, in a session of its own.
pub(super) fn become_member(command: &mut Command, member: Member) {
    // SAFETY: `Member::settle` makes only system calls: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || member.settle()) };
}

impl Member {
    fn settle(&self) -> io::Result<()> {
        rustix::process::setsid()?;
        restore_file_limit()?;
        for join in &self.joins {
            rustix::io::write(join, b"0").map_err(|_| NOT_JOINED)?;
        }
        if let Some(identity) = &self.identity {
            let stat = rustix::fs::open(OWN_STAT, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let mut buffer = [0; 1024];
            let len = rustix::io::read(&stat, &mut buffer)?;
            rustix::io::write(identity, &buffer[..len])?;
        }
        if let Some(user) = &self.user {
            rustix::thread::set_thread_groups(&user.groups)?;
            rustix::thread::set_thread_gid(user.gid)?;
            rustix::thread::set_thread_uid(user.uid)?;
        }
        Ok(())
    }
}

/// Starts a command with the limit of open files with which this process was started.
pub(super) fn with_file_limit(command: &mut Command) {
    // SAFETY: `restore_file_limit` makes only system calls.
    unsafe { command.pre_exec(restore_file_limit) };
}

/// Becomes readable once the process has ended.
pub(super) fn end_of(pidfd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the descriptor stays open for as long as the result, which shares its ownership.
    unsafe { Ok(AsyncFd::register_with_interest(pidfd, Interest::READABLE)?) }
}

/// Closes an inherited descriptor in all programs that this process will start.
pub(super) fn close_on_exec(descriptor: RawFd) -> rustix::io::Result<()> {
    // SAFETY: the descriptor is used for one system call, which fails if it is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    fcntl_setfd(descriptor, FdFlags::CLOEXEC)
}

fn explain(start: &Start, program: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => {
            format!("the program {program} or its interpreter does not exist")
        }
        io::ErrorKind::NotFound => {
            let path = start.env.iter().find(|(name, _)| name == "PATH");
            let path = path.map_or("", |(_, path)| path.as_str());
            format!("there is no program `{program}` in {path}")
        }
        io::ErrorKind::PermissionDenied => format!("{program} may not be executed: {error}"),
        _ if error.raw_os_error() == Some(NOT_JOINED.raw_os_error()) => {
            "it could not join its control group".into()
        }
        _ => format!("{program} cannot be executed: {error}"),
    }
}
