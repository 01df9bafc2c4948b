//! The one executable of Muster: arguments, environment and terminal end here.
//!
//! `args` says what can be typed, `verbs` what it does, `daemon` starts the long-running parts,
//! `demo` shows all of it at work, `output` is the terminal. Nothing here decides anything about
//! services: that is the server's.

mod allocator;
mod args;
mod daemon;
mod demo;
mod exit;
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
    // The keeper stays beside every process for its whole life: it must not pay for the rest.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "keeper") {
        return daemon::keeper::run(std::env::args_os().skip(2));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers and go to standard output, as clap prints them.
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            return if asked { Exit::Ok } else { Exit::Usage }.into();
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
    logging::start(&cli.global, &verb);
    // Daemons hold a file for each connection and process; to the others it is all the same.
    if let Err(error) = agent::raise_file_limit() {
        tracing::warn!("the limit of open files cannot be raised: {error}");
    }
    let mut builder = match &verb {
        // It shares its machine with what it runs: one thread holds less and hands nothing over.
        Verb::Agent(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Failure, "the process cannot get its threads").because(&error)
    })?;
    let end = runtime.block_on(verbs::run(verb, &cli.global, screen));
    // A thread that reads a terminal or a pipe must not keep the process alive.
    runtime.shutdown_background();
    end
}
