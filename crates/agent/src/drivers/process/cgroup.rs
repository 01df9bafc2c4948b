//! Resource limits by control groups, through plain files: version 2 if it has the controllers,
//! otherwise version 1 (one mount per controller). Every run gets the group
//! `muster/<keeper>/<resource>`, which is removed when the run has ended.
//!
//! If groups cannot be created, processes run without limits, and one warning is logged.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Bytes, Cpu};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::freezer::{Freezer, pids_in};

const CLEAR_TRIES: u32 = 200;
const CLEAR_WAIT: Duration = Duration::from_millis(5);

/// The control groups of one keeper.
#[derive(Debug)]
pub(super) enum Cgroups {
    /// One hierarchy with all controllers.
    V2 { base: PathBuf },
    /// One hierarchy per controller.
    V1 { cpu: Option<PathBuf>, memory: Option<PathBuf>, freezer: Option<PathBuf> },
    /// Control groups are not available.
    None,
}

/// The control group of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cgroup {
    /// The directory whose `cgroup.procs` lists the processes: the version 2 group, or the group of
    /// version 1 with the memory controller, or else the one with the cpu controller.
    main: Option<PathBuf>,
    others: Vec<PathBuf>,
    freezer: Option<Freezer>,
    v2: bool,
}

impl Cgroups {
    /// Detects the control groups of this machine; `id` distinguishes the groups of this keeper
    /// from those of others. Also returns a warning if some limits cannot be set.
    pub(super) fn detect(id: &str) -> (Cgroups, Option<String>) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts: Vec<_> = mounts.lines().filter_map(mount).collect();
        let below = |root: &Path| root.join("muster").join(id);
        let unified = mounts.iter().find(|mount| {
            let controllers = mount.point.join("cgroup.controllers");
            let controllers = fs::read_to_string(controllers).unwrap_or_default();
            mount.kind == "cgroup2" && controllers.split_whitespace().any(|c| c == "memory")
        });
        if let Some(root) = unified {
            let base = below(&root.point);
            return match make_v2(&root.point, &base) {
                Ok(()) => (Cgroups::V2 { base }, None),
                Err(error) => (Cgroups::None, Some(unlimited(&error))),
            };
        }
        let mut warning = None;
        let base = |name: &str| {
            let of = |mount: &&Mount| {
                mount.kind == "cgroup" && mount.options.split(',').any(|option| option == name)
            };
            Some(below(&mounts.iter().find(of)?.point))
        };
        let mut controller = |name: &str| {
            let base = base(name)?;
            match fs::create_dir_all(&base) {
                Ok(()) => Some(base),
                Err(error) => {
                    warning = Some(unlimited(&error));
                    None
                }
            }
        };
        match (controller("cpu"), controller("memory")) {
            (None, None) => {
                let none = || "no control groups are mounted: processes run without limits".into();
                (Cgroups::None, Some(warning.unwrap_or_else(none)))
            }
            (cpu, memory) => (Cgroups::V1 { cpu, memory, freezer: base("freezer") }, warning),
        }
    }

    /// The group of a resource, by its slug; it need not exist.
    pub(super) fn of(&self, slug: &str) -> Cgroup {
        match self {
            Cgroups::None => Cgroup::default(),
            Cgroups::V2 { base } => {
                let main = base.join(slug);
                let freezer = Some(Freezer::V2(main.clone()));
                Cgroup { main: Some(main), others: Vec::new(), freezer, v2: true }
            }
            Cgroups::V1 { cpu, memory, freezer } => {
                let mut dirs = [memory, cpu].into_iter().flatten().map(|base| base.join(slug));
                let freezer = freezer.as_ref().map(|base| Freezer::V1(base.join(slug)));
                Cgroup { main: dirs.next(), others: dirs.collect(), freezer, v2: false }
            }
        }
    }

    /// Removes the parent groups of this keeper, if they are empty.
    pub(super) fn remove(&self) {
        let bases = match self {
            Cgroups::None => Vec::new(),
            Cgroups::V2 { base } => vec![base],
            Cgroups::V1 { cpu, memory, freezer } => {
                [cpu, memory, freezer].into_iter().flatten().collect()
            }
        };
        for base in bases {
            let removed = fs::remove_dir(base);
            if let (Ok(()), Some(parent)) = (removed, base.parent()) {
                // Fails while another keeper has groups in it.
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

impl Cgroup {
    /// Creates the group with its limits, without processes; returns the open files by which a
    /// process joins it.
    pub(super) fn make(&self, cpu: Cpu, memory: Bytes) -> io::Result<Vec<File>> {
        for dir in self.dirs() {
            if dir.exists() {
                self.clear(dir)?;
            }
            fs::create_dir(dir)?;
            let shares = (u64::from(cpu.0) * 1024 / 1000).clamp(2, 262_144);
            // The conversion that all container runtimes use, from 2..262144 to 1..10000.
            let weight = 1 + (shares - 2) * 9999 / 262_142;
            set(dir, "cpu.shares", shares)?;
            set(dir, "cpu.weight", weight)?;
            if memory.0 > 0 {
                set(dir, "memory.limit_in_bytes", memory.0)?;
                set(dir, "memory.memsw.limit_in_bytes", memory.0)?;
                set(dir, "memory.max", memory.0)?;
                set(dir, "memory.swap.max", 0)?;
                set(dir, "memory.oom.group", 1)?;
            }
        }
        self.join()
    }

    /// The open files by which a process joins the group, which must exist.
    pub(super) fn join(&self) -> io::Result<Vec<File>> {
        // With version 1, a single thread (a forked child has only one) that moves itself by
        // `tasks` avoids the kernel's lock against forks, on which the first move after a while
        // waits some 15 ms. Version 2 has no equivalent.
        let name = if self.v2 { "cgroup.procs" } else { "tasks" };
        self.dirs().map(|dir| OpenOptions::new().write(true).open(dir.join(name))).collect()
    }

    /// Kills every process in the group. With version 1, processes that fork meanwhile remain, and
    /// frozen ones end once they are thawed.
    pub(super) fn kill(&self) {
        let Some(main) = &self.main else { return };
        if self.v2 && fs::write(main.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        for pid in self.pids() {
            // An error means that the process has already ended, which is the goal.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.freezer.as_ref().map(Freezer::thaw);
    }

    /// The freezer of the group, if it can be used.
    pub(super) fn freezer(&self) -> Option<&Freezer> {
        self.freezer.as_ref().filter(|freezer| freezer.is_available())
    }

    /// Lets frozen processes run again; returns whether there may have been any.
    pub(super) fn thaw(&self) -> io::Result<bool> {
        self.freezer.as_ref().map_or(Ok(false), Freezer::thaw)
    }

    /// Removes the group that an earlier run has left. Killed processes take a moment to exit.
    fn clear(&self, dir: &Path) -> io::Result<()> {
        let mut tries = 0;
        loop {
            self.kill();
            match fs::remove_dir(dir) {
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                    tries += 1;
                    if tries > CLEAR_TRIES {
                        return Err(error);
                    }
                    std::thread::sleep(CLEAR_WAIT);
                }
                done => return done,
            }
        }
    }

    /// The number of its processes that were killed because its memory limit was reached.
    pub(super) fn out_of_memory(&self) -> u64 {
        let files = self
            .dirs()
            .flat_map(|dir| ["memory.events", "memory.oom_control"].map(|name| dir.join(name)));
        let texts = files.filter_map(|path| fs::read_to_string(path).ok());
        texts.filter_map(|text| count(&text, "oom_kill")).sum()
    }

    /// Removes the group if it is empty; returns whether it is gone.
    pub(super) fn remove(&self) -> bool {
        let remains = |dir: &&PathBuf| match fs::remove_dir(dir) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        let freezer = self.freezer.as_ref().and_then(Freezer::dir);
        self.dirs().chain(freezer).filter(remains).count() == 0
    }

    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        self.main.iter().chain(&self.others)
    }

    pub(super) fn pids(&self) -> Vec<Pid> {
        let Some(main) = &self.main else { return Vec::new() };
        pids_in(main)
    }
}

struct Mount {
    point: PathBuf,
    kind: String,
    options: String,
}

/// Parses a line of proc_pid_mountinfo(5): the 5th field, and after `-` the 1st and 3rd.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let kind = after.next()?.to_string();
    let options = after.nth(1).unwrap_or_default().to_string();
    let point = before.split(' ').nth(4)?.into();
    kind.starts_with("cgroup").then_some(Mount { point, kind, options })
}

/// Creates the groups down to `base` and enables the controllers in each.
fn make_v2(root: &Path, base: &Path) -> io::Result<()> {
    fs::create_dir_all(base)?;
    let mut dirs: Vec<_> = base.ancestors().take_while(|dir| dir.starts_with(root)).collect();
    dirs.reverse();
    for dir in dirs {
        fs::write(dir.join("cgroup.subtree_control"), "+cpu +memory")?;
    }
    Ok(())
}

/// Sets a limit, if the group has a file for it.
fn set(dir: &Path, name: &str, value: u64) -> io::Result<()> {
    let path = dir.join(name);
    match OpenOptions::new().write(true).open(path) {
        Ok(mut file) => io::Write::write_all(&mut file, value.to_string().as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn count(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn unlimited(error: &io::Error) -> String {
    format!("control groups cannot be made ({error}): processes run without some of their limits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_and_counts_are_read() {
        let line = "36 25 0:31 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory";
        let mount = mount(line).unwrap();
        assert_eq!(mount.point, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!((mount.kind.as_str(), mount.options.as_str()), ("cgroup", "rw,memory"));
        assert_eq!(count("low 0\noom 3\noom_kill 2\noom_group_kill 1\n", "oom_kill"), Some(2));
        assert_eq!(count("oom_kill_disable 0\n", "oom_kill"), None);
    }
}
