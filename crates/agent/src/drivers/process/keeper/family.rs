//! The family of a run: its process with all descendants. The members of its control group are its
//! family. Without control groups, the members of its session and of its process group are.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::super::cgroup::Cgroup;
use super::super::identity::Stat;

/// How often the members are listed again for a signal, since members may fork meanwhile.
const SIGNAL_PASSES_MAX: u32 = 8;

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
