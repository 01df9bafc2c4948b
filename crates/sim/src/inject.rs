//! Injects faults while the fault phase lasts, and heals the cluster afterwards: machines have
//! power, connections work, clocks are correct, processes run. Nodes with an outage stay broken.

use std::collections::BTreeMap;
use std::fmt;

use agent::drivers::Kind;
use model::NodeId;

use crate::cluster::{Cluster, Host, node_id};
use crate::disk::Disk;
use crate::environment::Environment;
use crate::event::SimEvent;
use crate::fault::{Fault, FaultEnd, Outage};
use crate::network::{Location, Quality};
use crate::observation::Observation;
use crate::process::Process;
use crate::server::DiskCondition;

/// Injects faults.
pub(crate) struct Injector {
    /// The kinds of faults, each as often as its weight says.
    kinds: Vec<Fault>,
    interval_ms: u64,
    outages: BTreeMap<NodeId, Outage>,
    /// Number of faults so far.
    pub(crate) count: u64,
}

impl Injector {
    pub(crate) fn new(
        faults: &BTreeMap<Fault, u32>,
        interval_ms: u64,
        outages: &BTreeMap<u32, Outage>,
    ) -> Injector {
        let kinds = faults.iter().flat_map(|(fault, weight)| (0..*weight).map(|_| *fault));
        let outages = outages.iter().map(|(number, outage)| (node_id(*number), *outage));
        Injector { kinds: kinds.collect(), interval_ms, outages: outages.collect(), count: 0 }
    }

    /// Injects a fault and schedules the next.
    pub(crate) fn inject(&mut self, env: &mut Environment, cluster: &mut Cluster) {
        if env.healed {
            return;
        }
        let span = env.span(self.interval_ms / 20..=self.interval_ms);
        env.after(span, SimEvent::FaultBegins);
        let Some(fault) = env.scheduler.rng.choice(&self.kinds) else { return };
        self.count += 1;
        match fault {
            Fault::Kill => kill(env, cluster),
            Fault::Suspend => suspend(env, cluster),
            Fault::Power => match env.chance(3) {
                true => server_power(env, cluster),
                false => node_power(env, cluster, false),
            },
            Fault::Wipe => node_power(env, cluster, true),
            Fault::Disk => disk(env, cluster),
            Fault::Partition => partition(env, cluster),
            Fault::Network => network(env),
            Fault::Clock => clock(env, cluster),
            Fault::Instance => instance(env, cluster),
            Fault::Store => store(env, cluster),
            Fault::Docker => {
                let node = cluster.any_node(&mut env.scheduler.rng);
                note(env, format_args!("{node}: Docker does not respond"));
                set_docker(env, cluster, &node, true);
                let span = env.span(100..10_000);
                env.after(span, SimEvent::FaultEnds(FaultEnd::Docker(node)));
            }
        }
    }

    /// Ends the fault phase and repairs everything except nodes with an outage.
    pub(crate) fn heal(&self, env: &mut Environment, cluster: &mut Cluster) {
        env.healed = true;
        env.note("the fault phase ends");
        let at = env.now();
        env.observe(Observation::Healed { at });
        env.transport.network.heal();
        env.scheduler.resume_all();
        cluster.return_server(env);
        cluster.server.disk_condition = DiskCondition::Works;
        cluster.server.clock.correct();
        env.after(1, SimEvent::Start(Process::Server));
        let nodes: Vec<_> = cluster.hosts.keys().cloned().collect();
        for node in nodes {
            let host = cluster.host(&node);
            host.machine.clock.correct();
            for run in host.machine.runs.values_mut() {
                run.hangs = false;
            }
            if host.machine.docker_unavailable {
                set_docker(env, cluster, &node, false);
            }
            match self.outages.get(&node) {
                Some(outage) => begin_outage(env, cluster, &node, *outage),
                None => cluster.host(&node).machine.powered = true,
            }
            cluster.start(env, &Process::Agent(node.clone()));
            cluster.start(env, &Process::Gateway(node));
        }
    }
}

fn note(env: &mut Environment, fault: impl fmt::Display) {
    env.note(format_args!("fault: {fault}"));
}

fn begin_outage(env: &mut Environment, cluster: &mut Cluster, node: &NodeId, outage: Outage) {
    env.note(format_args!("{node} stays broken: {outage}"));
    cluster.host(node).outage = Some(outage);
    match outage {
        Outage::Power => {
            cluster.stop(env, &Process::Agent(node.clone()), "loses power");
            cluster.stop(env, &Process::Gateway(node.clone()), "loses power");
            cluster.host(node).machine.lose_power();
        }
        Outage::Agent => {
            cluster.host(node).machine.powered = true;
            cluster.stop(env, &Process::Agent(node.clone()), "is killed");
        }
        Outage::Partition => {
            cluster.host(node).machine.powered = true;
            env.transport.network.sever(node.clone());
        }
    }
}

fn any_process(env: &mut Environment, cluster: &Cluster) -> Process {
    let rng = &mut env.scheduler.rng;
    let node = cluster.any_node(rng);
    match rng.u8(0..3) {
        0 => Process::Server,
        1 => Process::Agent(node),
        _ => Process::Gateway(node),
    }
}

fn kill(env: &mut Environment, cluster: &mut Cluster) {
    let process = any_process(env, cluster);
    cluster.stop(env, &process, "is killed");
    let span = env.span(50..10_000);
    env.after(span, SimEvent::Start(process));
}

fn suspend(env: &mut Environment, cluster: &Cluster) {
    let process = any_process(env, cluster);
    let longest = if env.chance(3) { 40_000 } else { 3_000 };
    let span = env.span(100..longest);
    note(env, format_args!("{process:?} is suspended for {span} ms"));
    env.scheduler.suspend(process.clone(), span);
    env.after(span, SimEvent::FaultEnds(FaultEnd::Suspended(process)));
}

fn server_power(env: &mut Environment, cluster: &mut Cluster) {
    let span = env.span(1_000..60_000);
    cluster.server.stop(env, "loses power");
    cluster.server.disk.lose_power();
    env.after(span, SimEvent::FaultEnds(FaultEnd::Power(None)));
}

fn node_power(env: &mut Environment, cluster: &mut Cluster, loses_disk: bool) {
    let node = cluster.any_node(&mut env.scheduler.rng);
    if !cluster.hosts[&node].machine.powered {
        return;
    }
    let and = if loses_disk { " and its disk" } else { "" };
    note(env, format_args!("{node} loses power{and}"));
    cluster.stop(env, &Process::Agent(node.clone()), "loses power");
    cluster.stop(env, &Process::Gateway(node.clone()), "loses power");
    let host = cluster.host(&node);
    host.machine.lose_power();
    if loses_disk {
        host.agent.lose_disk();
    }
    let span = env.span(1_000..60_000);
    env.after(span, SimEvent::FaultEnds(FaultEnd::Power(Some(node))));
}

fn disk(env: &mut Environment, cluster: &mut Cluster) {
    let full = env.scheduler.rng.bool();
    let condition = if full { DiskCondition::Full } else { DiskCondition::Failing };
    note(env, format_args!("the server's disk: {condition:?}"));
    cluster.server.disk_condition = condition;
    let span = env.span(100..8_000);
    env.after(span, SimEvent::FaultEnds(FaultEnd::Disk));
}

/// A server starts on an empty store, or on a copy of the cluster's store.
fn store(env: &mut Environment, cluster: &mut Cluster) {
    let disk = if env.chance(3) { Disk::default() } else { cluster.backup.clone() };
    if !cluster.is_recognised_as_wrong(&disk) {
        return;
    }
    note(env, format_args!("a server starts on a store of revision {}", disk.revision()));
    cluster.replace_server(env, disk);
    let span = env.span(1_000..40_000);
    env.after(span, SimEvent::FaultEnds(FaultEnd::Store));
}

fn partition(env: &mut Environment, cluster: &Cluster) {
    let rng = &mut env.scheduler.rng;
    let a = Location::Node(cluster.any_node(rng));
    let b = match rng.u8(0..4) {
        0 => Location::Node(cluster.any_node(rng)),
        _ => Location::Server,
    };
    if a == b {
        return;
    }
    let longest = if env.chance(3) { 60_000 } else { 8_000 };
    let span = env.span(200..longest);
    // Two thirds of the partitions are asymmetric.
    let open_direction = env.scheduler.rng.usize(0..3);
    let directions = [(a.clone(), b.clone()), (b, a)];
    for (direction, (from, to)) in directions.into_iter().enumerate() {
        if direction != open_direction {
            note(env, format_args!("nothing passes from {from:?} to {to:?}"));
            env.transport.network.cut(from.clone(), to.clone());
            env.after(span, SimEvent::FaultEnds(FaultEnd::Cut(from, to)));
        }
    }
}

fn network(env: &mut Environment) {
    let rng = &mut env.scheduler.rng;
    let quality =
        Quality { slow_ms: rng.u64(0..2_000), loss: rng.u64(0..20), duplicates: rng.u64(0..10) };
    env.transport.network.quality = quality;
    note(env, format_args!("network: {quality:?}"));
    let span = env.span(500..10_000);
    env.after(span, SimEvent::FaultEnds(FaultEnd::Network));
}

fn clock(env: &mut Environment, cluster: &mut Cluster) {
    let most = if env.chance(2) { 5_000 } else { 4_000_000 };
    let by = env.scheduler.rng.i64(-most..most);
    if env.chance(2) {
        note(env, format_args!("the server's clock is set by {by} ms"));
        cluster.server.clock.step(by);
    } else {
        let node = cluster.any_node(&mut env.scheduler.rng);
        note(env, format_args!("{node}: the clock is set by {by} ms"));
        cluster.host(&node).machine.clock.step(by);
    }
}

fn instance(env: &mut Environment, cluster: &mut Cluster) {
    let up = cluster.hosts.iter().flat_map(|(node, host)| {
        let runs = host.machine.runs.iter().filter(|(_, run)| run.is_up());
        runs.map(|(of, run)| (node.clone(), of.run(run.number)))
    });
    let up: Vec<_> = up.collect();
    let Some((node, piece)) = env.scheduler.rng.choice(up) else { return };
    if env.chance(2) {
        note(env, format_args!("{node}: {piece} is killed"));
        let event = cluster.host(&node).machine.end_run(env, &piece, None);
        return cluster.driver_event(env, &node, event);
    }
    note(env, format_args!("{node}: {piece} hangs"));
    if let Some(run) = cluster.host(&node).machine.run(&piece) {
        run.hangs = true;
    }
    let span = env.span(500..30_000);
    env.after(span, SimEvent::FaultEnds(FaultEnd::Hang(node, piece)));
}

fn set_docker(env: &mut Environment, cluster: &mut Cluster, node: &NodeId, unavailable: bool) {
    let Host { agent, machine, .. } = cluster.host(node);
    for event in machine.set_docker(env, unavailable) {
        agent.driver_event(env, machine, event);
    }
    agent.reset_driver(env, machine, Kind::Docker);
}

/// Ends a temporary fault.
pub(crate) fn end(env: &mut Environment, cluster: &mut Cluster, end: FaultEnd) {
    // Healing has repaired everything; ends of faults that began before must not repair outages.
    if env.healed {
        return;
    }
    match end {
        FaultEnd::Suspended(process) => env.scheduler.resume(&process),
        FaultEnd::Power(None) => cluster.start(env, &Process::Server),
        FaultEnd::Power(Some(node)) => {
            cluster.host(&node).machine.powered = true;
            cluster.start(env, &Process::Agent(node.clone()));
            cluster.start(env, &Process::Gateway(node));
        }
        FaultEnd::Disk => cluster.server.disk_condition = DiskCondition::Works,
        FaultEnd::Cut(from, to) => env.transport.network.restore(&from, &to),
        FaultEnd::Network => env.transport.network.quality = Quality::default(),
        FaultEnd::Hang(node, piece) => {
            if let Some(run) = cluster.host(&node).machine.run(&piece) {
                run.hangs = false;
            }
        }
        FaultEnd::Store => cluster.return_server(env),
        FaultEnd::Docker(node) => set_docker(env, cluster, &node, false),
    }
}
