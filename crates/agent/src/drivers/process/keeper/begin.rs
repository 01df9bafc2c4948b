//! Starting runs: the limit of concurrent starts, and the timeout of a start. A start can block
//! while a file system does not respond, and cannot be interrupted. After the timeout it is
//! cancelled, and any process that it still produces is killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{InstanceResource, Piece};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::cgroup::Cgroup;
use super::super::now;
use super::super::spawn;
use super::super::wire::{KeeperEvent, Start};
use super::family::Family;
use super::record::Record;
use super::watch::Process;
use super::{Event, Held, Keeper};

/// The maximum number of starts in progress, not counting cancelled ones.
const AT_A_TIME: usize = 4;
/// The timeout of a start.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Starts runs.
#[derive(Debug, Clone)]
pub(super) struct Starts {
    slots: Arc<Semaphore>,
}

/// A start with its inputs.
struct Launch {
    start: Start,
    cgroup: Cgroup,
    identity: PathBuf,
    /// Cancelled when the start is cancelled.
    given_up: CancellationToken,
}

impl Starts {
    pub(super) fn new() -> Starts {
        Starts { slots: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Starts a run, or returns why it could not be started. Calls `overdue` after the timeout, and
    /// keeps waiting.
    async fn begin(self, launch: Launch, overdue: impl FnOnce(String)) -> Result<Process, String> {
        let waited = launch.given_up.run_until_cancelled(self.slots.acquire_owned()).await;
        let Some(Ok(slot)) = waited else { return Err("it was cancelled".into()) };
        let workdir = launch.start.workdir.clone();
        let mut begun = tokio::task::spawn_blocking(move || begin(&launch));
        let begun = match tokio::time::timeout(TIME_MAX, &mut begun).await {
            Ok(begun) => begun,
            Err(_) => {
                let span = TIME_MAX.as_secs();
                let workdir = workdir.display();
                overdue(format!(
                    "its start has not returned within {span} s; \
                     do the file systems of {workdir} and of its program respond?"
                ));
                drop(slot);
                begun.await
            }
        };
        begun.unwrap_or_else(|error| Err(format!("its start broke: {error}")))
    }
}

impl Keeper {
    pub(super) fn start(&mut self, start: Start) {
        let piece = start.piece.clone();
        let of = piece.of();
        if let Some(held) = self.held.get(&of)
            && held.record.exit.is_none()
        {
            let run = held.record.piece.run;
            let message = format!("run {run} of it has not ended");
            if run != piece.run {
                self.send_event(KeeperEvent::NotStarted { piece, message });
            } else if held.process.is_some() {
                let at = held.record.started_at;
                self.send_event(KeeperEvent::Started { piece, at });
            }
            return;
        }
        if self.starting.contains_key(&of) {
            let message = "an earlier start of it, which was cancelled, has not returned";
            self.send_event(KeeperEvent::NotStarted { piece, message: message.into() });
            return;
        }
        let record = Record {
            piece: piece.clone(),
            started_at: now(),
            boot: self.records.boot().into(),
            stop: start.stop,
            memory: start.memory.to_string(),
            exit: None,
            suspended: false,
        };
        if let Err(error) = self.records.write(&record) {
            let message = format!("the start cannot be recorded: {error}");
            self.send_event(KeeperEvent::NotStarted { piece, message });
            return;
        }
        let cgroup = self.cgroups.of(&of.slug());
        let held = Held { record, process: None, stopping: None, killed: false, suspending: None };
        let (events, identity) = (self.events.clone(), self.records.identity_path(&of));
        self.held.insert(of.clone(), held);
        let given_up = CancellationToken::new();
        self.starting.insert(of.clone(), given_up.clone());
        let begun = self.starts.clone().begin(Launch { start, cgroup, identity, given_up }, {
            let events = events.clone();
            move |message| {
                let _ = events.send(Event::Overdue { of, message });
            }
        });
        tokio::spawn(async move {
            let outcome = begun.await;
            let _ = events.send(Event::Spawned { piece, outcome });
        });
    }

    /// Cancels a start that has not returned, and reports it as failed.
    pub(super) fn give_up(&mut self, of: &InstanceResource, message: String) {
        let Some(given_up) = self.starting.get(of) else { return };
        if !given_up.is_cancelled() {
            given_up.cancel();
            self.not_started(of, message);
        }
    }

    fn not_started(&mut self, of: &InstanceResource, message: String) {
        if let Some(held) = self.held.remove(of) {
            self.records.remove(of);
            self.send_event(KeeperEvent::NotStarted { piece: held.record.piece, message });
        }
        self.report_held();
    }

    pub(super) fn spawned(&mut self, piece: Piece, outcome: Result<Process, String>) {
        let of = piece.of();
        let given_up = self.starting.remove(&of).is_none_or(|start| start.is_cancelled());
        if given_up {
            self.records.remove(&of);
            if let Ok(process) = outcome {
                process.kill();
                self.watch(piece, process);
            }
            return;
        }
        let Some(held) = self.held.get_mut(&of) else { return };
        match outcome {
            Ok(process) => {
                held.record.started_at = now();
                held.process = Some(process.clone());
                let at = held.record.started_at;
                let kill_at_once = held.stopping.is_some();
                let started = KeeperEvent::Started { piece: piece.clone(), at };
                if kill_at_once {
                    held.kill();
                }
                let _ = self.records.write(&held.record);
                self.watch(piece, process);
                self.send_event(started);
                self.report_held();
            }
            Err(message) => self.not_started(&of, message),
        }
    }
}

fn begin(launch: &Launch) -> Result<Process, String> {
    let Launch { start, cgroup, identity, given_up } = launch;
    let pid = spawn::spawn(start, cgroup, identity, given_up)?;
    // Without a pidfd its end could not be observed, so it must not run.
    let process = Process::open(pid, cgroup.clone())
        .map_err(|error| format!("its process cannot be watched: {error}"))
        .and_then(|process| match given_up.is_cancelled() {
            true => Err("it was cancelled".into()),
            false => Ok(process),
        });
    if process.is_err() {
        end(pid, cgroup);
    }
    process
}

/// Terminates a process that cannot be watched, with its family.
fn end(pid: Pid, cgroup: &Cgroup) {
    Family { first: pid, cgroup: cgroup.clone() }.kill();
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
    cgroup.remove();
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    #[test]
    fn a_process_that_cannot_be_watched_is_killed() {
        let mut command = std::process::Command::new("sleep");
        let mut child = command.arg("1000").process_group(0).spawn().unwrap();
        let pid = Pid::from_child(&child);
        end(pid, &Cgroup::default());
        assert!(child.wait().is_err(), "it has been waited for");
    }
}
