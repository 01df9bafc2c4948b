//! A whole cluster in one thread: from a seed to a history to a verdict.
//!
//! The cores that ship (`server::control::Core`, `agent::core::Core`, `gateway::Core`) are driven
//! through their `handle`, in virtual time, by shells in which everything can fail: power, disks,
//! networks, clocks, processes, instances. Safety invariants are checked after every event. After
//! the fault phase a random part of the cluster recovers; within a bounded time it must converge to
//! the desired state, or give a reason.
//!
//! A seed has exactly one history, so a seed reproduces its failure. [`run`] runs one.

mod agent;
mod bug;
mod clock;
mod cluster;
mod disk;
mod documents;
mod environment;
mod event;
mod fault;
mod following;
mod gateway;
mod history;
mod inject;
mod invariants;
mod machine;
mod message;
mod network;
mod observation;
mod process;
mod queue;
mod scheduler;
mod server;
mod settings;
mod simulation;
mod transport;
mod users;
mod violation;

use std::fmt;

pub use crate::bug::InjectedBug;
pub use crate::fault::{Fault, Outage};
pub use crate::settings::Settings;

use crate::simulation::{Outcome, Simulation};
use crate::violation::Violation;

/// Maximum number of events in one simulation; with more, the cluster is in a loop.
const EVENTS_MAX: u64 = 3_000_000;

/// The parameters of a simulation.
#[derive(Debug, Clone)]
pub struct Options {
    /// Determines the history.
    pub seed: u64,
    /// Drawn from the seed, unless changed.
    pub settings: Settings,
    /// A bug that an invariant must detect.
    pub bug: Option<InjectedBug>,
    /// Receives the history, line by line, as it happens.
    pub print: Option<fn(&str)>,
}

impl Options {
    /// A seed with its own settings.
    pub fn new(seed: u64) -> Options {
        Options { seed, settings: Settings::draw(seed), bug: None, print: None }
    }
}

/// The outcome of a simulation in which every invariant held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Number of injected faults.
    pub faults: u64,
    /// Number of commands that the server acknowledged.
    pub writes: u64,
    /// Number of requests that gateways served.
    pub requests: u64,
    /// Number of events.
    pub events: u64,
    /// Milliseconds of virtual time until the cluster had converged.
    pub span_ms: u64,
    /// Equal for two runs with the same history.
    pub fingerprint: u64,
}

/// A violated invariant.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Reproduces the violation.
    pub seed: u64,
    /// The settings of the simulation.
    pub settings: Settings,
    /// The name of the invariant.
    pub invariant: &'static str,
    /// How it was violated.
    pub detail: String,
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// The newest lines of the history, newest last.
    pub history: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at_ms as f64 / 1000.0;
        writeln!(f, "seed {}: {} ({at:.3} s)\n    {}", self.seed, self.invariant, self.detail)?;
        for line in self.settings.to_string().lines() {
            writeln!(f, "  {line}")?;
        }
        write!(f, "again: cargo xtask sim --seed {}", self.seed)
    }
}

/// Runs one simulation to its end.
///
/// # Errors
///
/// Returns the first violation of an invariant.
pub fn run(options: &Options) -> Result<Summary, Box<Failure>> {
    let Options { seed, settings, bug, print } = options;
    let mut simulation = Simulation::new(*seed, settings, *bug, *print);
    let mut events = 0;
    let verdict = loop {
        events += 1;
        if events > EVENTS_MAX {
            let detail = format!("{EVENTS_MAX} events are not enough");
            break simulation.violated(Violation::new("the cluster converges", detail));
        }
        if let Some(verdict) = simulation.step() {
            break verdict;
        }
    };
    match verdict {
        Outcome::Held => Ok(Summary {
            faults: simulation.injector.count,
            writes: simulation.cluster.users.acknowledged,
            requests: simulation.checkers.requests,
            events,
            span_ms: simulation.env.now(),
            fingerprint: simulation.env.history.fingerprint(),
        }),
        Outcome::Violated(Violation { invariant, detail }) => Err(Box::new(Failure {
            seed: *seed,
            settings: settings.clone(),
            invariant,
            detail,
            at_ms: simulation.env.now(),
            history: simulation.env.history.lines(),
        })),
    }
}
