//! Commands of health checks. The agent runs them with the environment, directory and user of the
//! instance, in the control group of the instance, each in its own session. They share the limits of
//! the instance. When a command has ended or timed out, the remaining processes of its process group
//! are killed; processes that have left the group end with the instance.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

use super::cgroup::Cgroup;
use super::spawn::{self, Member};
use super::user;
use super::wire::Start;
use crate::drivers::CommandOutcome;

/// The number of bytes that are kept of the end of each output stream.
const OUTPUT_BYTES_MAX: usize = 400;
/// Timeout for the output to be closed after the command has ended.
const OUTPUT_WAIT: Duration = Duration::from_millis(100);

/// Runs `words` alongside the instance that `of` starts in the control group `cgroup`.
pub(super) async fn run(
    of: Start,
    cgroup: Cgroup,
    words: Vec<String>,
    timeout: Duration,
) -> CommandOutcome {
    let child = match spawn(&of, &cgroup, &words) {
        Ok(child) => child,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound => ended(127, &format!("{}: not found", words[0])),
                io::ErrorKind::PermissionDenied => ended(126, &format!("{}: {error}", words[0])),
                _ => CommandOutcome::CannotRun(format!("the command cannot be run: {error}")),
            };
        }
    };
    wait(child, timeout)
        .await
        .unwrap_or_else(|error| CommandOutcome::CannotRun(format!("its end is not known: {error}")))
}

/// The process group of a command. The command has not been reaped, so its id cannot have been
/// reused. Killed when dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // An error means that the group is already empty, which is the goal.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

async fn wait(mut child: Child, timeout: Duration) -> io::Result<CommandOutcome> {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let pid = pid.ok_or(io::ErrorKind::NotFound)?;
    let group = Group(pid);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // A process that has left the group may keep the pipes open forever, so they are read in a task
    // that is aborted after a timeout.
    let output = async move { tokio::join!(end_of(stdout), end_of(stderr)) };
    let output = AbortOnDropHandle::new(tokio::spawn(output));
    let end = spawn::end_of(Arc::new(pidfd_open(pid, PidfdFlags::NONBLOCK)?))?;
    match tokio::time::timeout(timeout, end.readable()).await {
        Ok(readable) => drop(readable?),
        Err(_) => return Ok(CommandOutcome::TimedOut),
    }
    drop(group);
    let status = child.wait().await?;
    let output = match tokio::time::timeout(OUTPUT_WAIT, output).await {
        Ok(Ok((stdout, stderr))) => stdout + &stderr,
        _ => String::new(),
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Ok(ended(status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0)), &output))
}

fn spawn(of: &Start, cgroup: &Cgroup, words: &[String]) -> io::Result<Child> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let user = of.user.as_deref().map(user::look_up).transpose().map_err(io::Error::other)?;
    let joins = cgroup.join().map_err(|error| {
        io::Error::other(format!("the control group of the instance cannot be joined: {error}"))
    })?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(of.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&of.workdir)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    spawn::become_member(command.as_std_mut(), Member { joins, identity: None, user });
    command.spawn()
}

fn ended(code: i32, output: &str) -> CommandOutcome {
    CommandOutcome::Ended { code, output: output.trim().into() }
}

/// The last bytes that are written to a pipe before it is closed.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut end = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        end.extend_from_slice(&buffer[..count]);
        let excess = end.len().saturating_sub(OUTPUT_BYTES_MAX);
        end.drain(..excess);
    }
    String::from_utf8_lossy(&end).into_owned()
}
