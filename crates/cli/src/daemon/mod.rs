//! The long-running parts: reads their options and starts them. What they do is theirs.

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

use crate::args::Verb;
use crate::exit::Exit;
use crate::logging::LogFormat;
use crate::output::Failure;

/// How a daemon logs.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Log {
    /// The form of the log
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) log_format: LogFormat,
}

/// The form of the log that a verb was asked for.
pub(crate) fn log_format(verb: &Verb) -> LogFormat {
    match verb {
        Verb::Dev(args) => args.log.log_format,
        Verb::Server(args) => args.log.log_format,
        Verb::Agent(args) => args.log.log_format,
        Verb::Gateway(args) => args.log.log_format,
        _ => LogFormat::Text,
    }
}

/// Where daemons keep what must outlive them, unless told otherwise: the system's place for
/// root, the user's own otherwise.
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
    // `/proc/self` belongs to whoever the process runs as.
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Turns true once the process is asked to stop, by SIGINT or SIGTERM. A second one ends it at
/// once, in case stopping hangs.
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

/// Ends once `stop` is true, or nobody can make it true any more.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How a daemon ended, for the user.
fn ended(what: &str, result: Result<(), impl std::error::Error>) -> Result<(), Failure> {
    result.map_err(|error| {
        Failure::new(Exit::Failure, format!("the {what} cannot go on")).because(&error)
    })
}
