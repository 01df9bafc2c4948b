//! Interactive commands. The terminal edits the line; the complete line is a script.

use std::io::BufRead;

use planner::scenario::{World, execute};

use crate::exit::Exit;
use crate::output::tone::Tone;
use crate::output::{Failure, Screen};

/// Reads commands until `exit` or the end of input. `url` is the server that the cluster was copied
/// from.
pub(super) fn run(mut world: World, url: Option<&str>, screen: &Screen) -> Result<Exit, Failure> {
    let whose = match url {
        Some(url) => {
            let (nodes, services) = (world.state.nodes().count(), world.state.services().count());
            format!(
                "# A copy of {url}: nodes {nodes}, services {services}. Nothing is changed there."
            )
        }
        None => "# An empty cluster: begin with `node n1`.".into(),
    };
    screen.line(screen.paint(Tone::Dim, &whose))?;
    screen.line(screen.paint(Tone::Dim, "# `help` lists the commands, `exit` ends."))?;
    let mut input = std::io::stdin().lock();
    loop {
        screen.bytes(b"> ")?;
        let mut line = String::new();
        let read = input.read_line(&mut line).map_err(|error| {
            Failure::new(Exit::Failure, "the terminal cannot be read").because(&error)
        })?;
        match line.trim().trim_start_matches("> ") {
            "exit" | "quit" => return Ok(Exit::Ok),
            _ if read == 0 => {
                screen.line("")?;
                return Ok(Exit::Ok);
            }
            "" => {}
            comment if comment.starts_with('#') => {}
            command => {
                screen.bytes(reply(&mut world, command, screen).as_bytes())?;
            }
        }
    }
}

/// The output of a command, or its error. The cluster keeps its state either way.
fn reply(world: &mut World, command: &str, screen: &Screen) -> String {
    if let Err(failure) = super::offer(world, command) {
        return failure.render(false, 100);
    }
    match execute(world, command) {
        Ok(lines) => lines.iter().map(|line| format!("  {line}\n")).collect(),
        Err(error) => format!("  {}\n", screen.paint(Tone::Bad, &format!("error: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::{ColorWhen, Format};

    #[test]
    fn an_invalid_command_is_reported_and_the_session_continues() {
        let screen = Screen::new(Format::Table, ColorWhen::Never);
        let mut world = World::new();
        let commands =
            ["node n1", "loose n1", "apply -f nowhere.yaml", "apply /web", "settle", "show"];
        let answers = commands.map(|command| reply(&mut world, command, &screen));
        assert_eq!(answers[0], "  node n1 created\n");
        assert_eq!(answers[1], "  error: there is no command `loose`; did you mean `lose`?\n");
        assert!(answers[2].contains("cannot read nowhere.yaml"), "{}", answers[2]);
        assert_eq!(answers[5], "  /web~0.1 @1 on n1: running, healthy, ready\n");
    }
}
