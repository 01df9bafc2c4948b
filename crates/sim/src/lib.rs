//! A whole cluster in one thread: from a seed to a history to a verdict.
//!
//! The cores that ship (`server::control::Core`, `agent::core::Core`, `gateway::Core`) are driven
//! through their `handle`, in virtual time, by shells that break everything that can break: power,
//! disks, lines, clocks, processes, instances. All along the `laws` are held against what happens.
//! Then nothing breaks any more, and within a bounded time everything has to be as it was asked
//! for, or has to have a reason.
//!
//! A seed has one history: whoever has the seed of a failure has the failure. [`run`] runs one.

mod agent;
mod clock;
mod disk;
mod fault;
mod gateway;
mod history;
mod laws;
mod machine;
mod network;
mod queue;
mod server;
mod tamper;
mod user;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::{Bytes, Cpu, Millis, NodeId, Resources};

pub use crate::fault::Fault;
pub use crate::tamper::Tamper;

use crate::clock::Clock;
use crate::history::History;
use crate::laws::Laws;
use crate::network::Network;
use crate::queue::Queue;
use crate::server::ServerProcess;
use crate::user::Users;
use crate::world::{Happening, Host, World};

/// How long an agent may be silent before its instances count as lost.
const LOST_AFTER: Millis = Millis::secs(30);
/// So much may happen in one run; beyond it something goes on for ever.
const HAPPENINGS_MAX: u64 = 3_000_000;

/// What a simulation is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// What may break.
    pub faults: BTreeSet<Fault>,
    /// How long things break, in milliseconds of the cluster's time.
    pub storm_ms: u64,
    /// A rule that is broken on purpose.
    pub tamper: Option<Tamper>,
    /// Who is told the history, line by line, as it happens.
    pub tell: Option<fn(&str)>,
}

impl Options {
    /// Everything may break, for as long as it takes to meet every fault a few times.
    pub fn new(seed: u64) -> Options {
        let faults = Fault::ALL.into_iter().collect();
        Options { seed, faults, storm_ms: 240_000, tamper: None, tell: None }
    }
}

/// What a simulation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// So many faults were injected.
    pub faults: u64,
    /// So many changes were acknowledged to users.
    pub writes: u64,
    /// So many requests went through gateways.
    pub requests: u64,
    /// So many things happened.
    pub happenings: u64,
    /// How long it took until everything rested, in milliseconds of the cluster's time.
    pub span_ms: u64,
    /// Two runs with the same value had the same history.
    pub fingerprint: u64,
}

/// A law that was broken.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed: the same one breaks the same law again.
    pub seed: u64,
    /// The law.
    pub law: &'static str,
    /// How it was broken.
    pub how: String,
    /// When, in milliseconds of the cluster's time.
    pub at_ms: u64,
    /// What happened before, newest last.
    pub history: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at_ms as f64 / 1000.0;
        writeln!(f, "seed {}: {} ({at:.3} s)\n    {}", self.seed, self.law, self.how)?;
        write!(f, "again: cargo xtask sim --seed {}", self.seed)
    }
}

/// Runs one simulation to its end.
pub fn run(options: &Options) -> Result<Summary, Box<Failure>> {
    let mut world = world(options);
    let mut happenings = 0;
    while world.laws.breach.is_none() && !world.laws.at_rest {
        happenings += 1;
        if happenings > HAPPENINGS_MAX || !world.go() {
            world.breach("everything comes to rest", "it never does".into());
        }
    }
    match world.laws.breach {
        None => Ok(Summary {
            faults: world.fault_count,
            writes: world.users.acknowledged,
            requests: world.laws.requests,
            happenings,
            span_ms: world.queue.now(),
            fingerprint: world.history.fingerprint(),
        }),
        Some(breach) => Err(Box::new(Failure {
            seed: options.seed,
            law: breach.law,
            how: breach.how,
            at_ms: breach.at,
            history: world.history.lines(),
        })),
    }
}

/// The cluster of a seed, before anything has happened.
fn world(options: &Options) -> World {
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let count = rng.usize(2..6);
    let mut hosts = BTreeMap::new();
    for number in 1..=count {
        let node: NodeId = format!("n{number}").parse().expect("a name");
        let rack = if rng.bool() { "a" } else { "b" };
        hosts.insert(
            node,
            Host {
                clock: Clock::drifting(rng.i64(-200..200)),
                capacity: Resources { cpu: Cpu(rng.u32(2..9) * 1000), memory: Bytes::mib(4096) },
                labels: BTreeMap::from([("rack".into(), rack.into())]),
                powered: true,
                machine: Default::default(),
                agent: None,
                disks: 1,
                memory: Default::default(),
                has_gateway: number <= 2,
                gateway: None,
            },
        );
    }
    let mut queue = Queue::new();
    queue.after(0, Happening::ServerStarts);
    for node in hosts.keys() {
        queue.after(rng.u64(1..500), Happening::AgentStarts(node.clone()));
        queue.after(rng.u64(1..500), Happening::GatewayStarts(node.clone()));
    }
    queue.after(2_000, Happening::UserActs);
    queue.after(10_000, Happening::FaultBegins);
    queue.after(options.storm_ms, Happening::Calm);
    World {
        rng,
        queue,
        network: Network::default(),
        server: ServerProcess::new(),
        hosts,
        users: Users::default(),
        asked: BTreeMap::new(),
        streams: BTreeMap::new(),
        asleep: BTreeMap::new(),
        calm: false,
        faults: options.faults.clone(),
        fault_count: 0,
        tamper: options.tamper,
        laws: Laws { calm_at: options.storm_ms, ..Laws::default() },
        history: History::new(options.tell),
        last_number: 0,
    }
}
