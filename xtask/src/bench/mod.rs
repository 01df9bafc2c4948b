//! `bench`: figures with their limits and, where one exists, with a peer measured in the same run.
//!
//! A machine's figures are only comparable with themselves, so a peer's figure is taken again each time and the *ratio*
//! is what counts. A bench is one file in this folder with one entry in [`BENCHES`]; its function measures, prints what
//! it likes, and answers [`Figure`]s. It measures release builds. Every figure is appended to `benches/history.jsonl`
//! with the commit, so that a figure that creeps can be traced; the book plots it.

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
mod plot;
mod publish;
mod server;
mod swarm;
mod table;
mod writes;

use anyhow::{Result, bail};

pub(crate) use figure::{Figure, Limit};

use crate::shell::Top;

/// One bench: something that measures.
pub(crate) struct Bench {
    /// The name for `--only`.
    pub(crate) name: &'static str,
    /// The measured quantity.
    pub(crate) what: &'static str,
    /// Measures.
    pub(crate) run: fn(&Top) -> Result<Vec<Figure>>,
}

/// All benches, in the order they run.
pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "processes", what: "processes, accepted to running", run: life::processes },
    Bench { name: "upgrades", what: "processes, upgraded", run: life::upgrades },
    Bench {
        name: "containers",
        what: "containers, compared with bare dockerd",
        run: life::containers,
    },
    Bench { name: "swarm", what: "containers, compared with Docker Swarm", run: swarm::containers },
    Bench { name: "restart", what: "a killed process, running again", run: life::restart },
    Bench { name: "route", what: "a changed route, live", run: life::route },
    Bench {
        name: "gateway",
        what: "the gateway, compared with others",
        run: gateway::compare_with_peers,
    },
    Bench { name: "idle", what: "a node and its server at rest", run: idle::idle },
    Bench { name: "loss", what: "a dead node's instances, elsewhere", run: idle::loss },
    Bench { name: "writes", what: "durable writes, compared with etcd", run: writes::durable },
    Bench { name: "large", what: "a server of 100,000 instances", run: large::instances },
    Bench {
        name: "adapter",
        what: "a foreign API of a large cluster",
        run: adapter::large_cluster,
    },
    Bench { name: "planner", what: "plans of up to a million instances", run: planner::plans },
];

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench --list
  cargo xtask bench --only gateway              measures, and notes the figures
  cargo xtask bench --only planner --against HEAD~1
  cargo xtask bench --readme                    the newest figures into README and book";

/// Measure against limits and peers, and append the figures to benches/history.jsonl
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Run one bench
    #[arg(long, value_name = "NAME", value_parser = BENCHES.iter().map(|bench| bench.name).collect::<Vec<_>>())]
    only: Option<String>,
    /// Compare with another revision: both are built and run in turn; fails where a figure became worse
    #[arg(long, value_name = "REVISION")]
    against: Option<String>,
    /// Rounds of each bench on each revision
    #[arg(long, value_name = "NUMBER", requires = "against", default_value_t = against::ROUNDS)]
    rounds: u32,
    /// List the benches instead of running them
    #[arg(long, conflicts_with_all = ["only", "against", "readme"])]
    list: bool,
    /// Write the newest figures into the README and the book, without measuring
    #[arg(long, conflicts_with_all = ["only", "against"])]
    readme: bool,
}

/// Runs the task.
pub(crate) fn run(top: &Top, args: &Args) -> Result<()> {
    let chosen = || -> Vec<&Bench> {
        let is_chosen = |bench: &&Bench| args.only.as_deref().is_none_or(|name| name == bench.name);
        BENCHES.iter().filter(is_chosen).collect()
    };
    match &args.against {
        _ if args.list => {
            list();
            Ok(())
        }
        _ if args.readme => publish::write(top),
        Some(revision) => against::run(top, &chosen(), revision, args.rounds),
        None => measure(top, &chosen()),
    }
}

fn list() {
    for bench in BENCHES {
        println!("{:<12} {}", bench.name, bench.what);
    }
}

/// Runs benches, prints the table, appends the figures to the history, and fails when a limit is not kept. The others
/// run even if one bench cannot measure.
fn measure(top: &Top, chosen: &[&'static Bench]) -> Result<()> {
    let mut measured: Vec<(&str, Figure)> = Vec::new();
    let mut missed: Vec<String> = Vec::new();
    for bench in chosen {
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
