//! `mutants`: changes the model and the planner in small ways, and lists the changes that no test detects.
//!
//! `cargo-mutants` does the work, at a pinned version in `target/tools`. The exceptions are in `.cargo/mutants.toml`, each
//! with a reason. Only the pure crates are mutated: their tests are fast, and a survivor is an invariant without a test.
//! The build stays in `target/mutants`, and a run continues where the previous one ended: mutants that were caught are
//! not tried again until `target/mutants` is removed.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, Top, output};

/// The version that the exceptions were written for.
const VERSION: &str = "27.1.0";
const TOOL: &str = "cargo-mutants";

/// The crates, and the packages whose tests must detect a change of them.
const CRATES: &[(&str, &[&str])] =
    &[("model", &["muster-model", "muster-planner"]), ("planner", &["muster-planner"])];

/// Number of cases of each property: every mutant runs them all.
const CASES: &str = "24";

/// The exit codes of a complete run: all caught, some missed, some timed out.
const DONE: [i32; 3] = [0, 2, 3];
/// The exit code of `timeout` after a timeout.
const TIME_IS_OVER: i32 = 124;

const EXAMPLES: &str = "\
Examples:
  cargo xtask mutants --minutes 60              continues where the previous run ended
  cargo xtask mutants --only planner --shard 3/20";

/// Change the model and the planner in small ways and list the changes that no test detects
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Change one crate
    #[arg(long, value_name = "CRATE", value_parser = CRATES.iter().map(|(name, _)| *name).collect::<Vec<_>>())]
    only: Option<String>,
    /// Try a part of the mutants: the I-th of N, counted from 0
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<String>,
    /// Stop after this time; the next run continues
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: Option<u32>,
}

fn shard(text: &str) -> Result<String, &'static str> {
    let parse = || {
        let (shard, of) = text.split_once('/')?;
        Some((shard.parse::<u32>().ok()?, of.parse::<u32>().ok()?))
    };
    match parse() {
        Some((shard, of)) if shard < of => Ok(text.to_owned()),
        _ => Err("expected two numbers such as 3/20, the first less than the second"),
    }
}

/// Tries mutants; fails when a mutant survives.
pub(crate) fn run(top: &Top, args: &Args) -> Result<()> {
    let tool = install(top)?;
    let chosen: Vec<_> = CRATES
        .iter()
        .filter(|(name, _)| args.only.as_deref().is_none_or(|only| only == *name))
        .collect();
    let seconds = args.minutes.map(|minutes| minutes * 60 / chosen.len() as u32);
    let mut missed = Vec::new();
    for (name, tests) in chosen {
        let folder = top.built("mutants").join(name);
        fs::create_dir_all(&folder)?;
        // `timeout` interrupts it as Ctrl-C does, so that it writes its results.
        let mut command = match seconds {
            Some(seconds) => {
                let mut command = top.command("timeout");
                command.args(["--signal", "INT", &seconds.to_string()]).arg(&tool);
                command
            }
            None => top.command(&tool.display().to_string()),
        };
        command
            .args(["mutants", "--jobs", "1", "--iterate", "--package"])
            .arg(format!("muster-{name}"))
            .args(tests.iter().flat_map(|package| ["--test-package", package]))
            .args(args.shard.iter().flat_map(|shard| ["--shard", shard.as_str()]))
            .args(["--sharding", "round-robin", "--no-shuffle", "--output"])
            .arg(&folder)
            .env("PROPTEST_CASES", CASES)
            // A failing case of one mutant must not be the first case of the next.
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
            .env("CARGO_TARGET_DIR", top.built("mutants").join("build"));
        let status = command.status().with_context(|| format!("cannot start {TOOL}"))?;
        let code = status.code().unwrap_or(TIME_IS_OVER);
        if !DONE.contains(&code) && code != TIME_IS_OVER {
            bail!("{TOOL} ended with {status}; is the tree green without mutants?");
        }
        let log = fs::read_to_string(folder.join("mutants.out/outcomes.json"))
            .context("nothing was tried")?;
        let (counts, survivors) = read_outcomes(&log)?;
        let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        println!("{name}: {}", counts.join(", "));
        missed.extend(survivors);
    }
    match missed.len() {
        0 => Ok(()),
        count => bail!("no test minds {count} mutant(s):\n  {}", missed.join("\n  ")),
    }
}

/// The tool at its version, installed where nothing else is touched.
fn install(top: &Top) -> Result<PathBuf> {
    let tools = top.built("tools");
    let tool = tools.join("bin").join(TOOL);
    let version = output(top.command(&tool.display().to_string()).args(["mutants", "--version"]));
    if !version.is_ok_and(|version| version.ends_with(VERSION)) {
        let mut install = top.cargo(&["install", TOOL, "--locked", "--version", VERSION]);
        shell::run(install.arg("--root").arg(&tools))?;
    }
    Ok(tool)
}

/// The number of mutants with each outcome, and the names of the survivors.
fn read_outcomes(text: &str) -> Result<(BTreeMap<String, usize>, Vec<String>)> {
    let log: serde_json::Value = serde_json::from_str(text).context("outcomes.json")?;
    let mut counts = BTreeMap::new();
    let mut missed = Vec::new();
    for outcome in log["outcomes"].as_array().into_iter().flatten() {
        let Some(name) = outcome["scenario"]["Mutant"]["name"].as_str() else { continue };
        let end = match outcome["summary"].as_str().unwrap_or_default() {
            "CaughtMutant" => "caught",
            "MissedMutant" => "missed",
            "Unviable" => "unviable",
            "Timeout" => "without end",
            _ => "broken off",
        };
        *counts.entry(end.to_owned()).or_insert(0) += 1;
        if end == "missed" {
            missed.push(name.to_owned());
        }
    }
    Ok((counts, missed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_and_survivors_named() {
        let text = r#"{"outcomes": [
            {"scenario": "Baseline", "summary": "Success"},
            {"scenario": {"Mutant": {"name": "a.rs:1:2: replace f"}}, "summary": "CaughtMutant"},
            {"scenario": {"Mutant": {"name": "b.rs:1:2: replace g"}}, "summary": "MissedMutant"},
            {"scenario": {"Mutant": {"name": "b.rs:2:2: replace h"}}, "summary": "Unviable"}
        ]}"#;
        let (counts, missed) = read_outcomes(text).unwrap();
        let counts: Vec<_> = counts.iter().map(|(end, count)| format!("{count} {end}")).collect();
        assert_eq!(counts, ["1 caught", "1 missed", "1 unviable"]);
        assert_eq!(missed, ["b.rs:1:2: replace g"]);
    }
}
