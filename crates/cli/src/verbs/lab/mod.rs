//! `muster lab`: simulated clusters for experiments. Scripts cause changes and failures, and the
//! planner reacts. Nothing runs, and a server whose cluster was copied is not changed.
//!
//! `check` runs scripts as tests, `prompt` reads commands one by one.

mod check;
mod prompt;

use std::io::IsTerminal;
use std::path::PathBuf;

use api::{Client, ClusterState, Detail, Source, path};
use planner::scenario::{Line, World, files_of, replay};
use serde::Serialize;

use super::{Session, documents};
use crate::adapters::DIALECTS;
use crate::exit::Exit;
use crate::output::{Failure, Screen};

const EXAMPLES: &str = "\
Examples:
  muster lab --from-cluster -e 'lose n3; tick 31s; run; settle; show'
                                       what would happen to your cluster if n3 died
  muster lab --from-cluster -e 'apply -f web.yaml; settle; lose n3; tick 31s; settle'
                                       the same after a document is applied
  muster lab --from-cluster            ask as you go: `help`, `show`, `lose n3`, `exit`
  muster lab -e 'node n1 cpu=2; apply /web instances=3; settle'
                                       a cluster that is made up
  muster lab upgrade.txt               a script, with what its commands print
  muster lab --check lab/*.txt         scripts as tests: fails if they print anything else
  muster lab --update lab/*.txt        writes into them what they print now";

/// Simulate changes and failures on an imaginary cluster, or on a copy of yours
///
/// A script has a command on each line that begins with `> `, comments that begin with `#`, and
/// below each command, indented, its output. The commands create nodes and services, advance the
/// clock, make nodes unreachable, and print the decisions of the server: the same planner as in a
/// server decides.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Scripts, each played from the beginning; - for standard input. Without any, commands are
    /// asked for
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Commands instead of a file, with ; between them
    #[arg(short = 'e', long = "execute", value_name = "COMMANDS", conflicts_with = "files")]
    commands: Option<String>,
    /// Start from the present state of the server instead of an empty cluster; the server is not changed
    #[arg(long)]
    from_cluster: bool,
    /// Compare the output with that in the files, and fail if it differs
    #[arg(long, requires = "files", conflicts_with_all = ["from_cluster", "commands", "update"])]
    check: bool,
    /// Rewrite the files with the present output
    #[arg(long, requires = "files", conflicts_with_all = ["from_cluster", "commands"])]
    update: bool,
}

/// Runs the verb. The only request to the server is for its cluster.
pub(crate) async fn run(
    args: Args,
    session: impl Fn() -> Result<Session, api::Error>,
    screen: Screen,
) -> Result<Exit, Failure> {
    let client = match args.from_cluster {
        true => Some(session()?.client),
        false => None,
    };
    let world = match &client {
        Some(client) => copy(client).await?,
        None => World::new(),
    };
    let scripts = match &args.commands {
        Some(commands) => vec![typed(commands)],
        None if args.files.is_empty() && std::io::stdin().is_terminal() => {
            return prompt::run(world, client.as_ref().map(Client::url), &screen);
        }
        None if args.files.is_empty() => vec![documents::source("-".as_ref())?],
        None => args.files.iter().map(|file| documents::source(file)).collect::<Result<_, _>>()?,
    };
    match (args.check, args.update) {
        (true, _) => check::check(&scripts, &screen),
        (_, true) => check::update(&scripts, &screen),
        _ => show(&scripts, &world, &screen),
    }
}

/// A copy of a server's cluster.
async fn copy(client: &Client) -> Result<World, Failure> {
    let known: ClusterState = client.get(path::STATE).await?;
    let (state, observed, now) = known.parts();
    Ok(World::of(state, observed, now))
}

/// Commands of the command line as a script.
fn typed(commands: &str) -> Source {
    let commands = commands.split([';', '\n']).map(str::trim).filter(|one| !one.is_empty());
    Source { name: "-e".into(), text: commands.map(|one| format!("> {one}\n")).collect() }
}

/// Runs a script, with the files that it names.
fn play(script: &Source, mut world: World) -> Result<Vec<Line>, Failure> {
    for command in script.text.lines().filter_map(|line| line.strip_prefix("> ")) {
        offer(&mut world, command)?;
    }
    Ok(replay(&mut world, &script.text))
}

/// Reads the documents that a command names.
fn offer(world: &mut World, command: &str) -> Result<(), Failure> {
    for file in files_of(command) {
        let source = documents::source(file.as_ref())?;
        let parsed = formats::parse_with(file, &source.text, DIALECTS).map_err(|diagnostics| {
            Failure::new(Exit::Documents, "the documents are invalid")
                .with_details(documents::details(diagnostics))
                .with_sources(std::slice::from_ref(&source))
        })?;
        let located = parsed.documents.into_iter();
        world.offer(file, located.map(|located| located.document).collect());
    }
    Ok(())
}

/// A command and its output, for programs.
#[derive(Debug, Serialize)]
struct CommandOutput<'a> {
    file: &'a str,
    line: usize,
    command: &'a str,
    printed: &'a [String],
}

/// Prints scripts with the output of their commands.
fn show(scripts: &[Source], world: &World, screen: &Screen) -> Result<Exit, Failure> {
    let play = |script| Ok((script, play(script, world.clone())?));
    let played: Vec<_> = scripts.iter().map(play).collect::<Result<_, Failure>>()?;
    if screen.is_for_programs() {
        let mut all = Vec::new();
        for (script, lines) in &played {
            first_error(script, lines)?;
            all.extend(lines.iter().filter_map(|line| command_output(script, line)));
        }
        screen.document(&all)?;
        return Ok(Exit::Ok);
    }
    for (script, lines) in &played {
        let good = lines.iter().take_while(|line| line.printed.is_ok());
        screen.bytes(good.map(Line::to_string).collect::<String>().as_bytes())?;
        first_error(script, lines)?;
    }
    Ok(Exit::Ok)
}

fn command_output<'a>(script: &'a Source, line: &'a Line) -> Option<CommandOutput<'a>> {
    let (command, printed) = (line.command()?, line.printed.as_deref().ok()?);
    Some(CommandOutput { file: &script.name, line: line.number, command, printed })
}

/// Fails with the first line that was not understood. Errors in later lines may only follow from
/// it.
fn first_error(script: &Source, lines: &[Line]) -> Result<(), Failure> {
    let wrong = lines.iter().find_map(|line| Some((line, line.printed.as_ref().err()?)));
    let Some((line, error)) = wrong else { return Ok(()) };
    let detail = Detail {
        source: Some(script.name.clone()),
        line: Some(line.number),
        column: Some(error.column(&line.text)),
        key: None,
        message: error.to_string(),
    };
    Err(Failure::new(Exit::Documents, "the script cannot be played")
        .with_details(vec![detail])
        .with_sources(std::slice::from_ref(script))
        .hint("`muster lab -e help` lists the commands"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(script: &Source) -> String {
        let lines = replay(&mut World::new(), &script.text);
        let failure = first_error(script, &lines).unwrap_err();
        assert_eq!(failure.exit, Exit::Documents);
        failure.render(false, 80)
    }

    #[test]
    fn an_unknown_command_is_shown_with_a_suggestion() {
        let text = "# An upgrade.\n> node n1\n  node n1 created\n> aply /web\n> sho\n";
        let script = Source { name: "upgrade.txt".into(), text: text.into() };
        insta::assert_snapshot!(failure(&script), @r"
         × the script cannot be played
         × there is no command `aply`; did you mean `apply`?
          ╭─[upgrade.txt:4:3]
        3 │   node n1 created
        4 │ > aply /web
          ·   ────
        5 │ > sho
          ╰────
         help: `muster lab -e help` lists the commands
        ");
        insta::assert_snapshot!(failure(&typed("node n1; lose n2; show")), @r"
         × the script cannot be played
         × there is no node `n2`
          ╭─[-e:2:8]
        1 │ > node n1
        2 │ > lose n2
          ·        ──
        3 │ > show
          ╰────
         help: `muster lab -e help` lists the commands
        ");
    }

    #[test]
    fn commands_given_as_arguments_form_a_script() {
        assert_eq!(typed("lose n3; tick 31s;\n run ;").text, "> lose n3\n> tick 31s\n> run\n");
    }

    #[test]
    fn json_output_has_each_command_with_its_output() {
        let script = typed("node n1; tick 1s");
        let lines = replay(&mut World::new(), &script.text);
        let all: Vec<_> = lines.iter().filter_map(|line| command_output(&script, line)).collect();
        insta::assert_snapshot!(serde_json::to_string(&all).unwrap(), @r#"[{"file":"-e","line":1,"command":"node n1","printed":["node n1 created"]},{"file":"-e","line":2,"command":"tick 1s","printed":[]}]"#);
    }

    #[test]
    fn documents_in_files_are_applied() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.yaml");
        let document = "service: /web\ninstances: 2\nprocess: { command: run }\n";
        std::fs::write(&file, document).unwrap();
        let script = typed(&format!("node n1; apply -f {}; settle; show", file.display()));
        let lines = play(&script, World::new()).unwrap();
        let shown = &lines[3].printed.as_ref().unwrap()[..];
        assert_eq!(shown[0], "/web~0.1 @1 on n1: running, healthy, ready");
        std::fs::write(&file, document.replace("instances", "instnces")).unwrap();
        let failure = play(&script, World::new()).unwrap_err();
        assert_eq!(failure.exit, Exit::Documents);
        assert!(failure.render(false, 100).contains("did you mean `instances`?"));
        let missing = play(&typed("apply -f nowhere.yaml"), World::new()).unwrap_err();
        assert_eq!(missing.exit, Exit::Usage);
    }
}
