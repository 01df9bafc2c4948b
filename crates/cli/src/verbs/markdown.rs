//! `muster help-markdown`: all help texts as one page of the book, which therefore cannot go stale.

use std::fmt::Write as _;

use clap::Command;

use crate::exit::Exit;
use crate::output::{Failure, Screen};

/// Print all help texts as markdown
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints the help texts of the command line `root`.
pub(crate) fn run(_: Args, root: Command, screen: Screen) -> Result<Exit, Failure> {
    screen.bytes(page(root).as_bytes())?;
    Ok(Exit::Ok)
}

fn page(mut root: Command) -> String {
    root.build();
    let mut text =
        String::from("# Command line\n\nThis page is generated from the help texts of `muster`.\n");
    section(&mut text, root, 2);
    text
}

fn section(text: &mut String, command: Command, level: usize) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_string();
    // The width must not depend on the terminal in which the page is generated.
    let help = command.clone().term_width(88).color(clap::ColorChoice::Never).render_long_help();
    let help = help.to_string();
    let lines: Vec<_> = help.trim().lines().map(str::trim_end).collect();
    let _ =
        write!(text, "\n{} `{name}`\n\n```text\n{}\n```\n", "#".repeat(level), lines.join("\n"));
    for verb in command.get_subcommands() {
        if !verb.is_hide_set() && verb.get_name() != "help" {
            section(text, verb.clone(), (level + 1).min(4));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn the_page_lists_every_verb_except_hidden_ones() {
        let page = page(Cli::command());
        for heading in ["## `muster`", "### `muster apply`", "#### `muster rollout undo`"] {
            assert!(page.lines().any(|line| line == heading), "{heading}");
        }
        assert!(!page.contains("help-markdown"));
        assert!(!page.contains('\u{1b}'));
        assert!(page.contains("Exit codes:"));
    }
}
