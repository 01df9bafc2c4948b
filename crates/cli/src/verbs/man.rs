//! `muster man`: a manual page for every verb.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

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

/// Writes a page for each verb of the command line `root`.
pub(crate) fn run(args: Args, root: Command, screen: Screen) -> Result<Exit, Failure> {
    let written = std::fs::create_dir_all(&args.dir).and_then(|()| pages(&args.dir, root));
    let name = args.dir.display();
    written.map_err(|error| {
        Failure::new(Exit::Failure, format!("cannot write the manual pages into {name}"))
            .because(&error)
    })?;
    screen.line(format!("wrote the manual pages into {name}"))?;
    Ok(Exit::Ok)
}

fn pages(dir: &Path, root: Command) -> io::Result<()> {
    let mut root = root.disable_help_subcommand(true);
    root.build();
    let mut open = vec![root];
    while let Some(mut command) = open.pop() {
        open.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let (name, text) = page(&mut command)?;
        std::fs::write(dir.join(name), text)?;
    }
    Ok(())
}

/// The name of a page and its text. Preformatted parts, such as the synopsis and the examples, keep
/// their lines.
fn page(command: &mut Command) -> io::Result<(String, Vec<u8>)> {
    let usage = command.render_usage().to_string();
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    text.extend(lines("SYNOPSIS", usage.trim_start_matches("Usage:").trim_start()).bytes());
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_subcommands().any(|verb| !verb.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    match after.split_once(":\n") {
        Some(("Examples", examples)) => text.extend(lines("EXAMPLES", examples).bytes()),
        Some(("Exit codes", codes)) => text.extend(lines("EXIT STATUS", codes).bytes()),
        _ => text.extend(lines("NOTES", &after).bytes()),
    }
    Ok((man.get_filename(), text))
}

/// A section whose lines are kept; empty without text.
fn lines(title: &str, text: &str) -> String {
    let mut section = String::new();
    let text = text.trim_matches('\n');
    if text.trim().is_empty() {
        return section;
    }
    let _ = writeln!(section, ".SH \"{title}\"\n.nf");
    for line in text.lines() {
        let line = line.strip_prefix("  ").unwrap_or(line).trim_end();
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        // A dot at the beginning of a line would be a request.
        let guard = if line.starts_with('.') { "\\&" } else { "" };
        let _ = writeln!(section, "{guard}{line}");
    }
    section.push_str(".fi\n");
    section
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn text_of(verb: &str) -> String {
        let mut root = Cli::command();
        root.build();
        let mut command = match verb {
            "" => root,
            verb => root.find_subcommand(verb).unwrap().clone(),
        };
        String::from_utf8(page(&mut command).unwrap().1).unwrap()
    }

    #[test]
    fn examples_keep_their_lines() {
        let page = text_of("apply");
        let examples = ".SH \"EXAMPLES\"\n.nf\nmuster apply \\-f web.yaml  ";
        assert!(page.contains(examples) && !page.contains("EXTRA"), "{page}");
        let synopsis = ".SH \"SYNOPSIS\"\n.nf\nmuster apply [OPTIONS] \\-\\-file <FILE>\n.fi";
        assert!(page.contains(synopsis), "{page}");
        assert!(text_of("").contains(".SH \"EXIT STATUS\"\n.nf\n0  done\n"));
    }
}
