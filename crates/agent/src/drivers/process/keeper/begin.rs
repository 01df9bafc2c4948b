//! Beginning a run: how many at a time, and what becomes of one that takes too long. A start can
//! hang for as long as a file system does not answer, and nothing can end it. It is given up then,
//! and what it may still bring forth is killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::InstanceId;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::cgroup::Cgroup;
use super::super::now;
use super::super::spawn;
use super::super::wire::{Start, Tell};
use super::record::Record;
use super::watch::Process;
use super::{Event, Held, Keeper};

/// So many starts are under way at a time, those that were given up apart.
const AT_A_TIME: usize = 4;
/// So long a start may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Begins runs.
#[derive(Debug, Clone)]
pub(super) struct Starts {
    slots: Arc<Semaphore>,
}

/// What to begin, and with what.
struct Launch {
    start: Start,
    cgroup: Cgroup,
    identity: PathBuf,
    /// Cancelled once nobody wants it any more.
    given_up: CancellationToken,
}

impl Starts {
    pub(super) fn new() -> Starts {
        Starts { slots: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Begins a run, and says why there is none. Calls `overdue` if that takes too long, and goes
    /// on waiting.
    async fn begin(self, launch: Launch, overdue: impl FnOnce(String)) -> Result<Process, String> {
        let waited = launch.given_up.run_until_cancelled(self.slots.acquire_owned()).await;
        let Some(Ok(slot)) = waited else { return Err("it was given up".into()) };
        let workdir = launch.start.workdir.clone();
        let mut begun = tokio::task::spawn_blocking(move || begin(&launch));
        let begun = match tokio::time::timeout(TIME_MAX, &mut begun).await {
            Ok(begun) => begun,
            Err(_) => {
                let span = TIME_MAX.as_secs();
                let workdir = workdir.display();
                overdue(format!(
                    "its start has not come to an end within {span} s; \
                     does the file system of {workdir} and of its program answer?"
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
        let (instance, run) = (start.instance.clone(), start.run);
        if let Some(held) = self.held.get(&instance)
            && held.record.exit.is_none()
        {
            let told = held.record.run;
            let message = format!("run {told} of it has not ended");
            if told != run {
                self.tell(Tell::NotStarted { instance, run, message });
            } else if held.process.is_some() {
                let at = held.record.started_at;
                self.tell(Tell::Started { instance, run, at });
            }
            return;
        }
        if self.starting.contains_key(&instance) {
            let message = "an earlier start of it, which was given up, has not come to an end";
            self.tell(Tell::NotStarted { instance, run, message: message.into() });
            return;
        }
        let record = Record {
            instance: instance.clone(),
            run,
            started_at: now(),
            boot: self.records.boot().into(),
            stop: start.stop,
            memory: start.memory.to_string(),
            exit: None,
        };
        if let Err(error) = self.records.write(&record) {
            let message = format!("the start cannot be recorded: {error}");
            self.tell(Tell::NotStarted { instance, run, message });
            return;
        }
        let cgroup = self.cgroups.of(&instance.slug());
        let held = Held { record, process: None, stopping: None, killed: false };
        self.held.insert(instance.clone(), held);
        let (events, identity) = (self.events.clone(), self.records.identity_path(&instance));
        let given_up = CancellationToken::new();
        self.starting.insert(instance.clone(), given_up.clone());
        let begun = self.starts.clone().begin(Launch { start, cgroup, identity, given_up }, {
            let (events, instance) = (events.clone(), instance.clone());
            move |message| {
                let _ = events.send(Event::Overdue { instance, message });
            }
        });
        tokio::spawn(async move {
            let outcome = begun.await;
            let _ = events.send(Event::Spawned { instance, run, outcome });
        });
    }

    /// Holds a start for failed that has not come to an end, if it is not given up already.
    pub(super) fn give_up(&mut self, instance: &InstanceId, message: String) {
        let Some(given_up) = self.starting.get(instance) else { return };
        if !given_up.is_cancelled() {
            given_up.cancel();
            self.not_started(instance, message);
        }
    }

    fn not_started(&mut self, instance: &InstanceId, message: String) {
        if let Some(held) = self.held.remove(instance) {
            self.records.remove(instance);
            let run = held.record.run;
            self.tell(Tell::NotStarted { instance: instance.clone(), run, message });
        }
        self.greet();
    }

    pub(super) fn spawned(
        &mut self,
        instance: &InstanceId,
        run: u32,
        outcome: Result<Process, String>,
    ) {
        let given_up = self.starting.remove(instance).is_none_or(|start| start.is_cancelled());
        if given_up {
            self.records.remove(instance);
            if let Ok(process) = outcome {
                process.kill();
                self.watch(instance, run, process);
            }
            return;
        }
        let Some(held) = self.held.get_mut(instance) else { return };
        match outcome {
            Ok(process) => {
                held.record.started_at = now();
                held.process = Some(process.clone());
                let at = held.record.started_at;
                let kill_at_once = held.stopping.is_some();
                let started = Tell::Started { instance: instance.clone(), run, at };
                if kill_at_once {
                    held.kill();
                }
                let _ = self.records.write(&held.record);
                self.watch(instance, run, process);
                self.tell(started);
                self.greet();
            }
            Err(message) => self.not_started(instance, message),
        }
    }
}

fn begin(launch: &Launch) -> Result<Process, String> {
    let Launch { start, cgroup, identity, given_up } = launch;
    let pid = spawn::spawn(start, cgroup, identity, given_up)?;
    // Without a handle its end would never be known; it must not run.
    let process = Process::open(pid, cgroup.clone())
        .map_err(|error| format!("it cannot be followed: {error}"))
        .and_then(|process| match given_up.is_cancelled() {
            true => Err("it was given up".into()),
            false => Ok(process),
        });
    if process.is_err() {
        end(pid, cgroup);
    }
    process
}

/// Ends a process that is not followed, with all that is left of it.
fn end(pid: Pid, cgroup: &Cgroup) {
    let _ = kill_process_group(pid, rustix::process::Signal::KILL);
    cgroup.kill();
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
    cgroup.remove();
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    #[test]
    fn nothing_is_left_of_a_process_that_cannot_be_followed() {
        let mut command = std::process::Command::new("sleep");
        let mut child = command.arg("1000").process_group(0).spawn().unwrap();
        let pid = Pid::from_child(&child);
        end(pid, &Cgroup::default());
        assert!(child.wait().is_err(), "it has been waited for");
    }
}
