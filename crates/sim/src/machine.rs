//! A node's hardware and drivers: its clock, its capacity, and the runs that its drivers have
//! started. Runs continue without an agent. A method that returns a [`Reported`] expects the
//! caller to pass it to the agent, if one runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::core::{LaunchSpec, Outcome};
use agent::drivers::{DriverEvent, Found, Kind};
use model::{
    Bytes, Cpu, Ending, Exit, InstanceId, InstanceResource, Millis, NodeId, Piece, Resources, Spec,
    Status, Timestamp, Value,
};

use crate::bug::InjectedBug;
use crate::clock::Clock;
use crate::environment::Environment;
use crate::event::{MachineEvent, SimEvent};
use crate::observation::Observation;
use crate::queue::Moment;

/// The variable that makes a service fail on purpose: `never-healthy`, `exits`, `task-fails`.
pub(crate) const DEFECT: &str = "SICKNESS";

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
    /// The newest run of each resource.
    pub(crate) runs: BTreeMap<InstanceResource, Run>,
    /// Every run there has been since the machine got power: no number may be used twice.
    numbers: BTreeSet<Piece>,
}

/// One run of one resource of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) number: u32,
    /// The spec of the service, reduced to the resource.
    pub(crate) spec: Arc<Spec>,
    /// The spec of the service.
    instance: Arc<Spec>,
    /// Whether it ends by itself once it has completed.
    is_task: bool,
    ports: Vec<u16>,
    started_at: Timestamp,
    stage: Stage,
    /// It does not respond.
    pub(crate) hangs: bool,
    /// Its processes are suspended.
    pub(crate) suspended: bool,
    /// With an injected bug, its probes pass while it is suspended.
    deceives: bool,
    /// The moment from which on its probes pass.
    healthy_from: Moment,
    /// A probe of it has passed.
    pub(crate) has_passed: bool,
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

    /// Whether it is a task that has completed.
    pub(crate) fn has_completed(&self) -> bool {
        self.is_task && matches!(&self.stage, Stage::Ended(exit) if exit.code() == Some(0))
    }

    /// Whether it accepts requests: it listens on a port and responds.
    pub(crate) fn accepts(&self) -> bool {
        self.is_up() && !self.hangs && !self.suspended && !self.ports.is_empty()
    }

    /// Whether a probe passes.
    pub(crate) fn is_healthy(&self, now: Moment) -> bool {
        let responds = !self.hangs && (!self.suspended || self.deceives);
        let can_be = self.is_up() && responds && self.defect() != "never-healthy";
        can_be && now >= self.healthy_from
    }

    pub(crate) fn defect(&self) -> &str {
        self.spec.env.get(DEFECT).and_then(Value::as_text).unwrap_or("")
    }

    pub(crate) fn driver(&self) -> Kind {
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

    /// The runs that a driver finds when it starts. It lists only runs that have started: a start
    /// in progress completes before.
    pub(crate) fn found(&mut self, env: &mut Environment, driver: Kind) -> Vec<Found> {
        let starting = self
            .runs
            .iter()
            .filter(|(_, run)| run.driver() == driver && run.stage == Stage::Starting);
        let starting: Vec<_> = starting.map(|(of, run)| of.run(run.number)).collect();
        for piece in starting {
            // The list reports it.
            let _ = self.run_started(env, piece);
        }
        let of_driver = self.runs.iter().filter(|(_, run)| run.driver() == driver);
        let found = of_driver.map(|(resource, run)| {
            let exit = match &run.stage {
                Stage::Starting | Stage::Up | Stage::Stopping => None,
                Stage::Ended(exit) => Some(exit.clone()),
            };
            let (piece, started_at) = (resource.run(run.number), run.started_at);
            Found { piece, started_at, exit, suspended: run.suspended }
        });
        found.collect()
    }

    /// The runs of an instance.
    pub(crate) fn runs_of(
        &self,
        instance: &InstanceId,
    ) -> impl Iterator<Item = (&InstanceResource, &Run)> {
        self.runs.iter().filter(move |(resource, _)| resource.instance == *instance)
    }

    /// Whether an instance with this status can be ready: every resource that it requires to run
    /// has the reported run, and its checks can pass.
    pub(crate) fn may_be_ready(&self, instance: &InstanceId, status: &Status) -> bool {
        let Some((_, any)) = self.runs_of(instance).next() else { return false };
        let mut required = any.instance.resources().filter(|one| !one.optional && !one.is_task);
        required.all(|resource| {
            let reported = status.resources.iter().find(|one| one.name == resource.name);
            let number = reported.map_or(status.run, |reported| reported.run);
            let has_checks = resource.has_checks();
            let of = InstanceResource { instance: instance.clone(), resource: resource.name };
            let run = self.runs.get(&of).filter(|run| run.number == number);
            run.is_some_and(|run| !has_checks || (run.is_up() && run.defect() != "never-healthy"))
        })
    }

    /// Whether every resource that an instance requires to run is healthy.
    pub(crate) fn is_serving(&self, instance: &InstanceId, now: Moment) -> bool {
        let Some((_, any)) = self.runs_of(instance).next() else { return false };
        let mut required = any.instance.resources().filter(|one| !one.optional && !one.is_task);
        required.all(|resource| {
            let of = InstanceResource { instance: instance.clone(), resource: resource.name };
            self.runs.get(&of).is_some_and(|run| run.is_healthy(now))
        })
    }

    /// The Docker daemon stops responding, or responds again. A run that was starting may have
    /// started or not.
    pub(crate) fn set_docker(&mut self, env: &mut Environment, unavailable: bool) -> Vec<Reported> {
        self.docker_unavailable = unavailable;
        let runs = self.runs.iter().filter(|(_, run)| run.driver() == Kind::Docker);
        let starting = runs.filter(|(_, run)| unavailable && run.stage == Stage::Starting);
        let starting: Vec<_> = starting.map(|(of, run)| of.run(run.number)).collect();
        let mut events = Vec::new();
        for piece in starting {
            if env.scheduler.rng.bool() {
                self.runs.remove(&piece.of());
                self.numbers.remove(&piece);
            }
            events.push(docker_unavailable(piece));
        }
        events
    }

    /// A driver must start a run.
    pub(crate) fn start(&mut self, env: &mut Environment, launch: LaunchSpec) -> Option<Reported> {
        let ports = launch.ports().to_vec();
        let LaunchSpec { piece, spec, instance, .. } = launch;
        let driver = Kind::of(&spec);
        if driver == Kind::Docker && self.docker_unavailable {
            return Some(docker_unavailable(piece));
        }
        let others = self.runs.iter().filter(|(of, run)| **of != piece.of() && run.is_alive());
        let mut used = others.flat_map(|(_, run)| &run.ports);
        if let Some(port) = used.find(|port| ports.contains(port)) {
            let message = format!("port {port} is taken by another program on this node");
            return Some(Reported { driver, event: DriverEvent::Misplaced { piece, message } });
        }
        let node = self.node.clone();
        if self.runs.get(&piece.of()).is_some_and(Run::is_alive) {
            env.violated("one resource, one run", format!("{piece} starts twice on {node}"));
        }
        if !self.numbers.insert(piece.clone()) {
            env.violated("no run number is used twice", piece.to_string());
        }
        let begun = Run {
            number: piece.run,
            is_task: instance.resource(&piece.resource).is_some_and(|resource| resource.is_task),
            spec,
            instance,
            ports,
            started_at: self.clock.at(env.now()),
            stage: Stage::Starting,
            hangs: false,
            suspended: false,
            deceives: false,
            healthy_from: 0,
            has_passed: false,
        };
        self.runs.insert(piece.of(), begun);
        env.observe(Observation::RunStarted(node.clone(), piece.clone()));
        let longest = if env.chance(10) { 4_000 } else { 300 };
        let span = env.span(0..longest);
        env.after(span, SimEvent::Machine(node, MachineEvent::RunStarted(piece)));
        None
    }

    /// A driver must stop a run.
    pub(crate) fn stop(
        &mut self,
        env: &mut Environment,
        piece: &Piece,
        grace: Millis,
    ) -> Option<Reported> {
        let ignores_signal = env.chance(6);
        let docker_unavailable = self.docker_unavailable;
        let node = self.node.clone();
        let run = self.run(piece)?;
        let driver = run.driver();
        if driver == Kind::Docker && docker_unavailable {
            return None;
        }
        match &run.stage {
            Stage::Starting | Stage::Up => {
                run.stage = Stage::Stopping;
                run.suspended = false;
            }
            // Agents may send a stop request more than once.
            Stage::Stopping => return None,
            Stage::Ended(exit) => {
                let (piece, exit) = (piece.clone(), exit.clone());
                return Some(Reported { driver, event: DriverEvent::Exited { piece, exit } });
            }
        }
        let is_stuck = ignores_signal || run.hangs;
        let started_at = run.started_at;
        env.observe(Observation::RunStopped(node.clone(), piece.clone()));
        let span = match is_stuck {
            true => grace.0,
            false => env.span(0..=grace.0.min(800)),
        };
        let ended = MachineEvent::RunEnded { piece: piece.clone(), code: Some(0) };
        env.after(span, SimEvent::Machine(node, ended));
        if env.bug == Some(InjectedBug::EarlyEnd) {
            let exit = Exit { at: started_at, how: Ending::Code { code: 0 } };
            return Some(Reported {
                driver,
                event: DriverEvent::Exited { piece: piece.clone(), exit },
            });
        }
        None
    }

    /// A driver suspends or resumes a run.
    pub(crate) fn suspend(
        &mut self,
        env: &mut Environment,
        piece: &Piece,
        suspend: bool,
    ) -> Result<(), String> {
        let fails = !env.healed && env.chance(15);
        let docker_unavailable = self.docker_unavailable;
        let run = self.run(piece).filter(|run| run.is_up()).ok_or("it does not run")?;
        if fails || (docker_unavailable && run.driver() == Kind::Docker) {
            return Err("the driver does not respond".into());
        }
        run.deceives = env.bug == Some(InjectedBug::EarlyResume) && !suspend && run.suspended;
        run.suspended = run.deceives || (suspend && run.stage == Stage::Up);
        Ok(())
    }

    /// With an injected bug, the runs of the other resources of an instance are stopped.
    pub(crate) fn stop_others(&mut self, env: &mut Environment, piece: &Piece) {
        let others = self.runs_of(&piece.instance).filter(|(of, _)| of.resource != piece.resource);
        let others: Vec<_> = others.map(|(of, run)| of.run(run.number)).collect();
        for other in others {
            let _ = self.stop(env, &other, Millis(0));
        }
    }

    pub(crate) fn handle(
        &mut self,
        env: &mut Environment,
        event: MachineEvent,
    ) -> Option<Reported> {
        match event {
            MachineEvent::RunStarted(piece) => self.run_started(env, piece),
            MachineEvent::RunEnded { piece, code } => self.end_run(env, &piece, code),
        }
    }

    fn run_started(&mut self, env: &mut Environment, piece: Piece) -> Option<Reported> {
        let (now, at, node) = (env.now(), self.clock.at(env.now()), self.node.clone());
        let slowest = if env.chance(8) { 8_000 } else { 500 };
        let healthy_from = now + env.span(0..slowest);
        let crashes = !env.healed && env.chance(12);
        let run = self.run(&piece).filter(|run| run.stage == Stage::Starting)?;
        run.stage = Stage::Up;
        run.started_at = at;
        run.healthy_from = healthy_from;
        let (driver, is_task) = (run.driver(), run.is_task);
        let (exits, fails) = (run.defect() == "exits", run.defect() == "task-fails");
        if exits || crashes || is_task {
            let longest = if exits || is_task { 2_000 } else { 60_000 };
            let span = env.span(10..longest);
            let fails = (is_task && fails) || (crashes && !exits);
            let ended = MachineEvent::RunEnded { piece: piece.clone(), code: Some(fails.into()) };
            env.after(span, SimEvent::Machine(node, ended));
        }
        Some(Reported { driver, event: DriverEvent::Started { piece, at } })
    }

    /// A run ends with an exit code, or is killed.
    pub(crate) fn end_run(
        &mut self,
        env: &mut Environment,
        piece: &Piece,
        code: Option<i32>,
    ) -> Option<Reported> {
        let (at, node) = (self.clock.at(env.now()), self.node.clone());
        let run = self.run(piece).filter(|run| run.is_alive())?;
        let how = match code {
            Some(code) => Ending::Code { code },
            None => Ending::Signal { signal: 9 },
        };
        let exit = Exit { at, how };
        run.stage = Stage::Ended(exit.clone());
        run.suspended = false;
        let driver = run.driver();
        env.note(format_args!("{node}: {piece} ends: {exit}"));
        Some(Reported { driver, event: DriverEvent::Exited { piece: piece.clone(), exit } })
    }

    /// Probes a run now.
    pub(crate) fn probe(&mut self, now: Moment, piece: &Piece) -> Outcome {
        match self.run(piece).filter(|run| run.is_up()) {
            None => Outcome::Fail("connection refused".into()),
            Some(run) if run.is_healthy(now) => {
                run.has_passed = true;
                Outcome::Pass
            }
            Some(_) => Outcome::Fail("503 Service Unavailable".into()),
        }
    }

    pub(crate) fn run(&mut self, piece: &Piece) -> Option<&mut Run> {
        self.runs.get_mut(&piece.of()).filter(|run| run.number == piece.run)
    }

    /// Whether a resource has run since the machine got power, before its newest run.
    pub(crate) fn has_run_before(&self, piece: &Piece) -> bool {
        let runs = self.numbers.range(piece.of().run(0)..piece.clone());
        runs.into_iter().next().is_some()
    }
}

fn docker_unavailable(piece: Piece) -> Reported {
    let message = "the Docker daemon does not respond".into();
    let event = DriverEvent::NotStarted { piece, message, driver_unavailable: true };
    Reported { driver: Kind::Docker, event }
}
