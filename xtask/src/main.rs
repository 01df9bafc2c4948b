//! The tasks of this repository, run as `cargo xtask VERB`.
//!
//! One language for everything: contributors and continuous integration run the same commands, and each failure names
//! the command that repeats just the failing part. Nothing here is part of the product, and no crate of the product is
//! linked into it, so that `tidy` and `test` work while the product does not compile.
//!
//! Read [`args`] for the tasks, [`test`] for the steps of the whole check, [`tidy`] for the rules of the house.

mod apt;
mod args;
mod bench;
mod chaos;
mod clients;
mod demo;
mod docker;
mod docs;
mod fuzz;
mod image;
mod mutants;
mod prove;
mod shell;
mod step;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match cli.run(&shell::Top::find()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
