//! `bench`: figures beside their limits and, where one exists, beside a peer measured in the same run.
//!
//! A machine's figures are only comparable with themselves, so a peer's figure is taken again each time and the *ratio*
//! is what counts. A bench is one file in this folder with one entry in [`BENCHES`]; its function measures, prints what
//! it likes, and answers [`Figure`]s. It measures release builds. Every figure is appended to `benches/history.jsonl`
//! with the commit, so that a figure that creeps can be traced; the README shows the newest.

mod adapter;
mod against;
pub(crate) mod dev;
mod figure;
mod gateway;
mod history;
mod idle;
mod large;
mod life;
mod node;
mod planner;
mod readme;
mod server;
mod swarm;
mod table;
mod writes;

use anyhow::{Result, bail};

pub(crate) use against::ROUNDS;
pub(crate) use figure::{Figure, Limit};
pub(crate) use readme::write as write_readme;

use crate::shell::Top;

/// One bench: something that measures.
pub(crate) struct Bench {
    /// What `--only` takes.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) what: &'static str,
    /// Measures.
    pub(crate) run: fn(&Top) -> Result<Vec<Figure>>,
}

/// All benches, in the order they run.
pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "processes", what: "processes, accepted to running", run: life::processes },
    Bench { name: "upgrades", what: "processes, upgraded", run: life::upgrades },
    Bench { name: "containers", what: "containers, beside bare dockerd", run: life::containers },
    Bench { name: "swarm", what: "containers, beside Docker Swarm", run: swarm::containers },
    Bench { name: "restart", what: "a killed process, running again", run: life::restart },
    Bench { name: "route", what: "a changed route, live", run: life::route },
    Bench { name: "gateway", what: "the gateway, beside others", run: gateway::beside_others },
    Bench { name: "idle", what: "a node and its server at rest", run: idle::idle },
    Bench { name: "loss", what: "a dead node's instances, elsewhere", run: idle::loss },
    Bench { name: "writes", what: "durable writes, beside etcd", run: writes::durable },
    Bench { name: "large", what: "a server of 100,000 instances", run: large::instances },
    Bench { name: "marathon", what: "Marathon's API of a large cluster", run: adapter::marathon },
    Bench { name: "planner", what: "plans of up to a million instances", run: planner::plans },
];

/// Prints the benches.
pub(crate) fn list() {
    for bench in BENCHES {
        println!("{:<12} {}", bench.name, bench.what);
    }
}

/// Runs all benches or one on this tree and on that of `revision`, alternately, and fails when a figure became worse.
pub(crate) fn compare(top: &Top, only: Option<&str>, revision: &str, rounds: u32) -> Result<()> {
    against::run(top, &chosen(only)?, revision, rounds)
}

/// All benches, or the one of this name.
fn chosen(only: Option<&str>) -> Result<Vec<&'static Bench>> {
    let chosen: Vec<&Bench> =
        BENCHES.iter().filter(|bench| only.is_none_or(|name| name == bench.name)).collect();
    if let Some(name) = only
        && chosen.is_empty()
    {
        let names: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("there is no bench `{name}`; there are: {}", names.join(", "));
    }
    Ok(chosen)
}

/// Runs all benches or one, prints the table, notes the figures, and fails when a limit is not kept. A bench that
/// cannot measure does not keep the others from it.
pub(crate) fn run(top: &Top, only: Option<&str>) -> Result<()> {
    let chosen = chosen(only)?;
    let mut measured: Vec<(&str, Figure)> = Vec::new();
    let mut missed: Vec<String> = Vec::new();
    for bench in &chosen {
        println!("\n== {}: {}", bench.name, bench.what);
        match (bench.run)(top) {
            Ok(figures) => {
                history::append(top, bench.name, &figures)?;
                measured.extend(figures.into_iter().map(|figure| (bench.name, figure)));
            }
            Err(error) => {
                println!("{}: {error:#}", bench.name);
                missed.push(format!("{} was not measured", bench.name));
            }
        }
    }
    println!("\n{}", table::render(&measured));
    let over = measured.iter().filter(|(_, figure)| !figure.is_met());
    missed.extend(over.map(|(_, figure)| figure.what.clone()));
    match missed.as_slice() {
        [] => Ok(()),
        missed => bail!("{} limit(s) not kept: {}", missed.len(), missed.join("; ")),
    }
}
