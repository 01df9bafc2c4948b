//! Runs simulations, one seed after the other, and prints which invariants were violated and how to
//! reproduce it. Usually called as `cargo xtask sim`.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use muster_sim::{InjectedBug, Options, run};

const HELP: &str = "\
Simulates one cluster for each seed and checks its invariants.

Usage: muster-sim [--seeds COUNT] [--from SEED | --fresh] [--bug NAME]
       muster-sim --seed SEED [--tell] [--bug NAME]

  --seeds COUNT   number of seeds, from --from on (default: 100 from 0)
  --fresh         start from a seed that depends on the time
  --seed SEED     run one seed; print its history if an invariant is violated
  --tell          print the settings and the entire history as it happens
  --bug NAME      inject a bug, which an invariant must detect; `list` prints their names
";

struct Arguments {
    from: u64,
    count: u64,
    tell: bool,
    bug: Option<InjectedBug>,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut found = Arguments { from: 0, count: 100, tell: false, bug: None };
    let mut all = std::env::args().skip(1);
    while let Some(argument) = all.next() {
        let mut value = || all.next().ok_or(format!("{argument} needs a value"));
        let number = |value: String| value.parse().map_err(|_| format!("`{value}` is no number"));
        match argument.as_str() {
            "--seeds" => found.count = number(value()?)?,
            "--from" => found.from = number(value()?)?,
            "--fresh" => found.from = fresh(),
            "--seed" => (found.from, found.count) = (number(value()?)?, 1),
            "--tell" => found.tell = true,
            "--bug" => {
                let name = value()?;
                let known = InjectedBug::ALL.into_iter().find(|bug| bug.to_string() == name);
                let names: Vec<_> = InjectedBug::ALL.iter().map(InjectedBug::to_string).collect();
                let unknown = || format!("no bug `{name}`: {}", names.join(", "));
                found.bug = Some(known.ok_or_else(unknown)?);
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unexpected argument `{other}`\n\n{HELP}")),
        }
    }
    Ok(Some(found))
}

/// A first seed that no earlier run has used.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().saturating_mul(10_000)
}

fn main() -> ExitCode {
    let Arguments { from, count, tell, bug } = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let (mut failures, mut faults, mut writes, mut requests, mut span_ms) = (0u64, 0, 0, 0, 0);
    for seed in from..from.saturating_add(count) {
        let print: fn(&str) = |line| println!("{line}");
        let options = Options { bug, print: tell.then_some(print), ..Options::new(seed) };
        if tell {
            println!("{}\n", options.settings);
        }
        match run(&options) {
            Ok(summary) => {
                faults += summary.faults;
                writes += summary.writes;
                requests += summary.requests;
                span_ms += summary.span_ms;
            }
            Err(failure) => {
                failures += 1;
                if count == 1 && !tell {
                    println!("{}\n", failure.history.join("\n"));
                }
                println!("{failure}");
            }
        }
    }
    let hours = span_ms as f64 / 3_600_000.0;
    println!(
        "{count} seeds, {hours:.1} hours of clusters: {faults} faults, {writes} acknowledged writes, \
         {requests} requests; {failures} seeds failed"
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
