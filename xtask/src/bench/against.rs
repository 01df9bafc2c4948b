//! `bench --against REV`: compares this tree with an earlier revision, in one run.
//!
//! The revision is checked out in a worktree under `target/` and built there. Each bench then runs alternately on both
//! trees, and the medians are compared, so that whatever else the machine does slows both down alike. Nothing is
//! appended to the history: its figures belong to one tree.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use super::{Bench, Figure, Limit, table};
use crate::shell::{self, Top};

/// Rounds of each bench on each tree, unless the caller says otherwise. An odd number has a median of its own.
pub(crate) const ROUNDS: u32 = 5;
/// The largest ratio of a cost (and the inverse of the smallest ratio of a rate) that counts as unchanged.
const RATIO_MAX: f64 = 1.05;

/// Measures `benches` on both trees. Fails when a figure became worse by more than [`RATIO_MAX`].
pub(super) fn run(top: &Top, benches: &[&Bench], revision: &str, rounds: u32) -> Result<()> {
    let base = checkout(top, revision)?;
    let name = format!("{revision:.12}");
    let mut compared = Vec::new();
    for bench in benches {
        let mut ours = Samples::default();
        let mut theirs = Samples::default();
        for round in 1..=rounds {
            println!("\n== {}: round {round} of {rounds}", bench.name);
            theirs.add((bench.run)(&base).with_context(|| format!("{} at {name}", bench.name))?);
            ours.add((bench.run)(top)?);
        }
        compared.extend(ours.with_peer(&theirs, &name).map(|figure| (bench.name, figure)));
    }
    println!("\n{}", table::render(&compared));
    let worse: Vec<_> = compared.iter().filter(|(_, figure)| !figure.is_met()).collect();
    if worse.is_empty() {
        return Ok(());
    }
    let worse: Vec<_> = worse.iter().map(|(_, figure)| figure.what.as_str()).collect();
    bail!("{} figure(s) are worse than at {name}: {}", worse.len(), worse.join("; "))
}

/// The tree of `revision`, in a worktree of its own that later runs use again.
fn checkout(top: &Top, revision: &str) -> Result<Top> {
    let commit = ["rev-parse", "--verify", &format!("{revision}^{{commit}}")];
    let commit = shell::output(top.command("git").args(commit))?;
    let path = top.built(format!("bench-against/{commit:.12}"));
    if !path.exists() {
        let add = ["worktree", "add", "--detach"];
        shell::run(top.command("git").args(add).arg(&path).arg(&commit))?;
    }
    Ok(Top::at(path))
}

/// The figures of one tree: every measured value, by quantity.
#[derive(Default)]
struct Samples {
    values: BTreeMap<String, (Figure, Vec<f64>)>,
    /// The order in which they were first measured.
    order: Vec<String>,
}

impl Samples {
    fn add(&mut self, figures: Vec<Figure>) {
        for figure in figures {
            let value = figure.ours;
            let known = self.values.entry(figure.what.clone()).or_insert_with(|| {
                self.order.push(figure.what.clone());
                (figure, Vec::new())
            });
            known.1.push(value);
        }
    }

    fn median(&self, what: &str) -> Option<f64> {
        let mut values = self.values.get(what)?.1.clone();
        values.sort_by(f64::total_cmp);
        Some(values[values.len() / 2])
    }

    /// The medians compared with those of `base`. Figures that only one tree measures have no ratio, and are left out.
    fn with_peer(&self, base: &Samples, name: &str) -> impl Iterator<Item = Figure> {
        self.order.iter().filter_map(move |what| {
            let (figure, _) = &self.values[what];
            let (ours, theirs) = (self.median(what)?, base.median(what)?);
            let limit = match is_rate(figure) {
                true => Limit::RatioMin(1.0 / RATIO_MAX),
                false => Limit::RatioMax(RATIO_MAX),
            };
            Some(Figure::new(what, &figure.unit, ours, limit).with_peer(name, theirs))
        })
    }
}

/// Whether more is better.
fn is_rate(figure: &Figure) -> bool {
    matches!(figure.limit, Limit::Min(_) | Limit::RatioMin(_)) || figure.unit.ends_with("/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(unit: &str, values: &[f64]) -> Samples {
        let mut samples = Samples::default();
        for value in values {
            samples.add(vec![Figure::new("it", unit, *value, Limit::None)]);
        }
        samples
    }

    #[test]
    fn medians_are_compared_and_rates_may_only_fall_a_little() {
        for (unit, ours, theirs, is_met) in [
            ("ms", [10.0, 99.0, 10.4], [10.0, 9.0, 80.0], true),
            ("ms", [10.6, 99.0, 1.0], [10.0, 9.0, 80.0], false),
            ("1/s", [96.0, 1.0, 500.0], [100.0, 1.0, 500.0], true),
            ("1/s", [94.0, 1.0, 500.0], [100.0, 1.0, 500.0], false),
            ("1/s", [200.0, 1.0, 500.0], [100.0, 1.0, 500.0], true),
        ] {
            let (ours, theirs) = (samples(unit, &ours), samples(unit, &theirs));
            let figures: Vec<_> = ours.with_peer(&theirs, "base").collect();
            assert_eq!(figures.len(), 1);
            assert_eq!(figures[0].is_met(), is_met, "{figures:?}");
        }
    }

    #[test]
    fn a_figure_of_one_tree_only_is_omitted() {
        assert_eq!(samples("ms", &[1.0]).with_peer(&Samples::default(), "base").count(), 0);
    }
}
