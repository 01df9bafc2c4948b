//! The daemons: reads their options and starts them.

pub(crate) mod agent;
pub(crate) mod cluster;
pub(crate) mod dev;
pub(crate) mod gateway;
pub(crate) mod keeper;
pub(crate) mod node;
pub(crate) mod server;

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Exit;
use crate::logging::LogFormat;
use crate::output::Failure;

/// The log options of a daemon.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Log {
    /// The form of the log
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) log_format: LogFormat,
}

/// The default data directory of a daemon: below /var/lib for root, below the user's data directory
/// (XDG) otherwise.
fn data_dir(part: &str) -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let own = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    let base = match (own, is_root()) {
        (Some(own), false) => own,
        _ => PathBuf::from("/var/lib"),
    };
    base.join("muster").join(part)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // `/proc/self` belongs to the effective user of the process.
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Becomes true on the first SIGINT or SIGTERM. A second one exits immediately, in case stopping
/// hangs.
pub(crate) fn stop_signal() -> Result<watch::Receiver<bool>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failure, "signals cannot be received").because(&error)
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send_replace(true) {
                std::process::exit(130);
            }
        }
    });
    Ok(receiver)
}

/// Returns once `stop` is true or its sender is dropped.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The result of a daemon, as a failure for the user.
fn ended(what: &str, result: Result<(), impl std::error::Error>) -> Result<(), Failure> {
    result
        .map_err(|error| Failure::new(Exit::Failure, format!("the {what} failed")).because(&error))
}
