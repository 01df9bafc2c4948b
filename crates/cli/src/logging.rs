//! Logging to standard error. `-v` raises the level; the filter in `MUSTER_LOG` takes precedence.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::global::Global;

/// The format of log records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people to read.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// Starts logging. `daemon` is the log format of a daemon; other verbs log only errors by default,
/// as text.
pub(crate) fn start(global: &Global, daemon: Option<LogFormat>) {
    let level = match (daemon.is_some(), global.verbose) {
        (false, 0) => "error",
        (true, 0) => "info",
        (false, 1) => "info",
        (true, 1) | (false, 2) => "debug",
        _ => "trace",
    };
    // The `debug` level of these libraries is as detailed as our `trace`: only `-vv` enables it.
    let quiet = if level == "trace" { "" } else { ",hyper=info,h2=info,bollard=info" };
    let filter = EnvFilter::try_from_env("MUSTER_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level}{quiet}")));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(global.color.for_stderr());
    match daemon.unwrap_or_default() {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
}
