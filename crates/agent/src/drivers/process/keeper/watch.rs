//! The process of a run, from its start until it and its family have ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use model::{Ending, Exit, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio_util::sync::CancellationToken;

use super::super::cgroup::Cgroup;
use super::super::{now, spawn};
use super::family::Family;

/// Timeout for the members of a family to end after they were killed.
const KILLED_WAIT: Duration = Duration::from_secs(5);
/// The longest pause between two looks at a family whose end is awaited.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// A process that is watched, with its family.
#[derive(Debug, Clone)]
pub(super) struct Process {
    family: Family,
    pidfd: Arc<OwnedFd>,
    /// Cancelled by the stop signal: from then on, the family has time to end by itself.
    stopping: CancellationToken,
    killed: CancellationToken,
}

/// How a process has ended, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Code(i32),
    Signal(i32),
    /// The process was started by an earlier keeper, so only the fact of its end is known.
    Unknown,
}

fn number(signal: Signal) -> rustix::process::Signal {
    match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Int => rustix::process::Signal::INT,
        Signal::Quit => rustix::process::Signal::QUIT,
        Signal::Hup => rustix::process::Signal::HUP,
        Signal::Usr1 => rustix::process::Signal::USR1,
        Signal::Usr2 => rustix::process::Signal::USR2,
    }
}

impl Process {
    /// Watches a process, which must not have been reaped.
    pub(super) fn open(pid: Pid, cgroup: Cgroup) -> io::Result<Process> {
        let pidfd = Arc::new(pidfd_open(pid, PidfdFlags::NONBLOCK)?);
        let family = Family { first: pid, cgroup };
        let (stopping, killed) = Default::default();
        Ok(Process { family, pidfd, stopping, killed })
    }

    /// Sends the stop signal to it and its family, which have their grace period from then on.
    /// Suspended members are resumed, and receive the signal first.
    ///
    /// # Errors
    ///
    /// They cannot be resumed. Then the grace period ends with a kill.
    pub(super) fn stop(&self, signal: Signal) -> io::Result<()> {
        self.stopping.cancel();
        self.family.signal(number(signal));
        self.family.resume()
    }

    /// Suspends or resumes it with its family. Blocks until that is done. A stop cancels a suspension.
    pub(super) fn suspend(&self, suspend: bool) -> io::Result<()> {
        match suspend {
            true => self.family.suspend(|| self.stopping.is_cancelled()),
            false => self.family.resume(),
        }
    }

    /// Sends a signal to the process alone, which goes on running.
    pub(super) fn notify(&self, signal: Signal) {
        // Fails only if it has ended, which is reported.
        let _ = pidfd_send_signal(&self.pidfd, number(signal));
    }

    /// Kills it with its family.
    pub(super) fn kill(&self) {
        self.killed.cancel();
        let _ = pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        self.family.kill();
    }

    /// Waits until the process and its family have ended, and removes its control group. Also
    /// returns the number of processes that were killed for lack of memory.
    ///
    /// After a signal to stop, the rest of the family has the same grace period as the process,
    /// which the keeper ends by [`Process::kill`]. If the process ends by itself, the rest is killed
    /// at once: the run is over, and its routes and its restart must not wait.
    pub(super) async fn ended(&self) -> (End, u64) {
        if let Ok(pidfd) = spawn::end_of(self.pidfd.clone()) {
            // A pidfd becomes readable once its process has ended, and stays so.
            let _ = pidfd.readable().await;
        } else {
            self.ended_without_events().await;
        }
        if self.stopping.is_cancelled() {
            self.killed.run_until_cancelled(self.family_gone(|family| family.is_gone())).await;
        }
        let killed = self.family_gone(|family| family.kill());
        // A member that waits for a device cannot be killed before the device responds.
        let _ = tokio::time::timeout(KILLED_WAIT, killed).await;
        let end = self.reap();
        let out_of_memory = self.family.cgroup.out_of_memory();
        self.family.cgroup.remove();
        (end, out_of_memory)
    }

    /// Waits until `is_gone` of its family, so that no member holds a port that the next run needs.
    async fn family_gone(&self, is_gone: impl Fn(&Family) -> bool) {
        let mut pause = Duration::from_micros(200);
        while !is_gone(&self.family) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Polls for the end, since no further event source can be registered.
    async fn ended_without_events(&self) {
        let ended = || {
            // Also reports processes that have not been reaped, and those that are not own
            // children.
            let mut pidfd = [PollFd::new(&self.pidfd, PollFlags::IN)];
            poll(&mut pidfd, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        while !ended() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn reap(&self) -> End {
        use std::os::fd::AsFd;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => End::Code(code),
                (None, Some(signal)) => End::Signal(signal),
                (None, None) => End::Unknown,
            },
            Ok(None) | Err(_) => End::Unknown,
        }
    }
}

/// The exit of a run. `killed` is the reason for which the keeper killed it, if it did.
pub(super) fn exit(end: End, out_of_memory: u64, memory: &str, killed: Option<&str>) -> Exit {
    // 137 is how a shell reports a child that was killed by signal 9.
    let by_kill = matches!(end, End::Signal(9) | End::Code(137) | End::Unknown);
    let how = match (killed, end) {
        (None, _) if out_of_memory > 0 && by_kill => Ending::OutOfMemory {
            code: match end {
                End::Code(code) => Some(code),
                _ => None,
            },
            signal: match end {
                End::Signal(signal) => Some(signal),
                _ => None,
            },
            limit: memory.into(),
            afterwards: false,
        },
        (Some(why), End::Signal(signal @ 9)) => Ending::Killed { signal, why: why.into() },
        (_, End::Code(code)) => Ending::Code { code },
        (_, End::Signal(signal)) => Ending::Signal { signal },
        (_, End::Unknown) => Ending::Unseen { absent: "its keeper".into() },
    };
    Exit { at: now(), how }
}

/// The exit of a run that ended while no keeper was watching it.
pub(super) fn exit_without_keeper(cgroup: &Cgroup, memory: &str) -> Exit {
    let out_of_memory = cgroup.out_of_memory();
    cgroup.kill();
    cgroup.remove();
    exit(End::Unknown, out_of_memory, memory, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_exit_of_a_child_is_detected_without_events() {
        let child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let process = Process::open(Pid::from_child(&child), Cgroup::default()).unwrap();
        let ended = process.ended_without_events();
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("its end is seen");
        assert_eq!(process.reap(), End::Code(3));
        assert!({ child }.wait().is_err(), "it has been waited for");
    }

    #[test]
    fn exits_are_described_in_messages() {
        let check = |end, out_of_memory, killed, expected: &str| {
            assert_eq!(exit(end, out_of_memory, "64MiB", killed).to_string(), expected);
        };
        check(End::Code(3), 0, None, "exit code 3");
        check(End::Code(3), 1, None, "exit code 3");
        check(End::Signal(11), 0, None, "killed by signal 11");
        check(End::Signal(9), 1, None, "out of memory: limit 64MiB");
        check(End::Code(137), 1, None, "out of memory: limit 64MiB");
        check(End::Signal(9), 0, Some("grace over"), "killed by signal 9: grace over");
    }
}
