//! Commands of health checks: run by the agent with the instance's environment, directory and
//! user, in a process group of their own, and killed with it when their time is over.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::user;
use super::wire::Start;
use crate::drivers::CommandOutcome;

/// So much of the end of what a command writes is kept.
const OUTPUT_BYTES_MAX: usize = 400;
/// So long the output may stay open once the command has ended.
const OUTPUT_WAIT: Duration = Duration::from_millis(100);

/// Runs `words` beside the instance that `of` starts.
pub(super) async fn run(of: Start, words: Vec<String>, timeout: Duration) -> CommandOutcome {
    let child = match spawn(&of, &words) {
        Ok(child) => child,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound => ended(127, &format!("{}: not found", words[0])),
                io::ErrorKind::PermissionDenied => ended(126, &format!("{}: {error}", words[0])),
                _ => CommandOutcome::CannotRun(format!("the command cannot be run: {error}")),
            };
        }
    };
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut ending = std::pin::pin!(wait(child));
    match tokio::time::timeout(timeout, &mut ending).await {
        Ok(outcome) => outcome,
        Err(_) => {
            // The command has not been waited for, so its id still is its own.
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            CommandOutcome::TimedOut
        }
    }
}

fn spawn(of: &Start, words: &[String]) -> io::Result<Child> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(of.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&of.workdir)
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(user) = &of.user {
        let user = user::look_up(user).map_err(io::Error::other)?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.spawn()
}

async fn wait(mut child: Child) -> CommandOutcome {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output = tokio::spawn(async move { tokio::join!(end_of(stdout), end_of(stderr)) });
    let status = match child.wait().await {
        Ok(status) => status,
        Err(error) => return CommandOutcome::CannotRun(format!("its end is not known: {error}")),
    };
    let output = match tokio::time::timeout(OUTPUT_WAIT, output).await {
        Ok(Ok((stdout, stderr))) => stdout + &stderr,
        _ => String::new(),
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    ended(status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0)), &output)
}

fn ended(code: i32, output: &str) -> CommandOutcome {
    CommandOutcome::Ended { code, output: output.trim().into() }
}

/// The end of what is written to a pipe until it is closed.
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
