//! How long plans of a large cluster take and how well they fill it: the example `bench_planner` of
//! the planner measures, and has the limits.
//!
//! Time is noisy, so of two plans the instructions are counted as well: hardly anything but the code
//! changes their number, which is held against that of the last run.

use anyhow::{Context as _, Result};

use super::{Figure, Limit, history};
use crate::apt::{self, Package};
use crate::shell::{self, Top};

const PACKAGES: &[Package] = &[Package { program: "valgrind", package: "valgrind" }];

/// Plans and their adoption, on one core.
pub(super) fn plans(top: &Top) -> Result<Vec<Figure>> {
    let example = ["-p", "muster-planner", "--example", "bench_planner"];
    shell::run(top.cargo(&["build", "--release", "--quiet"]).args(example))?;
    let program = top.built("release/examples/bench_planner");
    let program = program.to_str().context("the repository's path is text")?;
    let text = shell::output(&mut top.command(program))?;
    let measured = text.lines().map(|line| Figure::from_json(&serde_json::from_str(line)?));
    let mut figures = measured.collect::<Result<Vec<_>>>()?;
    apt::ensure(top, PACKAGES)?;
    figures.push(counted(top, program, "cold", "a cold plan of 10,000, instructions")?);
    figures.push(counted(top, program, "rest", "a no-op plan of 10,000, instructions")?);
    Ok(figures)
}

/// The instructions of one plan, compared with the last recorded number.
fn counted(top: &Top, program: &str, which: &str, what: &str) -> Result<Figure> {
    /// A tenth more than before is a change for the worse.
    const RATIO_MAX: f64 = 1.1;
    let mut command = top.command("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.args(["--toggle-collect=bench_planner::counted", program, "count", which]);
    let output = command.output().context("cannot start valgrind")?;
    let output_text = String::from_utf8_lossy(&output.stderr);
    let collected = output_text.lines().find_map(|line| line.split_once("Collected : "));
    let count: f64 = collected.and_then(|(_, count)| count.trim().parse().ok()).unwrap_or(0.0);
    anyhow::ensure!(
        output.status.success() && count > 0.0,
        "valgrind counted nothing: {output_text}"
    );
    let millions = count / 1e6;
    Ok(match history::last(top, "planner", what)? {
        Some(last) => Figure::new(what, "million", millions, Limit::RatioMax(RATIO_MAX))
            .with_peer("before", last),
        None => Figure::new(what, "million", millions, Limit::None),
    })
}
