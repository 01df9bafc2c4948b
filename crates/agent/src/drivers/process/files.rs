//! The file descriptors of daemons and of the programs that they start.
//!
//! The default soft limit of 1024 open files exists for programs that still use `select`. A daemon
//! that holds many connections and processes raises it to the hard limit. Its child processes get
//! the limit with which the daemon was started.
//!
//! Whoever starts a daemon may leave descriptors open: locks, sockets, pipes. They must not reach an
//! instance, which would hold the lock or keep the pipe open for as long as it runs.

use std::fs;
use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::spawn::close_on_exec;

/// The limit before it was raised.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of open files of this process to its hard limit, and keeps the descriptors
/// that it inherited, except the standard streams, from the programs that it will start. A daemon
/// calls it once, at its start.
pub fn take_over_files() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let descriptor = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(descriptor @ 3..) = descriptor {
            close_on_exec(descriptor)?;
        }
    }
    let before = BEFORE.get_or_init(|| getrlimit(Resource::Nofile));
    setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..*before })?;
    Ok(())
}

/// Restores the original limit in a child process. Called between fork and exec, so it makes only
/// system calls.
pub(super) fn restore_file_limit() -> io::Result<()> {
    if let Some(before) = BEFORE.get() {
        setrlimit(Resource::Nofile, *before)?;
    }
    Ok(())
}
