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
pub(super) struct Identity {
    pub(super) pid: Pid,
    started_at_ticks: u64,
}

impl Identity {
    /// Reads the identity that a process has written about itself.
    pub(super) fn read(path: &Path) -> Option<Identity> {
        parse(&fs::read_to_string(path).ok()?).map(|(identity, _)| identity)
    }

    /// Whether that process exists and has not ended.
    pub(super) fn is_alive(self) -> bool {
        let path = format!("/proc/{}/stat", self.pid.as_raw_nonzero());
        let stat = fs::read_to_string(path).ok();
        match stat.as_deref().and_then(parse) {
            Some((identity, state)) => identity == self && !matches!(state, 'Z' | 'X'),
            None => false,
        }
    }
}

/// Process id, state and start time, the 1st, 3rd and 22nd field (proc_pid_stat(5)). The 2nd is
/// a name in parentheses that may contain anything, so fields are counted from its end.
fn parse(stat: &str) -> Option<(Identity, char)> {
    let pid = stat.split(' ').next()?.parse().ok().and_then(Pid::from_raw)?;
    let mut fields = stat.rsplit_once(") ")?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started_at_ticks = fields.nth(18)?.parse().ok()?;
    Some((Identity { pid, started_at_ticks }, state))
}

/// An identifier of the current boot of the machine.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_nobody_else() {
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        let (own, _) = parse(&own).unwrap();
        assert!(own.is_alive());
        let other = Identity { started_at_ticks: own.started_at_ticks + 1, ..own };
        assert!(!other.is_alive());
    }

    #[test]
    fn names_with_parentheses_are_read() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        let (identity, state) = parse(&format!("42 (a) b (c)) {rest}")).unwrap();
        assert_eq!(
            (identity.pid.as_raw_nonzero().get(), identity.started_at_ticks, state),
            (42, 777, 'S')
        );
        assert_eq!(parse("42 (half"), None);
    }
}
