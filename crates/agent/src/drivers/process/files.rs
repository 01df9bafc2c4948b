//! The limit of open files. The usual 1024 is for programs that still use `select`; a daemon
//! that holds connections and processes needs more, and may have it: up to the hard limit. What a
//! daemon starts gets the limit that the daemon was started with.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit before it was raised.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the limit of this process as far as it goes. For any daemon, once, at its start.
pub fn raise_file_limit() -> io::Result<()> {
    let before = BEFORE.get_or_init(|| getrlimit(Resource::Nofile));
    setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..*before })?;
    Ok(())
}

/// Takes that back, for what this process has started: called between fork and exec, so it makes
/// system calls only.
pub(super) fn restore_file_limit() -> io::Result<()> {
    if let Some(before) = BEFORE.get() {
        setrlimit(Resource::Nofile, *before)?;
    }
    Ok(())
}
