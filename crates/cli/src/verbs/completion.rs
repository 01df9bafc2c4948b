//! `muster completion`: what shells need to complete command lines.

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Exit;
use crate::output::{Failure, Screen};

const EXAMPLES: &str = "\
Examples:
  source <(muster completion bash)                                    in this shell
  muster completion bash > /etc/bash_completion.d/muster              for good
  muster completion zsh > ~/.zfunc/_muster
  muster completion fish > ~/.config/fish/completions/muster.fish";

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Bash,
    Zsh,
    Fish,
}

/// Runs the verb.
pub(crate) fn run(args: Args, screen: Screen) -> Result<Exit, Failure> {
    let shell = match args.shell {
        Kind::Bash => Shell::Bash,
        Kind::Zsh => Shell::Zsh,
        Kind::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "muster", &mut script);
    screen.bytes(&script)?;
    Ok(Exit::Ok)
}
