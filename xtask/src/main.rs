//! The tasks of this repository, run as `cargo xtask VERB`.
//!
//! One language for everything: what a contributor runs and what continuous integration runs are the same words, and
//! each failure names the command that repeats just the failing part. Nothing here is part of the product, and no crate
//! of the product is linked into it, so that `tidy` and `test` work while the product does not compile.
//!
//! Read [`test`] for the steps of the whole check, [`tidy`] for the rules of the house.

mod apt;
mod bench;
mod chaos;
mod clients;
mod demo;
mod docker;
mod docs;
mod fuzz;
mod image;
mod mutants;
mod prove;
mod shell;
mod step;
mod test;
mod tidy;

use std::process::ExitCode;

use shell::Top;

const HELP: &str = "\
The tasks of this repository.

Usage: cargo xtask VERB [OPTIONS]

  demo [--exit] [ARGS]   build in release mode and show a service upgraded under load; stays up unless --exit
  test [--only STEP]     everything that must hold before a change goes in; installs what it needs (Debian)
       [--list]          the steps, without running them
  docs [--check]         write the generated pages of the book; with --check, say what in the documentation is not true
  tidy                   the rules of the house (R1 to R5 and form), mechanically
       [--prose]         count private prose per 10,000 words of comments, for each crate
       [--cycles]        the module cycles of every crate
  image                  the container image of examples/simpleservice, unless it is there already
  docker                 install the Docker engine if it is missing, start it if it does not answer
  bench [--only NAME]    measure against limits and peers, and note the figures in benches/history.jsonl
       [--list]          the benches, without running them
       [--against REV]   beside that revision, built in a worktree, five rounds each in turn; with --only, one bench
       [--readme]        put the newest figures into the README, without measuring
  chaos [--minutes N]    the real programs under load while everything fails that can; wants root, hurts nobody else
        [--seed S]       the faults of an earlier run
        [--only FAULT]   only this fault; may be given often
        [--list]         the faults, without a run
  fuzz --minutes N       search for inputs that break a law of a parser or a reader of the wire, for so long in all
       [--only TARGET]   in one target; --list names them; --keep takes what was found into fuzz/corpus
  mutants                change the model and the planner in small ways and say which changes no test minds
       [--only CRATE]    `model` or `planner`; --shard I/N tries a part; --minutes N, as many as that allows
  sim [--seeds N]        simulate whole clusters, one for each seed, and check their invariants
      [--seed S]         one, with the history before a violation; --tell: with its settings and its entire history
      [--fresh]          from a seed that depends on the time; --bug NAME: inject a bug, which must be detected
  prove [--cases N]      100,000 cases of each property, then 1,000 new seeds
  help                   this text
";

/// Wrong usage, as opposed to a task that failed.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let top = Top::find();
    let done = match arguments.as_slice() {
        ["demo", rest @ ..] => demo::run(&top, rest),
        ["test"] => test::check(&top, None),
        ["test", "--only", step] => test::check(&top, Some(step)),
        ["test", "--list"] => {
            step::list(test::STEPS);
            Ok(())
        }
        ["docs"] => docs::write(&top),
        ["docs", "--check"] => docs::check(&top),
        ["tidy"] => tidy::run(&top),
        ["tidy", "--prose"] => tidy::prose(&top),
        ["tidy", "--cycles"] => tidy::cycles(&top),
        ["image"] => docker::ensure(&top).and_then(|()| image::ensure(&top)),
        ["docker"] => docker::ensure(&top),
        ["bench"] => bench::run(&top, None),
        ["bench", "--only", name] => bench::run(&top, Some(name)),
        ["bench", "--against", revision] => bench::compare(&top, None, revision, bench::ROUNDS),
        ["bench", "--only", name, "--against", revision] => {
            bench::compare(&top, Some(name), revision, bench::ROUNDS)
        }
        ["bench", "--readme"] => bench::write_readme(&top),
        ["bench", "--list"] => {
            bench::list();
            Ok(())
        }
        ["chaos", "--list"] => {
            chaos::list();
            Ok(())
        }
        ["chaos", rest @ ..] => chaos::run(&top, rest),
        ["fuzz", rest @ ..] if let Some(ask) = fuzz::Ask::read(rest) => fuzz::search(&top, &ask),
        ["mutants", rest @ ..] if let Some(ask) = mutants::Ask::read(rest) => {
            mutants::survive(&top, &ask)
        }
        ["sim", rest @ ..] => prove::simulate(&top, rest),
        ["prove"] => prove::prove(&top, None),
        ["prove", "--cases", cases] => prove::prove(&top, Some(cases)),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
