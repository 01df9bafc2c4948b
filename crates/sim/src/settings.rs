//! The settings of a simulation. They are drawn from the seed: which faults occur and how often,
//! the size of the cluster, the quality of its network, the activity of its users. With the same
//! settings for every seed, the most frequent faults would hide failures that occur only without
//! them.

use std::collections::BTreeMap;
use std::fmt;

use fastrand::Rng;

use crate::fault::{Fault, Outage};

/// The settings of one simulation.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Number of nodes; they are named `n1`, `n2`, ….
    pub nodes: u32,
    /// Number of nodes with a gateway, from `n1` on.
    pub gateways: u32,
    /// Number of services that users change.
    pub services: usize,
    /// The faults that occur, with their relative frequency.
    pub faults: BTreeMap<Fault, u32>,
    /// The longest interval between two faults.
    pub fault_interval_ms: u64,
    /// Faults and commands of users end after this time.
    pub fault_phase_ms: u64,
    /// The longest latency of a message while no fault slows it.
    pub latency_ms: u64,
    /// The longest interval between two commands of users.
    pub command_interval_ms: u64,
    /// Nodes, by number, that do not recover after the fault phase.
    pub outages: BTreeMap<u32, Outage>,
}

impl Settings {
    /// Draws the settings of a seed.
    pub fn draw(seed: u64) -> Settings {
        // The simulation draws from the seed itself.
        let mut rng = Rng::with_seed(!seed);
        let nodes = rng.u32(1..=6);
        let mut settings = Settings {
            nodes,
            gateways: rng.u32(0..=nodes.min(3)),
            services: rng.usize(1..=6),
            faults: faults(&mut rng),
            fault_interval_ms: *pick(&mut rng, &[1_500, 4_000, 8_000, 8_000, 30_000]),
            fault_phase_ms: rng.u64(40_000..300_000),
            latency_ms: *pick(&mut rng, &[1, 2, 2, 10, 100]),
            command_interval_ms: *pick(&mut rng, &[1_000, 4_000, 9_000, 9_000, 40_000]),
            outages: outages(&mut rng, nodes),
        };
        // Drawn last, so that seeds without it have the histories that they had before it existed.
        if rng.u8(0..4) == 0 {
            settings.faults.insert(Fault::Store, rng.u32(1..=8));
        }
        settings
    }
}

/// Every fourth seed has all faults but [`Fault::Store`]; the others have about half of them.
fn faults(rng: &mut Rng) -> BTreeMap<Fault, u32> {
    let all = rng.u8(0..4) == 0;
    let others = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Store);
    let drawn = others.filter_map(|fault| {
        let weight = rng.u32(1..=8);
        (all || rng.bool()).then_some((fault, weight))
    });
    drawn.collect()
}

/// In every second seed, each node but the last may stay broken.
fn outages(rng: &mut Rng, nodes: u32) -> BTreeMap<u32, Outage> {
    let any = rng.bool();
    let drawn = (1..nodes).filter_map(|number| {
        let outage = *pick(rng, &Outage::ALL);
        (any && rng.u8(0..3) == 0).then_some((number, outage))
    });
    drawn.collect()
}

fn pick<'a, T>(rng: &mut Rng, of: &'a [T]) -> &'a T {
    &of[rng.usize(0..of.len())]
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { nodes, gateways, services, latency_ms, .. } = self;
        let faults = self.faults.iter().map(|(fault, weight)| format!("{fault} {weight}"));
        let faults = faults.collect::<Vec<_>>().join(", ");
        let outages = self.outages.iter().map(|(number, outage)| format!("n{number}: {outage}"));
        let outages = outages.collect::<Vec<_>>().join(", ");
        let none = |list: String| if list.is_empty() { "none".into() } else { list };
        writeln!(
            f,
            "{nodes} nodes, {gateways} gateways, {services} services, latency up to {latency_ms} ms"
        )?;
        writeln!(
            f,
            "faults for {} s, up to {} ms apart: {}",
            self.fault_phase_ms / 1000,
            self.fault_interval_ms,
            none(faults)
        )?;
        writeln!(f, "commands up to {} ms apart", self.command_interval_ms)?;
        write!(f, "outages that do not end: {}", none(outages))
    }
}
