//! `bench`: figures beside their limits and, where one exists, beside a peer measured in the same run.
//!
//! A machine's figures are only comparable with themselves, so a peer's figure is taken again each time and the *ratio*
//! is what counts. A bench is one file in this folder with one entry in [`BENCHES`]; its function measures, prints what
//! it likes, and answers [`Figure`]s. It measures release builds. Every figure is appended to `benches/history.jsonl`
//! with the commit, so that a figure that creeps can be traced.

pub(crate) mod dev;
mod door;
mod gateway;
mod history;
mod life;
mod planner;
mod table;

use anyhow::{Result, bail};

use crate::shell::{self, Top};

/// One bench: something that measures.
pub(crate) struct Bench {
    /// What `--only` takes.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) what: &'static str,
    /// Measures.
    pub(crate) run: fn(&Top) -> Result<Vec<Figure>>,
}

/// One measured quantity.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// What was measured, such as `50 processes running`.
    pub(crate) what: String,
    /// The unit of both values, such as `ms`.
    pub(crate) unit: &'static str,
    /// Our value.
    pub(crate) ours: f64,
    /// The peer's name and its value, measured in the same run.
    pub(crate) peer: Option<(&'static str, f64)>,
    /// What our value must keep.
    pub(crate) limit: Limit,
}

/// What a figure must keep.
#[allow(
    dead_code,
    reason = "each bench picks the kind that fits; not every kind needs a bench at all times"
)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    /// Our value is at most this.
    Max(f64),
    /// Our value is at least this.
    Min(f64),
    /// Our value is at most this many times the peer's.
    RatioMax(f64),
    /// Our value is at least this many times the peer's.
    RatioMin(f64),
}

impl Figure {
    /// Our value by the peer's.
    fn ratio(&self) -> Option<f64> {
        self.peer.map(|(_, peer)| self.ours / peer)
    }

    /// Whether the limit is kept. A ratio without a peer is not: a limit that was not measured is not kept.
    fn is_met(&self) -> bool {
        match (self.limit, self.ratio()) {
            (Limit::Max(max), _) => self.ours <= max,
            (Limit::Min(min), _) => self.ours >= min,
            (Limit::RatioMax(max), Some(ratio)) => ratio <= max,
            (Limit::RatioMin(min), Some(ratio)) => ratio >= min,
            (Limit::RatioMax(_) | Limit::RatioMin(_), None) => false,
        }
    }
}

/// All benches, in the order they run.
pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "processes", what: "processes, accepted to running", run: life::processes },
    Bench { name: "containers", what: "containers, beside bare dockerd", run: life::containers },
    Bench { name: "restart", what: "a killed process, running again", run: life::restart },
    Bench { name: "route", what: "a changed route, live", run: life::route },
    Bench { name: "gateway", what: "the gateway, beside HAProxy", run: gateway::beside_haproxy },
    Bench { name: "marathon", what: "Marathon's API of a large cluster", run: door::marathon },
    Bench {
        name: "planner",
        what: "plans of 10,000 nodes, 100,000 instances",
        run: planner::plans,
    },
];

/// Prints the benches.
pub(crate) fn list() {
    for bench in BENCHES {
        println!("{:<12} {}", bench.name, bench.what);
    }
}

/// Runs all benches or one, prints the table, notes the figures, and fails when a limit is not kept.
pub(crate) fn run(top: &Top, only: Option<&str>) -> Result<()> {
    let chosen: Vec<&Bench> =
        BENCHES.iter().filter(|bench| only.is_none_or(|name| name == bench.name)).collect();
    if let Some(name) = only
        && chosen.is_empty()
    {
        let names: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("there is no bench `{name}`; there are: {}", names.join(", "));
    }
    let mut measured: Vec<(&str, Figure)> = Vec::new();
    for bench in &chosen {
        println!("\n== {}: {}", bench.name, bench.what);
        measured.extend((bench.run)(top)?.into_iter().map(|figure| (bench.name, figure)));
    }
    println!("\n{}", table::render(&measured));
    history::append(top, &measured)?;
    let missed: Vec<&str> = measured
        .iter()
        .filter(|(_, figure)| !figure.is_met())
        .map(|(_, figure)| figure.what.as_str())
        .collect();
    match missed.as_slice() {
        [] => Ok(()),
        missed => bail!("{} limit(s) not kept: {}", missed.len(), missed.join("; ")),
    }
}

/// The commit measured, with `+` when the tree differs from it.
fn commit(top: &Top) -> Result<String> {
    let head = shell::output(top.command("git").args(["rev-parse", "--short=12", "HEAD"]))?;
    let changes =
        shell::output(top.command("git").args(["status", "--porcelain", "--untracked-files=no"]))?;
    Ok(if changes.is_empty() { head } else { head + "+" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours: f64, peer: Option<f64>, limit: Limit) -> Figure {
        Figure {
            what: "requests".to_owned(),
            unit: "1/s",
            ours,
            peer: peer.map(|value| ("HAProxy", value)),
            limit,
        }
    }

    #[test]
    fn limits_include_their_edge() {
        assert!(figure(5.0, None, Limit::Max(5.0)).is_met());
        assert!(!figure(5.1, None, Limit::Max(5.0)).is_met());
        assert!(figure(5.0, None, Limit::Min(5.0)).is_met());
        assert!(figure(11.0, Some(10.0), Limit::RatioMax(1.1)).is_met());
        assert!(!figure(9.0, Some(10.0), Limit::RatioMin(1.0)).is_met());
    }

    #[test]
    fn a_ratio_that_was_not_measured_is_not_kept() {
        assert!(!figure(1.0, None, Limit::RatioMax(2.0)).is_met());
    }
}
