//! Runs simulations, one seed after the other, and says which laws were broken and how to see it
//! again. `cargo xtask sim` is the way to it.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use muster_sim::{Options, Tamper, run};

const HELP: &str = "\
Simulates clusters, one for each seed, and holds them against the laws.

Usage: muster-sim [--seeds COUNT] [--from SEED | --fresh] [--tamper RULE]
       muster-sim --seed SEED [--tell] [--tamper RULE]

  --seeds COUNT   how many, from --from on (by default 100 from 0)
  --fresh         from a seed on that nobody has tried
  --seed SEED     one; what happened before a law was broken is printed
  --tell          with its whole history as it happens
  --tamper RULE   with a rule broken on purpose; `list` says which there are
";

struct Arguments {
    from: u64,
    count: u64,
    tell: bool,
    tamper: Option<Tamper>,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut found = Arguments { from: 0, count: 100, tell: false, tamper: None };
    let mut all = std::env::args().skip(1);
    while let Some(argument) = all.next() {
        let mut value = || all.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("`{text}` is not a number"));
        match argument.as_str() {
            "--seeds" => found.count = number(value()?)?,
            "--from" => found.from = number(value()?)?,
            "--fresh" => found.from = fresh(),
            "--seed" => (found.from, found.count) = (number(value()?)?, 1),
            "--tell" => found.tell = true,
            "--tamper" => {
                let name = value()?;
                let known = Tamper::ALL.into_iter().find(|tamper| tamper.to_string() == name);
                let names: Vec<_> = Tamper::ALL.iter().map(Tamper::to_string).collect();
                let unknown = || format!("there is no rule `{name}`: {}", names.join(", "));
                found.tamper = Some(known.ok_or_else(unknown)?);
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("`{other}` is not understood\n\n{HELP}")),
        }
    }
    Ok(Some(found))
}

/// Seeds from the time: others for each run.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().saturating_mul(10_000)
}

fn main() -> ExitCode {
    let Arguments { from, count, tell, tamper } = match arguments() {
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
        match run(&Options { tamper, tell: tell.then_some(print), ..Options::new(seed) }) {
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
