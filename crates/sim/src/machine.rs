//! A node's hardware and drivers: its clock, its capacity, and the runs that its drivers have
//! started. Runs continue without an agent. A method that returns a [`Reported`] expects the
//! caller to pass it to the agent, if one runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::core::{LaunchSpec, Outcome};
use agent::drivers::{DriverEvent, Found, Kind};
use model::{
    Bytes, Cpu, Ending, Exit, InstanceId, Millis, NodeId, Piece, ResourceId, Resources, Spec,
    Timestamp, Value,
};

use crate::clock::Clock;
use crate::environment::Environment;
use crate::event::{MachineEvent, SimEvent};
use crate::queue::Moment;

/// The variable that makes a service fail on purpose: `never-healthy`, `exits`.
pub(crate) const SICKNESS: &str = "SICKNESS";

/// The reports of a driver to its agent.
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) driver: Kind,
    pub(crate) event: DriverEvent,
}

/// A node's hardware and drivers.
pub(crate) struct Machine {
    node: NodeId,
    pub(crate) clock: Clock,
    pub(crate) capacity: Resources,
    pub(crate) powered: bool,
    /// The Docker daemon does not respond.
    pub(crate) docker_unavailable: bool,
    pub(crate) runs: BTreeMap<InstanceId, Run>,
    /// Every run there has been since the machine got power: no number may be used twice.
    numbers: BTreeSet<(InstanceId, u32)>,
}

/// One run of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) number: u32,
    pub(crate) spec: Arc<Spec>,
    ports: Vec<u16>,
    started_at: Timestamp,
    stage: Stage,
    /// It does not respond.
    pub(crate) hangs: bool,
    /// The moment from which on its probes pass.
    healthy_from: Moment,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Starting,
    Up,
    Stopping,
    Ended(Exit),
}

impl Run {
    /// Whether it has a process.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.stage, Stage::Ended(_))
    }

    /// Whether it accepts connections.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up | Stage::Stopping)
    }

    /// Whether a probe passes.
    pub(crate) fn is_healthy(&self, now: Moment) -> bool {
        let can_be = self.is_up() && !self.hangs && self.sickness() != "never-healthy";
        can_be && now >= self.healthy_from
    }

    pub(crate) fn sickness(&self) -> &str {
        self.spec.env.get(SICKNESS).and_then(Value::as_text).unwrap_or("")
    }

    fn driver(&self) -> Kind {
        Kind::of(&self.spec)
    }
}

impl Machine {
    pub(crate) fn new(node: NodeId, clock: Clock, capacity: Resources) -> Machine {
        Machine {
            node,
            clock,
            capacity,
            powered: true,
            docker_unavailable: false,
            runs: BTreeMap::new(),
            numbers: BTreeSet::new(),
        }
    }

    /// The resources of all runs that are alive.
    pub(crate) fn used(&self) -> Resources {
        let mut used = Resources { cpu: Cpu(0), memory: Bytes(0) };
        for run in self.runs.values().filter(|run| run.is_alive()) {
            used.cpu.0 += run.spec.resources.cpu.0;
            used.memory.0 += run.spec.resources.memory.0;
        }
        used
    }

    /// Ends every run without a trace. The agent may not have recorded the newest, so their
    /// numbers may be used again.
    pub(crate) fn lose_power(&mut self) {
        self.powered = false;
        self.runs.clear();
        self.numbers.clear();
    }

    /// The runs that a driver finds when it starts.
    pub(crate) fn found(&self, driver: Kind) -> Vec<Found> {
        let of_driver = self.runs.iter().filter(|(_, run)| run.driver() == driver);
        let found = of_driver.map(|(instance, run)| {
            let exit = match &run.stage {
                Stage::Starting | Stage::Up | Stage::Stopping => None,
                Stage::Ended(exit) => Some(exit.clone()),
            };
            Found { piece: piece(instance, run.number), started_at: run.started_at, exit }
        });
        found.collect()
    }

    /// The Docker daemon stops responding, or responds again. A run that was starting may have
    /// started or not.
    pub(crate) fn set_docker(&mut self, env: &mut Environment, unavailable: bool) -> Vec<Reported> {
        self.docker_unavailable = unavailable;
        let runs = self.runs.iter().filter(|(_, run)| run.driver() == Kind::Docker);
        let starting = runs.filter(|(_, run)| unavailable && run.stage == Stage::Starting);
        let starting: Vec<_> = starting.map(|(id, run)| (id.clone(), run.number)).collect();
        let mut events = Vec::new();
        for (instance, run) in starting {
            if env.scheduler.rng.bool() {
                self.runs.remove(&instance);
                self.numbers.remove(&(instance.clone(), run));
            }
            events.push(docker_unavailable(piece(&instance, run)));
        }
        events
    }

    /// A driver must start a run.
    pub(crate) fn start(&mut self, env: &mut Environment, launch: LaunchSpec) -> Option<Reported> {
        let ports = launch.ports().to_vec();
        let LaunchSpec { piece: started, spec, .. } = launch;
        let Piece { instance, run, .. } = started.clone();
        let driver = Kind::of(&spec);
        if driver == Kind::Docker && self.docker_unavailable {
            return Some(docker_unavailable(piece(&instance, run)));
        }
        let others = self.runs.iter().filter(|(id, run)| **id != instance && run.is_alive());
        let mut used = others.flat_map(|(_, run)| &run.ports);
        if let Some(port) = used.find(|port| ports.contains(port)) {
            let message = format!("port {port} is taken by another program on this node");
            let event = DriverEvent::Misplaced { piece: started, message };
            return Some(Reported { driver, event });
        }
        let node = self.node.clone();
        if self.runs.get(&instance).is_some_and(Run::is_alive) {
            env.violated("one instance, one run", format!("{instance} starts twice on {node}"));
        }
        if !self.numbers.insert((instance.clone(), run)) {
            env.violated("no run number is used twice", format!("run {run} of {instance}"));
        }
        let begun = Run {
            number: run,
            spec,
            ports,
            started_at: self.clock.at(env.now()),
            stage: Stage::Starting,
            hangs: false,
            healthy_from: 0,
        };
        self.runs.insert(instance.clone(), begun);
        env.observe(crate::observation::Observation::RunStarted(node.clone()));
        let longest = if env.chance(10) { 4_000 } else { 300 };
        let span = env.span(0..longest);
        env.after(span, SimEvent::Machine(node, MachineEvent::RunStarted { instance, run }));
        None
    }

    /// A driver must stop a run.
    pub(crate) fn stop(
        &mut self,
        env: &mut Environment,
        instance: &InstanceId,
        number: u32,
        grace: Millis,
    ) -> Option<Reported> {
        let ignores_signal = env.chance(6);
        let docker_unavailable = self.docker_unavailable;
        let node = self.node.clone();
        let run = self.run(instance, number)?;
        let driver = run.driver();
        if driver == Kind::Docker && docker_unavailable {
            return None;
        }
        match &run.stage {
            Stage::Starting | Stage::Up => run.stage = Stage::Stopping,
            // Agents may send a stop request more than once.
            Stage::Stopping => return None,
            Stage::Ended(exit) => {
                let (piece, exit) = (piece(instance, number), exit.clone());
                return Some(Reported { driver, event: DriverEvent::Exited { piece, exit } });
            }
        }
        let span = match ignores_signal || run.hangs {
            true => grace.0,
            false => env.span(0..=grace.0.min(800)),
        };
        let ended =
            MachineEvent::RunEnded { instance: instance.clone(), run: number, code: Some(0) };
        env.after(span, SimEvent::Machine(node, ended));
        None
    }

    pub(crate) fn handle(
        &mut self,
        env: &mut Environment,
        event: MachineEvent,
    ) -> Option<Reported> {
        match event {
            MachineEvent::RunStarted { instance, run } => self.run_started(env, instance, run),
            MachineEvent::RunEnded { instance, run, code } => {
                self.end_run(env, &instance, run, code)
            }
        }
    }

    fn run_started(
        &mut self,
        env: &mut Environment,
        instance: InstanceId,
        number: u32,
    ) -> Option<Reported> {
        let (now, at, node) = (env.now(), self.clock.at(env.now()), self.node.clone());
        let slowest = if env.chance(8) { 8_000 } else { 500 };
        let healthy_from = now + env.span(0..slowest);
        let crashes = !env.healed && env.chance(12);
        let run = self.run(&instance, number).filter(|run| run.stage == Stage::Starting)?;
        run.stage = Stage::Up;
        run.started_at = at;
        run.healthy_from = healthy_from;
        let (driver, exits) = (run.driver(), run.sickness() == "exits");
        if exits || crashes {
            let span = if exits { env.span(10..2_000) } else { env.span(10..60_000) };
            let code = Some(if exits { 0 } else { 1 });
            let ended = MachineEvent::RunEnded { instance: instance.clone(), run: number, code };
            env.after(span, SimEvent::Machine(node, ended));
        }
        let event = DriverEvent::Started { piece: piece(&instance, number), at };
        Some(Reported { driver, event })
    }

    /// A run ends with an exit code, or is killed.
    pub(crate) fn end_run(
        &mut self,
        env: &mut Environment,
        instance: &InstanceId,
        number: u32,
        code: Option<i32>,
    ) -> Option<Reported> {
        let (at, node) = (self.clock.at(env.now()), self.node.clone());
        let run = self.run(instance, number).filter(|run| run.is_alive())?;
        let how = match code {
            Some(code) => Ending::Code { code },
            None => Ending::Signal { signal: 9 },
        };
        let exit = Exit { at, how };
        run.stage = Stage::Ended(exit.clone());
        let driver = run.driver();
        env.note(format_args!("{node}: run {number} of {instance} ends: {}", exit));
        let event = DriverEvent::Exited { piece: piece(instance, number), exit };
        Some(Reported { driver, event })
    }

    /// The outcome of a probe of a run now.
    pub(crate) fn probe(&self, now: Moment, instance: &InstanceId, number: u32) -> Outcome {
        match self.runs.get(instance).filter(|run| run.number == number && run.is_up()) {
            None => Outcome::Fail("connection refused".into()),
            Some(run) if run.is_healthy(now) => Outcome::Pass,
            Some(_) => Outcome::Fail("503 Service Unavailable".into()),
        }
    }

    pub(crate) fn run(&mut self, instance: &InstanceId, number: u32) -> Option<&mut Run> {
        self.runs.get_mut(instance).filter(|run| run.number == number)
    }
}

/// A run of the only resource of an instance.
fn piece(instance: &InstanceId, run: u32) -> Piece {
    Piece { instance: instance.clone(), resource: ResourceId::main(), run }
}

fn docker_unavailable(piece: Piece) -> Reported {
    let message = "the Docker daemon does not answer".into();
    let event = DriverEvent::NotStarted { piece, message, driver_away: true };
    Reported { driver: Kind::Docker, event }
}
