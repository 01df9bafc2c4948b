//! Scripts as tests: compares the output in their files with the present output.

use api::Source;
use planner::scenario::{Line, World};
use similar::{ChangeTag, TextDiff};

use super::{first_error, play};
use crate::exit::Exit;
use crate::output::tone::Tone;
use crate::output::{Failure, Screen};

/// Runs each script and compares its output.
pub(super) fn check(scripts: &[Source], screen: &Screen) -> Result<Exit, Failure> {
    let mut others = Vec::new();
    for script in scripts {
        let now = played(script)?;
        if now != script.text {
            let paint = |tone, text: &str| screen.paint(tone, text);
            screen.bytes(difference(script, &now, paint).as_bytes())?;
            others.push(script.name.as_str());
        }
    }
    if others.is_empty() {
        return Ok(Exit::Ok);
    }
    let others = others.join(" ");
    Err(Failure::new(Exit::Failure, format!("{others}: differs from the current output"))
        .hint(format!("if it is right as it is now: muster lab --update {others}")))
}

/// Rewrites each script whose output differs.
pub(super) fn update(scripts: &[Source], screen: &Screen) -> Result<Exit, Failure> {
    for script in scripts {
        let now = played(script)?;
        if script.name == "-" {
            screen.bytes(now.as_bytes())?;
        } else if now != script.text {
            std::fs::write(&script.name, now).map_err(|error| {
                let message = format!("cannot write {}", script.name);
                Failure::new(Exit::Failure, message).because(&error)
            })?;
            screen.line(format!("{} is updated", script.name))?;
        }
    }
    Ok(Exit::Ok)
}

/// The script with its present output; a failure if a command is not understood.
fn played(script: &Source) -> Result<String, Failure> {
    let lines = play(script, World::new())?;
    first_error(script, &lines)?;
    Ok(lines.iter().map(Line::to_string).collect())
}

/// A line diff of the output, with some context around each difference.
fn difference(script: &Source, now: &str, paint: impl Fn(Tone, &str) -> String) -> String {
    let diff = TextDiff::from_lines(script.text.as_str(), now);
    let mut text = format!("{}\n", paint(Tone::Strong, &script.name));
    for group in diff.grouped_ops(3) {
        let Some(first) = group.first() else { continue };
        text.push_str(&paint(Tone::Dim, &format!("line {}", first.old_range().start + 1)));
        text.push('\n');
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, tone) = match change.tag() {
                ChangeTag::Equal => (' ', Tone::Plain),
                ChangeTag::Delete => ('-', Tone::Bad),
                ChangeTag::Insert => ('+', Tone::Good),
            };
            let line = change.value().trim_end_matches('\n');
            text.push_str(&paint(tone, &format!("{sign} {line}")));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::{ColorWhen, Format};

    const SCRIPT: &str = "\
# Two instances on one node.
> node n1
  node n1 created
> apply /web instances=2
  service /web created, revision 1, d-1
> run
  progress /web: 0 ready
  place /web~0.1 on n2, revision 1
  place /web~1.1 on n1, revision 1
";

    #[test]
    fn a_difference_shows_the_expected_and_the_current_output() {
        let script = Source { name: "two.txt".into(), text: SCRIPT.into() };
        let now = played(&script).unwrap();
        let difference = difference(&script, &now, |_, text| text.into());
        insta::assert_snapshot!(difference, @r"
        two.txt
        line 5
            service /web created, revision 1, d-1
          > run
            progress /web: 0 ready
        -   place /web~0.1 on n2, revision 1
        +   place /web~0.1 on n1, revision 1
            place /web~1.1 on n1, revision 1
        +   wait /web: 0 of 2 ready; the next one: /web~0.1 on n1: its agent has not reported it yet
        +   = /web 2 live (@1 2 not ready)
        ");
    }

    #[test]
    fn an_updated_script_passes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("two.txt");
        std::fs::write(&file, SCRIPT).unwrap();
        let screen = Screen::new(Format::Table, ColorWhen::Never);
        let scripts = || [super::super::documents::source(&file).unwrap()];
        assert_eq!(check(&scripts(), &screen).unwrap_err().exit, Exit::Failure);
        assert_eq!(update(&scripts(), &screen).unwrap(), Exit::Ok);
        assert_eq!(check(&scripts(), &screen).unwrap(), Exit::Ok);
    }

    #[test]
    fn an_invalid_script_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("wrong.txt");
        std::fs::write(&file, "> nod n1\n").unwrap();
        let screen = Screen::new(Format::Table, ColorWhen::Never);
        let scripts = [super::super::documents::source(&file).unwrap()];
        assert_eq!(update(&scripts, &screen).unwrap_err().exit, Exit::Documents);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "> nod n1\n");
    }
}
