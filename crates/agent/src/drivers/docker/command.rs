//! Commands in a running container, mostly probes.

use std::sync::Arc;
use std::time::Duration;

use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt as _;
use model::Piece;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, timeout_at};

use super::super::CommandOutcome;
use super::Core;
use super::daemon::{Client, Error};

/// The number of bytes that are kept of the end of a command's output.
const OUTPUT_BYTES_MAX: usize = 400;
/// Timeout for each request around a command, in addition to the timeout of the command itself.
const AROUND_LIMIT: Duration = Duration::from_secs(5);

/// Runs a command in the container of a run.
pub(super) async fn command(
    core: Arc<Core>,
    key: Piece,
    words: Vec<String>,
    limit: Duration,
) -> CommandOutcome {
    let Some(container) = core.runs().running(&key) else {
        return CommandOutcome::CannotRun("the instance is not running".into());
    };
    match run(&core, &container, words, limit).await {
        Ok(outcome) => outcome,
        Err(error) => CommandOutcome::CannotRun(error.to_string()),
    }
}

async fn run(
    core: &Core,
    container: &str,
    words: Vec<String>,
    limit: Duration,
) -> Result<CommandOutcome, Error> {
    let client = core.daemon.client().await?;
    let config = ExecConfig {
        cmd: Some(words),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let made = client.docker().create_exec(container, config);
    let id = client.call(AROUND_LIMIT, made).await?.id;
    let deadline = Instant::now() + limit;
    let mut tail = Vec::new();
    // The daemon responds to the start before the command has begun, so a slow response is not the
    // command's fault.
    let started = client.call(AROUND_LIMIT.max(limit), client.docker().start_exec(&id, None)).await;
    if let StartExecResults::Attached { mut output, input: _input } = started? {
        loop {
            let next = tokio::select! {
                next = timeout_at(deadline, output.next()) => next,
                () = client.abandoned() => return Err(client.unavailable("the connection was lost".into())),
            };
            match next {
                Ok(Some(Ok(part))) => keep_end(&mut tail, &part.into_bytes()),
                Ok(Some(Err(error))) => return Err(client.convert_error(error)),
                Ok(None) => break,
                Err(_) => {
                    kill(&client, container, &id).await;
                    return Ok(CommandOutcome::TimedOut);
                }
            }
        }
    }
    let ended = client.call(AROUND_LIMIT, client.docker().inspect_exec(&id)).await?;
    let Some(code) = ended.exit_code.and_then(|code| i32::try_from(code).ok()) else {
        // The command has closed its output and keeps running, so its outcome would never be known.
        kill(&client, container, &id).await;
        return Ok(CommandOutcome::TimedOut);
    };
    let output = String::from_utf8_lossy(&tail).trim_end().to_string();
    Ok(CommandOutcome::Ended { code, output })
}

fn keep_end(tail: &mut Vec<u8>, part: &[u8]) {
    tail.extend_from_slice(part);
    let surplus = tail.len().saturating_sub(OUTPUT_BYTES_MAX);
    tail.drain(..surplus);
}

/// Kills a command that has exceeded its timeout. Docker has no request for that, but it reports
/// the process id. The process is killed only if it is in the container, since the agent and the
/// daemon may be in different PID namespaces.
async fn kill(client: &Client, container: &str, id: &str) {
    let inspected = client.call(AROUND_LIMIT, client.docker().inspect_exec(id)).await;
    let pid = match inspected {
        Ok(found) if found.running == Some(true) => found.pid,
        Ok(_) => None,
        Err(error) => return tracing::debug!(container, "cannot find a command: {error}"),
    };
    let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) else { return };
    let groups = tokio::fs::read_to_string(format!("/proc/{pid}/cgroup")).await;
    if !groups.is_ok_and(|groups| groups.contains(container)) {
        return tracing::warn!(
            container,
            pid,
            "a command that timed out keeps running: it is not visible here"
        );
    }
    if let Some(pid) = Pid::from_raw(pid)
        && let Err(error) = kill_process(pid, Signal::KILL)
    {
        tracing::debug!(container, "cannot kill a command: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_output_is_kept() {
        let mut tail = Vec::new();
        keep_end(&mut tail, &[b'a'; OUTPUT_BYTES_MAX]);
        keep_end(&mut tail, b"end");
        assert_eq!(tail.len(), OUTPUT_BYTES_MAX);
        assert!(tail.ends_with(b"aend"));
    }
}
