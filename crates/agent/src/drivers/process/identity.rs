//! The identity of a process. A process id can be reused after the process is gone; the process id
//! together with the start time, in clock ticks since boot, cannot.
//!
//! A run's identity is stored as the first bytes of its `/proc/self/stat`. The process writes it
//! itself before it executes its program (see `spawn`), so every running program has a recorded
//! identity.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

/// A process that may have ended by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drivers) struct Identity {
    pub(super) pid: Pid,
    started_at_ticks: u64,
}

impl Identity {
    /// Reads the identity that a process has written about itself.
    pub(super) fn read(path: &Path) -> Option<Identity> {
        Stat::parse(&fs::read_to_string(path).ok()?).map(|stat| stat.identity)
    }

    /// Whether that process exists and has not ended.
    pub(super) fn is_alive(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.identity == self && stat.runs)
    }
}

/// The facts of a process in `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drivers) struct Stat {
    pub(super) identity: Identity,
    /// Whether it has not ended: a process that has ended remains until its parent reaps it.
    pub(in crate::drivers) runs: bool,
    /// Whether it is stopped by a signal.
    pub(super) is_stopped: bool,
    /// The id of its process group.
    pub(super) group: i32,
    /// The id of its session.
    pub(super) session: i32,
}

impl Stat {
    pub(in crate::drivers) fn of(pid: Pid) -> Option<Stat> {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        Stat::parse(&fs::read_to_string(path).ok()?)
    }

    /// All processes of this machine.
    pub(super) fn all() -> impl Iterator<Item = Stat> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(Pid::from_raw).filter_map(Stat::of)
    }

    /// Reads the 1st, 3rd, 5th, 6th and 22nd field. The 2nd is a name in parentheses that may
    /// contain anything, so fields are counted from its end.
    fn parse(stat: &str) -> Option<Stat> {
        let pid = stat.split(' ').next()?.parse().ok().and_then(Pid::from_raw)?;
        let mut fields = stat.rsplit_once(") ")?.1.split_whitespace();
        let state = fields.next()?;
        let (runs, is_stopped) = (!matches!(state, "Z" | "X"), matches!(state, "T" | "t"));
        let group = fields.nth(1)?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let started_at_ticks = fields.nth(15)?.parse().ok()?;
        let identity = Identity { pid, started_at_ticks };
        Some(Stat { identity, runs, is_stopped, group, session })
    }
}

/// An identifier of the current boot of the machine.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_matches_only_its_own_process() {
        let own = Stat::parse(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(own.identity.is_alive());
        let started_at_ticks = own.identity.started_at_ticks + 1;
        assert!(!Identity { started_at_ticks, ..own.identity }.is_alive());
        assert!(Stat::all().any(|stat| stat.identity == own.identity));
    }

    #[test]
    fn names_with_parentheses_are_read() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        let stat = Stat::parse(&format!("42 (a) b (c)) {rest}")).unwrap();
        assert_eq!(
            (stat.identity.pid.as_raw_nonzero().get(), stat.identity.started_at_ticks),
            (42, 777)
        );
        assert_eq!((stat.runs, stat.group, stat.session), (true, 2, 3));
        assert_eq!(Stat::parse("42 (half"), None);
    }
}
