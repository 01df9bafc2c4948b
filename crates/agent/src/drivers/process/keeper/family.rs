//! The family of a run: its process with all descendants. The members of its control group are its
//! family. Without control groups, the members of its session and of its process group are.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::super::cgroup::Cgroup;
use super::super::identity::Stat;

/// How often the members are listed again for a signal, since members may fork meanwhile.
const SIGNAL_PASSES_MAX: u32 = 8;
/// Timeout for all members to be stopped by a signal.
const STOPPED_WAIT: Duration = Duration::from_secs(5);
/// The pause between two looks at members that are being stopped.
const STOPPED_PAUSE: Duration = Duration::from_millis(2);

/// The family of a run. Its first process must not have been reaped: without control groups, the
/// process id identifies the session.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub(super) first: Pid,
    pub(super) cgroup: Cgroup,
}

impl Family {
    /// Sends a signal once to each member, including those that are forked meanwhile.
    pub(super) fn signal(&self, signal: Signal) {
        let mut signalled = BTreeSet::new();
        for _ in 0..SIGNAL_PASSES_MAX {
            let members = self.members();
            let is_new = |pid: &Pid| signalled.insert(pid.as_raw_nonzero());
            let new: Vec<_> = members.into_iter().filter(is_new).collect();
            if new.is_empty() {
                return;
            }
            for pid in new {
                // An error means that the member has ended.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Kills all members. Returns `false` if some of them still run.
    pub(super) fn kill(&self) -> bool {
        // The group is signalled as a whole, so that it cannot fork faster than it is listed.
        let _ = kill_process_group(self.first, Signal::KILL);
        if self.is_grouped() {
            self.cgroup.kill();
        } else {
            self.signal(Signal::KILL);
        }
        self.is_gone()
    }

    /// Suspends all members, unless `is_cancelled`. Blocks until all are suspended. Without a
    /// freezer they are stopped by a signal.
    pub(super) fn suspend(&self, is_cancelled: impl Fn() -> bool) -> io::Result<()> {
        match self.cgroup.freezer() {
            Some(freezer) => freezer.freeze(|| self.members(), is_cancelled),
            None => self.stop_all(is_cancelled),
        }
    }

    /// Stops all members by a signal. A stopped process forks no others, so the family is complete
    /// once two consecutive looks find only stopped members.
    fn stop_all(&self, is_cancelled: impl Fn() -> bool) -> io::Result<()> {
        let begun = Instant::now();
        let mut clean = 0;
        while clean < 2 && !is_cancelled() {
            let is_running =
                |pid: &Pid| Stat::of(*pid).is_some_and(|stat| stat.runs && !stat.is_stopped);
            let running: Vec<_> = self.members().into_iter().filter(is_running).collect();
            clean = if running.is_empty() { clean + 1 } else { 0 };
            for pid in running {
                // An error means that the member has ended.
                let _ = kill_process(pid, Signal::STOP);
            }
            if begun.elapsed() > STOPPED_WAIT {
                let span = STOPPED_WAIT.as_secs();
                let message = format!("not all processes have stopped within {span} s");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(STOPPED_PAUSE);
        }
        Ok(())
    }

    /// Lets all members run again.
    pub(super) fn resume(&self) -> io::Result<()> {
        if !self.cgroup.thaw()? {
            self.signal(Signal::CONT);
        }
        Ok(())
    }

    /// Whether no member runs.
    pub(super) fn is_gone(&self) -> bool {
        self.members().is_empty()
    }

    /// Whether it has a control group, which no member can leave.
    fn is_grouped(&self) -> bool {
        self.cgroup != Cgroup::default()
    }

    fn members(&self) -> Vec<Pid> {
        if self.is_grouped() {
            let pids = self.cgroup.pids().into_iter();
            return pids.filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.runs)).collect();
        }
        let first = self.first.as_raw_nonzero().get();
        let of_family = |stat: &Stat| stat.runs && (stat.session == first || stat.group == first);
        Stat::all().filter(of_family).map(|stat| stat.identity.pid).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    /// Without control groups, members are stopped by a signal, and those that fork meanwhile as well.
    #[test]
    fn a_family_without_a_freezer_is_stopped_by_a_signal() {
        let forks = "while :; do (sleep 0.01; sleep 0.01) & sleep 0.001; done";
        let mut child =
            std::process::Command::new("sh").args(["-c", forks]).process_group(0).spawn().unwrap();
        let family = Family { first: Pid::from_child(&child), cgroup: Cgroup::default() };
        let states = |family: &Family| -> Vec<bool> {
            family.members().into_iter().filter_map(Stat::of).map(|stat| stat.is_stopped).collect()
        };
        family.suspend(|| false).unwrap();
        let stopped = states(&family);
        assert!(!stopped.is_empty() && stopped.iter().all(|is_stopped| *is_stopped), "{stopped:?}");
        assert_eq!(states(&family).len(), stopped.len(), "no member forks");
        family.resume().unwrap();
        assert!(states(&family).contains(&false));
        family.suspend(|| true).unwrap();
        assert!(states(&family).contains(&false), "it is cancelled");
        family.kill();
        child.wait().unwrap();
    }
}
