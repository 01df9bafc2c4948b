//! Suspends and resumes all members of a control group by the kernel's freezer, which no process
//! notices. Version 2 has it in every group. Version 1 has a hierarchy of its own for it, in which a
//! run gets a group only when it is first suspended: members are moved there one by one, and one
//! that forked meanwhile is found by listing them again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// Timeout for all members to be frozen. A process that waits for a device that does not respond
/// cannot be frozen.
const TIME_MAX: Duration = Duration::from_secs(5);
/// The pause between two looks at a group that is being frozen.
const PAUSE: Duration = Duration::from_millis(2);

/// The freezer of one control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Freezer {
    /// The group of version 2.
    V2(PathBuf),
    /// The group in the freezer's hierarchy of version 1; it need not exist.
    V1(PathBuf),
}

impl Freezer {
    /// Whether it has ever been used, or can be.
    pub(super) fn is_available(&self) -> bool {
        match self {
            Freezer::V2(dir) => dir.join("cgroup.freeze").exists(),
            Freezer::V1(dir) => fs::create_dir_all(dir).is_ok(),
        }
    }

    /// Freezes the members, which `members` lists, unless `is_cancelled`. Blocks until all are frozen.
    pub(super) fn freeze(
        &self,
        members: impl Fn() -> Vec<Pid>,
        is_cancelled: impl Fn() -> bool,
    ) -> io::Result<()> {
        let begun = Instant::now();
        while !is_cancelled() {
            let is_frozen = match self {
                Freezer::V2(dir) => {
                    fs::write(dir.join("cgroup.freeze"), "1")?;
                    let events = fs::read_to_string(dir.join("cgroup.events"))?;
                    events.lines().any(|line| line == "frozen 1")
                }
                Freezer::V1(dir) => {
                    let all_are_in = move_into(dir, members())?;
                    // Written again, it freezes members that have not been frozen yet.
                    fs::write(dir.join("freezer.state"), "FROZEN")?;
                    let state = fs::read_to_string(dir.join("freezer.state"))?;
                    all_are_in && state.trim() == "FROZEN"
                }
            };
            if is_frozen {
                return Ok(());
            }
            if begun.elapsed() > TIME_MAX {
                let message =
                    format!("not all processes are frozen within {} s", TIME_MAX.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Lets the members run again; returns whether there was anything to thaw.
    pub(super) fn thaw(&self) -> io::Result<bool> {
        let thawed = match self {
            Freezer::V2(dir) => fs::write(dir.join("cgroup.freeze"), "0"),
            Freezer::V1(dir) => fs::write(dir.join("freezer.state"), "THAWED"),
        };
        match thawed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            thawed => thawed.map(|()| true),
        }
    }

    /// The directory to remove with the group, if it is not the group's own.
    pub(super) fn dir(&self) -> Option<&PathBuf> {
        match self {
            Freezer::V2(_) => None,
            Freezer::V1(dir) => Some(dir),
        }
    }
}

/// Moves processes into a group of version 1; returns whether all were in it already.
fn move_into(dir: &Path, members: Vec<Pid>) -> io::Result<bool> {
    let known = pids_in(dir);
    let outside: Vec<_> = members.into_iter().filter(|pid| !known.contains(pid)).collect();
    for pid in &outside {
        match fs::write(dir.join("cgroup.procs"), pid.as_raw_nonzero().to_string()) {
            // It has ended.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            moved => moved?,
        }
    }
    Ok(outside.is_empty())
}

/// The processes in the group of that directory.
pub(super) fn pids_in(dir: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)).collect()
}
