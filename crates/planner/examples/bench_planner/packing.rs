//! Utilization of a cluster when the first instance finds no node, compared with
//! first-fit-decreasing.
//!
//! Instances of mixed sizes arrive one after the other, each as a service of its own, and none ever
//! moves. First-fit-decreasing knows all of them in advance: it packs the longest prefix of the
//! same sequence that fits when larger instances are placed before smaller ones. No online
//! algorithm can be expected to reach it; the benchmark measures the distance.

use model::{Bytes, Command, Cpu, Proposal, Resources, State};
use muster_planner::WorkQueue;

use super::cluster::{NOW, adopt, join, placed, service};

const NODES: usize = 100;
const CAPACITY: Resources = Resources { cpu: Cpu(16_000), memory: Bytes::mib(65_536) };

/// Requirements of instances, in thousandths of a core and in MiB: mostly small, some large.
const SIZES: [(u32, u64); 8] = [
    (100, 128),
    (250, 512),
    (250, 2_048),
    (500, 1_024),
    (1_000, 4_096),
    (2_000, 4_096),
    (2_000, 12_288),
    (4_000, 16_384),
];

/// The share of the scarcer resource in use when the first instance finds no node: for the planner
/// and for first-fit-decreasing.
pub(crate) fn shares() -> (f64, f64) {
    let sizes: Vec<(u32, u64)> = sequence().take(NODES * 40).collect();
    let ours = until_refused(&sizes);
    let peer = most_by_first_fit_decreasing(&sizes);
    (share(&sizes[..ours]), share(&sizes[..peer]))
}

/// A pseudo-random sequence of sizes, the same in each run.
fn sequence() -> impl Iterator<Item = (u32, u64)> {
    let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
    std::iter::repeat_with(move || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        SIZES[(word >> 32) as usize % SIZES.len()]
    })
}

fn share(sizes: &[(u32, u64)]) -> f64 {
    let cpu: u64 = sizes.iter().map(|(cpu, _)| u64::from(*cpu)).sum();
    let memory: u64 = sizes.iter().map(|(_, mebibytes)| *mebibytes << 20).sum();
    let all = NODES as u64;
    let of = |used: u64, one: u64| used as f64 / (one * all) as f64;
    of(cpu, CAPACITY.cpu.0.into()).max(of(memory, CAPACITY.memory.0))
}

/// The number of instances of the sequence that are placed before the first finds no node.
fn until_refused(sizes: &[(u32, u64)]) -> usize {
    let mut state = State::new();
    let mut observed =
        model::Observed { since: NOW, lost_after: model::Millis::secs(30), ..Default::default() };
    (0..NODES).for_each(|i| join(&mut state, &mut observed, i, CAPACITY));
    let mut work_queue = WorkQueue::everything();
    for (i, (cpu, mebibytes)) in sizes.iter().enumerate() {
        let document = service(&format!("/s-{i}"), 1, f64::from(*cpu) / 1_000.0, *mebibytes);
        let applied = state
            .apply(Proposal::operator(Command::Apply(vec![document])), NOW)
            .expect("it is applied");
        drop(applied);
        work_queue.touch(&format!("/s-{i}").parse().expect("a path"));
        let plan = work_queue.plan(&state, &observed, NOW);
        if placed(&plan) == 0 {
            return i;
        }
        state = adopt(&state, &plan);
    }
    sizes.len()
}

/// The length of the longest prefix of the sequence that first-fit-decreasing packs.
fn most_by_first_fit_decreasing(sizes: &[(u32, u64)]) -> usize {
    (1..=sizes.len()).take_while(|count| fits(&sizes[..*count])).last().unwrap_or(0)
}

fn fits(sizes: &[(u32, u64)]) -> bool {
    let mut sizes: Vec<(u64, u64)> =
        sizes.iter().map(|(cpu, mebibytes)| (u64::from(*cpu), mebibytes << 20)).collect();
    let (cpu_all, memory_all) = (u64::from(CAPACITY.cpu.0), CAPACITY.memory.0);
    // The size of an instance is the larger of its two shares.
    sizes.sort_by_key(|(cpu, memory)| {
        std::cmp::Reverse(((cpu << 20) / cpu_all).max((memory << 10) / (memory_all >> 10)))
    });
    let mut free = vec![(cpu_all, memory_all); NODES];
    sizes.iter().all(|(cpu, memory)| {
        let node = free.iter_mut().find(|(c, m)| c >= cpu && m >= memory);
        node.map(|(c, m)| (*c -= cpu, *m -= memory)).is_some()
    })
}
