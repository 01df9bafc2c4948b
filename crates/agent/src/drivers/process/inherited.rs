//! The file descriptors that a daemon inherits.
//!
//! The process that starts a daemon may leave descriptors open: locks, sockets, pipes. They must not
//! reach an instance, which would hold the lock or keep the pipe open for as long as it runs.

use std::fs;
use std::io;

use super::files::raise_file_limit;
use super::spawn::close_on_exec;

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
    raise_file_limit()
}
