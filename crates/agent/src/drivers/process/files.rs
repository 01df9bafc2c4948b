//! The limit of open files of daemons and of the programs that they start.
//!
//! The default soft limit of 1024 open files exists for programs that still use `select`. A daemon
//! that holds many connections and processes raises it to the hard limit. Its child processes get
//! the limit with which the daemon was started.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit before it was raised.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of this process to its hard limit.
pub(super) fn raise_file_limit() -> io::Result<()> {
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
