//! The one executable of Muster: arguments, environment and terminal end here.
//!
//! `args` defines the command line and runs the verbs in `verbs`; `daemon` starts server, agent and
//! gateway, `demo` runs a whole cluster under load, `output` is the terminal. Nothing here makes
//! decisions about services: that is the server's part.

mod adapters;
mod allocator;
mod args;
mod daemon;
mod demo;
mod exit;
mod global;
mod logging;
mod output;
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, GETTING_STARTED, Verb};
use exit::Exit;
use output::{Failure, Screen};

fn main() -> ExitCode {
    // One keeper runs alongside every process for its whole life, so it starts before the rest
    // allocates memory.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "keeper") {
        return daemon::keeper::run(std::env::args_os().skip(2));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results, not errors: clap prints them to standard output.
            let is_requested =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            return if is_requested { Exit::Ok } else { Exit::Usage }.into();
        }
    };
    let color = cli.global.color;
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprint!("{}", failure.render(color.for_stderr(), 100));
            failure.exit.into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let screen = Screen::new(cli.global.output, cli.global.color);
    let Some(verb) = cli.verb else {
        screen.line(GETTING_STARTED)?;
        return Ok(Exit::Ok);
    };
    logging::start(&cli.global, verb.daemon_log());
    // Daemons hold a file descriptor for each connection and process; other verbs need no higher
    // limit, and it does them no harm.
    if let Err(error) = agent::take_over_files() {
        tracing::warn!("the file descriptors of this process cannot be prepared: {error}");
    }
    let mut builder = match &verb {
        // The agent shares its node with the instances: one thread needs less memory and fewer
        // context switches.
        Verb::Agent(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Failure, "the process cannot get its threads").because(&error)
    })?;
    let end = runtime.block_on(verb.run(&cli.global, screen));
    // A thread that reads a terminal or a pipe must not keep the process alive.
    runtime.shutdown_background();
    end
}
