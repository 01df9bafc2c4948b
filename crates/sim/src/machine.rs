//! What is true of a node: the runs that its drivers have started, and what becomes of them. It
//! goes on without an agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::core::{Outcome, Seed};
use agent::drivers::{Found, Kind, Told};
use model::{Bytes, Cpu, Exit, InstanceId, Millis, NodeId, Resources, Spec, Timestamp};

use crate::queue::Moment;
use crate::world::{Happening, World};

/// The variable by which a service says what is wrong with it: `never-healthy`, `exits`.
pub(crate) const SICK: &str = "SICK";

/// The runs on a node.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) runs: BTreeMap<InstanceId, Run>,
    /// The Docker daemon does not answer.
    pub(crate) docker_is_away: bool,
    /// The runs there have ever been: no number is used twice.
    numbers: BTreeSet<(InstanceId, u32)>,
}

/// One run of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) number: u32,
    pub(crate) spec: Arc<Spec>,
    ports: Vec<u16>,
    started_at: Timestamp,
    pub(crate) stage: Stage,
    /// It answers nothing.
    pub(crate) hangs: bool,
    /// From when it does what it should.
    well_from: Moment,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    Starting,
    Up,
    Stopping,
    Ended(Exit),
}

impl Run {
    /// Whether there is a process.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self.stage, Stage::Ended(_))
    }

    /// Whether it takes requests.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up | Stage::Stopping)
    }

    /// Whether a probe finds it well.
    pub(crate) fn is_well(&self, now: Moment) -> bool {
        self.is_up() && !self.hangs && now >= self.well_from && self.sickness() != "never-healthy"
    }

    pub(crate) fn sickness(&self) -> &str {
        self.spec.env.get(SICK).map_or("", String::as_str)
    }

    fn kind(&self) -> Kind {
        Kind::of(&self.spec)
    }
}

impl Machine {
    /// What all that is there holds together.
    pub(crate) fn held(&self) -> Resources {
        let mut held = Resources { cpu: Cpu(0), memory: Bytes(0) };
        for run in self.runs.values().filter(|run| run.is_there()) {
            held.cpu.0 += run.spec.resources.cpu.0;
            held.memory.0 += run.spec.resources.memory.0;
        }
        held
    }

    /// Everything stops at once. What was started last its agent may not have written down.
    pub(crate) fn lose_power(&mut self) {
        self.runs.clear();
        self.numbers.clear();
    }

    /// What a driver finds when it looks.
    pub(crate) fn found(&self, kind: Kind) -> Vec<Found> {
        let of_kind = self.runs.iter().filter(|(_, run)| run.kind() == kind);
        let found = of_kind.map(|(instance, run)| {
            let exit = match &run.stage {
                Stage::Starting | Stage::Up | Stage::Stopping => None,
                Stage::Ended(exit) => Some(exit.clone()),
            };
            let (instance, number) = (instance.clone(), run.number);
            Found { instance, run: number, started_at: run.started_at, exit }
        });
        found.collect()
    }
}

impl World {
    /// The Docker daemon of a node goes away, or is back. What was being started has started or
    /// has not: nobody can say.
    pub(crate) fn docker_goes(&mut self, node: &NodeId, away: bool) {
        self.host(node).machine.docker_is_away = away;
        let runs = self.hosts[node].machine.runs.iter();
        let starting = runs.filter(|(_, run)| run.kind() == Kind::Docker);
        let starting = starting.filter(|(_, run)| away && run.stage == Stage::Starting);
        let starting: Vec<_> = starting.map(|(id, run)| (id.clone(), run.number)).collect();
        for (instance, run) in starting {
            if self.rng.bool() {
                self.host(node).machine.runs.remove(&instance);
                self.host(node).machine.numbers.remove(&(instance.clone(), run));
            }
            let message = "the Docker daemon does not answer".into();
            let told = Told::NotStarted { instance, run, message, driver_away: true };
            self.driver_tells(node, Kind::Docker, told);
        }
        self.driver_looks_again(node, Kind::Docker);
    }

    /// A driver is to start a run.
    pub(crate) fn run_is_wanted(&mut self, node: &NodeId, seed: Seed) {
        let Seed { instance, run, spec, ports, .. } = seed;
        let kind = Kind::of(&spec);
        let machine = &self.hosts[node].machine;
        if kind == Kind::Docker && machine.docker_is_away {
            let message = "the Docker daemon does not answer".into();
            let told = Told::NotStarted { instance, run, message, driver_away: true };
            return self.driver_tells(node, kind, told);
        }
        let others = machine.runs.iter().filter(|(id, run)| **id != instance && run.is_there());
        let mut held = others.flat_map(|(_, run)| &run.ports);
        if let Some(port) = held.find(|port| ports.contains(port)) {
            let message = format!("port {port} is taken by another program on this node");
            return self.driver_tells(node, kind, Told::Misplaced { instance, run, message });
        }
        if machine.runs.get(&instance).is_some_and(Run::is_there) {
            self.breach("one instance, one run", format!("{instance} is started twice on {node}"));
        }
        if !self.host(node).machine.numbers.insert((instance.clone(), run)) {
            self.breach("no run twice", format!("run {run} of {instance} is started again"));
        }
        let span = if self.chance(10) { 4_000 } else { 300 };
        let span = self.rng.u64(0..span);
        let started_at = self.time_on(node);
        let begun = Run {
            number: run,
            spec,
            ports,
            started_at,
            stage: Stage::Starting,
            hangs: false,
            well_from: 0,
        };
        self.host(node).machine.runs.insert(instance.clone(), begun);
        self.law_of_capacity(node);
        let node = node.clone();
        self.queue.after(span, Happening::Begins { node, instance, run });
    }

    pub(crate) fn run_begins(&mut self, node: &NodeId, instance: &InstanceId, number: u32) {
        let (now, at) = (self.now(), self.time_on(node));
        let slow = if self.chance(8) { 8_000 } else { 500 };
        let well_from = now + self.rng.u64(0..slow);
        let crashes = !self.calm && self.chance(12);
        let Some(run) = self.run(node, instance, number) else { return };
        if run.stage != Stage::Starting {
            return;
        }
        run.stage = Stage::Up;
        run.started_at = at;
        run.well_from = well_from;
        let (kind, exits) = (run.kind(), run.sickness() == "exits");
        let told = Told::Started { instance: instance.clone(), run: number, at };
        self.driver_tells(node, kind, told);
        if exits || crashes {
            let span = if exits { self.rng.u64(10..2_000) } else { self.rng.u64(10..60_000) };
            let code = Some(if exits { 0 } else { 1 });
            let (node, instance) = (node.clone(), instance.clone());
            self.queue.after(span, Happening::Ends { node, instance, run: number, code });
        }
    }

    /// A driver is to stop a run.
    pub(crate) fn stop_is_wanted(
        &mut self,
        node: &NodeId,
        instance: &InstanceId,
        number: u32,
        grace: Millis,
    ) {
        let ignores = self.chance(6);
        let Some(run) = self.run(node, instance, number) else { return };
        if run.kind() == Kind::Docker && self.hosts[node].machine.docker_is_away {
            return;
        }
        let Some(run) = self.run(node, instance, number) else { return };
        match run.stage {
            Stage::Starting | Stage::Up => run.stage = Stage::Stopping,
            // It is told again while it is stopping.
            Stage::Stopping => return,
            Stage::Ended(_) => {
                let (kind, exit) = (run.kind(), exit_of(&run.stage));
                let told = Told::Exited { instance: instance.clone(), run: number, exit };
                return self.driver_tells(node, kind, told);
            }
        }
        let span = match ignores || run.hangs {
            true => grace.0,
            false => self.rng.u64(0..=grace.0.min(800)),
        };
        let (node, instance) = (node.clone(), instance.clone());
        self.queue.after(span, Happening::Ends { node, instance, run: number, code: Some(0) });
    }

    pub(crate) fn run_ends(
        &mut self,
        node: &NodeId,
        instance: &InstanceId,
        number: u32,
        code: Option<i32>,
    ) {
        let at = self.time_on(node);
        let Some(run) = self.run(node, instance, number).filter(|run| run.is_there()) else {
            return;
        };
        let message = match code {
            Some(code) => format!("exit code {code}"),
            None => "killed by signal 9".into(),
        };
        let signal = code.is_none().then_some(9);
        let exit = Exit { at, code, signal, message };
        run.stage = Stage::Ended(exit.clone());
        let kind = run.kind();
        self.history.note(
            self.now(),
            format_args!("{node}: run {number} of {instance} ends: {}", exit.message),
        );
        let told = Told::Exited { instance: instance.clone(), run: number, exit };
        self.driver_tells(node, kind, told);
    }

    /// What a probe of a run finds now.
    pub(crate) fn probe(&self, node: &NodeId, instance: &InstanceId, number: u32) -> Outcome {
        let run = self.hosts[node].machine.runs.get(instance);
        match run.filter(|run| run.number == number && run.is_up()) {
            None => Outcome::Fail("connection refused".into()),
            Some(run) if run.is_well(self.now()) => Outcome::Pass,
            Some(_) => Outcome::Fail("503 Service Unavailable".into()),
        }
    }

    pub(crate) fn run(
        &mut self,
        node: &NodeId,
        instance: &InstanceId,
        number: u32,
    ) -> Option<&mut Run> {
        let runs = &mut self.host(node).machine.runs;
        runs.get_mut(instance).filter(|run| run.number == number)
    }
}

fn exit_of(stage: &Stage) -> Exit {
    match stage {
        Stage::Ended(exit) => exit.clone(),
        _ => unreachable!("asked only of what has ended"),
    }
}
