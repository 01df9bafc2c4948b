//! Hostile and normal traffic without faults: no thread of a gateway is stuck, its memory does not grow, and every normal
//! request is answered.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{
    cluster::{self, Cluster, GATEWAYS},
    hostile::{self, Hostile},
    load::Load,
    user::PORT,
};

/// Interval between two measurements of memory.
const SAMPLE: Duration = Duration::from_secs(5);
/// The backend of uploads reads nothing for the first time, then everything for the second, and so on.
const BACKEND_STOPPED: Duration = Duration::from_secs(4);
const BACKEND_CONTINUED: Duration = Duration::from_secs(1);
/// The first and the last of this number of parts of a run are compared.
const PARTS: usize = 5;
/// Maximum growth of memory between them.
const GROWTH_MAX: f64 = 1.2;
/// Maximum number of printed violations.
const SHOWN_MAX: usize = 10;

/// The memory of the gateways over time.
struct Memory {
    began: Instant,
    /// When, and the resident memory of each gateway in KiB.
    samples: Vec<(Duration, [u64; GATEWAYS.len()])>,
}

impl Memory {
    fn sample(&mut self, cluster: &Cluster) -> Result<()> {
        let mut resident = [0; GATEWAYS.len()];
        for (name, kib) in GATEWAYS.iter().zip(&mut resident) {
            *kib = cluster.resident_kib(name)?;
        }
        self.samples.push((self.began.elapsed(), resident));
        Ok(())
    }

    /// The peaks of a gateway in the first and in the last part of the run, in KiB.
    fn peaks(&self, gateway: usize) -> (u64, u64) {
        let part = (self.samples.len() / PARTS).max(1);
        let resident = self.samples.iter().map(|(_, resident)| resident[gateway]);
        let first = resident.clone().take(part).max();
        (first.unwrap_or(0), resident.rev().take(part).max().unwrap_or(0))
    }
}

/// Sends traffic for the given time. The cluster serves already.
pub(super) fn run(mut cluster: Cluster, time: Duration) -> Result<()> {
    let gateways = GATEWAYS.map(cluster::address);
    let load = Load::start(&gateways, PORT, "/endpoint0");
    let hostile: Vec<_> = gateways.iter().map(|at| Hostile::start((*at, PORT))).collect();
    let mut memory = Memory { began: Instant::now(), samples: Vec::new() };
    let mut violations = Vec::new();
    println!("chaos: {:.1} min of hostile and normal traffic", time.as_secs_f64() / 60.0);
    let (mut is_stopped, mut next_signal, mut next_sample) =
        (false, Instant::now(), Instant::now() + SAMPLE);
    while memory.began.elapsed() < time {
        let now = Instant::now();
        if now >= next_signal {
            is_stopped = !is_stopped;
            let (signal, lasts) =
                if is_stopped { ("STOP", BACKEND_STOPPED) } else { ("CONT", BACKEND_CONTINUED) };
            hostile::signal_backend(signal);
            next_signal = now + lasts;
        }
        if now >= next_sample {
            memory.sample(&cluster)?;
            next_sample = now + SAMPLE;
        }
        if let Some((name, status)) = cluster.ended()?.first() {
            bail!("{name} ended by itself: {status}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    hostile::signal_backend("CONT");
    let mut rounds = Vec::new();
    for hostile in hostile {
        let seen = hostile.finish()?;
        violations.extend(seen.unanswered.iter().map(|why| anyhow!("a large head: {why}")));
        rounds.push(seen.rounds);
    }
    let seen = load.finish()?;
    violations.extend(seen.failures.iter().map(|failure| {
        anyhow!("a request to {} failed: {}", GATEWAYS[failure.gateway], failure.why)
    }));
    for event in cluster::events()? {
        if event["kind"] == "gateway-thread-stuck" {
            violations.push(anyhow!("{}: {}", event["subject"], event["message"]));
        }
    }
    println!("\n{:<16} {:>10} {:>10}", "connections of", GATEWAYS[0], GATEWAYS[1]);
    for (kind, count) in &rounds[0] {
        println!("{kind:<16} {count:>10} {:>10}", rounds[1].get(kind).unwrap_or(&0));
    }
    println!("\n{:<16} {:>10} {:>10}   KiB resident", "after", GATEWAYS[0], GATEWAYS[1]);
    let step = memory.samples.len().div_ceil(20).max(1);
    for (at, [one, other]) in memory.samples.iter().step_by(step) {
        println!("{:<16} {one:>10} {other:>10}", format!("{} s", at.as_secs()));
    }
    for (gateway, name) in GATEWAYS.iter().enumerate() {
        let (first, last) = memory.peaks(gateway);
        let growth = last as f64 / first.max(1) as f64;
        println!("{name}: peak {first} KiB in the first part, {last} KiB in the last: {growth:.2}");
        if growth > GROWTH_MAX {
            violations.push(anyhow!("the memory of {name} grew from {first} to {last} KiB"));
        }
    }
    println!("\n{:<16} {:>10}", "requests", seen.requests);
    println!("{:<16} {:>10}", "  failed", seen.failures.len());
    println!("{:<16} {:>8.1} s", "  longest", seen.latency_max.as_secs_f64());
    for violation in violations.iter().take(SHOWN_MAX) {
        println!("VIOLATED  {violation:#}");
    }
    match violations.len() {
        0 => Ok(()),
        count => bail!("{count} violations"),
    }
}

impl Cluster {
    /// The resident memory of a daemon, in KiB.
    fn resident_kib(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid(name)?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.with_context(|| format!("the kernel does not say how much memory {name} has"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_compared_between_the_first_and_the_last_part() {
        let sample = |second: u64| (Duration::from_secs(second), [second, 7]);
        let peaks = |samples| {
            let samples = (1..=samples).map(sample).collect();
            let memory = Memory { began: Instant::now(), samples };
            (memory.peaks(0), memory.peaks(1))
        };
        assert_eq!(peaks(100), ((20, 100), (7, 7)));
        assert_eq!(peaks(2), ((1, 2), (7, 7)));
    }
}
