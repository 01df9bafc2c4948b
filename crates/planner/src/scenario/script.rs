//! Reads scripts line by line and writes them with the current output of their commands.

use std::fmt;

use super::{Error, World, execute};

/// A line of a script with its result. Its `Display` form is the line and its output.
#[derive(Debug)]
pub struct Line {
    /// Its number in the script, from 1.
    pub number: usize,
    /// The line.
    pub text: String,
    /// Its output; empty for a comment.
    pub printed: Result<Vec<String>, Error>,
}

impl Line {
    /// The command, if it is one.
    pub fn command(&self) -> Option<&str> {
        command(&self.text)
    }
}

fn command(text: &str) -> Option<&str> {
    text.strip_prefix("> ")
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        match &self.printed {
            Ok(lines) => lines.iter().try_for_each(|line| writeln!(f, "  {line}")),
            Err(error) => writeln!(f, "  error: {error}"),
        }
    }
}

/// Executes a script in a cluster. The previous output of its commands is dropped.
pub fn replay(world: &mut World, script: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, text) in script.lines().enumerate() {
        let text = text.trim_end();
        let printed = match command(text) {
            Some(command) => execute(world, command),
            None if text.is_empty() || text.starts_with('#') => Ok(Vec::new()),
            None if text.starts_with(char::is_whitespace) => continue,
            None => Err(Error::Stray),
        };
        lines.push(Line { number: index + 1, text: text.into(), printed });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::COMMANDS;

    fn written(script: &str) -> String {
        replay(&mut World::new(), script).iter().map(Line::to_string).collect()
    }

    #[test]
    fn an_error_is_printed_below_its_line() {
        let script = "> node n1\n> lsoe n1\n> lose n12\n> tick soon\n> scale /web\nlose n1\n\
                      > apply /web instnces=2\n> node n2 cpus=1\n";
        insta::assert_snapshot!(written(script), @r"
        > node n1
          node n1 created
        > lsoe n1
          error: there is no command `lsoe`; did you mean `lose`?
        > lose n12
          error: there is no node `n12`; did you mean `n1`?
        > tick soon
          error: `soon` is not a duration with its unit: 500ms, 30s, 5m, 1h30m
        > scale /web
          error: a number of instances is missing
        lose n1
          error: a command begins with `> `, a comment with `#`, and what is printed is indented
        > apply /web instnces=2
          error: unknown key `instnces`
        > node n2 cpus=1
          error: `cpus=1` means nothing here
        ");
        assert_eq!(written(&written(script)), written(script));
        let lines = replay(&mut World::new(), script);
        let columns = lines.iter().map(|line| match &line.printed {
            Ok(_) => 0,
            Err(error) => error.column(&line.text),
        });
        assert_eq!(columns.collect::<Vec<_>>(), [0, 3, 8, 8, 13, 1, 14, 11]);
    }

    #[test]
    fn every_command_in_the_help_exists() {
        let examples: String =
            COMMANDS.iter().map(|known| format!("> {}\n", known.usage)).collect();
        let lines = replay(&mut World::new(), &examples);
        for (line, known) in lines.iter().zip(COMMANDS) {
            assert!(known.usage.starts_with(known.name));
            let is_one = !matches!(
                line.printed,
                Err(Error::Command { .. }
                    | Error::Missing(_)
                    | Error::Word(_)
                    | Error::Value { .. })
            );
            assert!(is_one, "{line}");
        }
    }
}
