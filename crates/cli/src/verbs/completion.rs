//! `muster completion`: completion scripts for shells.

use clap::{Command, ValueEnum};
use clap_complete::Shell;

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

/// Prints the script for the command line `root`.
pub(crate) fn run(args: Args, mut root: Command, screen: Screen) -> Result<Exit, Failure> {
    let shell = match args.shell {
        Kind::Bash => Shell::Bash,
        Kind::Zsh => Shell::Zsh,
        Kind::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut root, "muster", &mut script);
    screen.bytes(&script)?;
    Ok(Exit::Ok)
}
