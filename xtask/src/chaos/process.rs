//! The processes inside, as the kernel lists them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::shell;

/// A process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) command: String,
    cwd: PathBuf,
}

impl Process {
    /// Whether it works below that directory or names it.
    pub(super) fn is_of(&self, dir: &Path) -> bool {
        self.cwd.starts_with(dir) || self.command.contains(&*dir.to_string_lossy())
    }
}

/// All processes with that word in their command line. The dead have none.
pub(super) fn with(word: &str) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        Some(Process { pid, command, cwd })
    };
    entries.filter_map(read).filter(|process| process.command.contains(word)).collect()
}

/// The instances of the example service, in and outside of containers.
pub(super) fn instances() -> Vec<Process> {
    let mut found = with("simpleservice");
    // The keeper and the engine name it as well, in the environment of their children.
    found.retain(|process| {
        process.command.split(' ').next().is_some_and(|program| program.ends_with("simpleservice"))
    });
    found
}

/// The keepers.
pub(super) fn keepers() -> Vec<Process> {
    with("keeper --dir")
}

/// Sends a signal, such as `STOP`.
pub(super) fn signal(pid: u32, signal: &str) -> Result<()> {
    shell::output(Command::new("kill").args([format!("-{signal}"), pid.to_string()])).map(drop)
}
