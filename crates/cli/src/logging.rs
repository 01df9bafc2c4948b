//! What is logged, and how: to standard error, more of it with `-v`, as `MUSTER_LOG` says if set.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::args::{Global, Verb};
use crate::daemon;

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line, for collectors.
    Json,
}

/// Starts logging for this verb.
pub(crate) fn start(global: &Global, verb: &Verb) {
    let level = match (verb.is_daemon(), global.verbose) {
        (false, 0) => "error",
        (true, 0) => "info",
        (false, 1) => "info",
        (true, 1) | (false, 2) => "debug",
        _ => "trace",
    };
    // Libraries say at `debug` what ours say at `trace`: only `-vv` asks for that.
    let quiet = if level == "trace" { "" } else { ",hyper=info,h2=info,bollard=info" };
    let filter = EnvFilter::try_from_env("MUSTER_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level}{quiet}")));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(global.color.for_stderr());
    match daemon::log_format(verb) {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
}
