//! `muster man`: a manual page for every verb.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::args::Cli;
use crate::exit::Exit;
use crate::output::{Failure, Screen};

const EXAMPLES: &str = "\
Examples:
  muster man /usr/local/share/man/man1    then: man muster, man muster-apply";

/// Write the manual pages into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The directory; made if it is missing
    dir: PathBuf,
}

/// Runs the verb.
pub(crate) fn run(args: Args, screen: Screen) -> Result<Exit, Failure> {
    let written = std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir));
    let name = args.dir.display();
    written.map_err(|error| {
        Failure::new(Exit::Failure, format!("cannot write the manual pages into {name}"))
            .because(&error)
    })?;
    screen.line(format!("wrote the manual pages into {name}"))?;
    Ok(Exit::Ok)
}
