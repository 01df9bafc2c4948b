//! The commands that pages show, `$ muster …`, and whether `muster` understands them.
//!
//! They are not run: with `--help` at the end, `muster` checks every word before and then only prints.

use anyhow::{Result, bail};

use super::page::Page;
use crate::shell::Top;

/// A command on a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The page.
    pub(super) page: String,
    /// The line.
    pub(super) number: usize,
    /// The arguments of `muster`.
    words: Vec<String>,
}

/// The commands of a page: the lines with a prompt in terminal blocks.
pub(super) fn lines(page: &Page) -> Vec<Line> {
    let in_terminal = page.lines().filter(|(_, block, _)| *block == Some("console"));
    let commands = in_terminal.filter_map(|(number, _, line)| {
        let words = words(line.strip_prefix("$ ")?);
        let at = words.iter().position(|word| word == "muster" || word.ends_with("/muster"))?;
        let words = words[at + 1..].to_vec();
        Some(Line { page: page.path.clone(), number, words })
    });
    commands.collect()
}

/// Fails with the usage error of `muster` if it rejects a command.
pub(super) fn check_usage(top: &Top, line: &Line) -> Result<()> {
    let muster = top.built("debug/muster");
    let mut command = top.command(&muster.to_string_lossy());
    // A bare `muster` prints how to get started.
    let help = (!line.words.is_empty()).then_some("--help");
    let output = command.args(&line.words).args(help).output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let message = message.lines().next().unwrap_or_default();
        bail!("`muster {}` is not understood: {message}", line.words.join(" "));
    }
    Ok(())
}

/// The words of a shell line up to the first operator or comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '<' | '&' | ';') => break,
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_terminals_only() {
        let text = "$ muster no\n```console\n$ target/debug/muster get services -o 'a b' | head\nmuster no\n\
                    $ cat x | muster apply -f -   # say\n```\n```text\n$ muster no\n```";
        let page = Page { path: "p.md".into(), text: text.into() };
        let found: Vec<_> = lines(&page).into_iter().map(|l| (l.number, l.words)).collect();
        let words = |text: &[&str]| text.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found, [(3, words(&["get", "services", "-o", "a b"]))]);
    }
}
