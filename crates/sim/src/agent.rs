//! The shell around an agent's core: its connection to the server, its memory on disk, and the
//! drivers of its machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use agent::core::{Core, Effect, Event, Memory};
use agent::drivers::{DriverEvent, Kind};
use api::{Assignments, Backoff, Membership};
use model::{AgentRegistration, Daemon, InstanceId, NodeId, PORTS, Registration, Timestamp};

use crate::bug::InjectedBug;
use crate::clock::Monotonic;
use crate::environment::Environment;
use crate::event::{AgentEvent, SimEvent};
use crate::following::{checked, membership};
use crate::machine::{Machine, Reported, Run};
use crate::message::{Call, Caller, Line, Purpose, Reply};
use crate::network::Location;
use crate::observation::Observation;
use crate::process::{Conn, Incarnation, Process};
use crate::queue::millis;

/// After this many consecutive failed reports the agent reconnects.
const FAILED_REPORTS_MAX: u32 = 3;
/// Bounds of the delay before the agent reconnects.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// The agent of one node: its disk, and the process while it runs.
pub(crate) struct Agent {
    node: NodeId,
    labels: BTreeMap<String, String>,
    /// The number of disks it has had: the agent of a new disk has a new id.
    disks: u32,
    /// The content of its disk.
    pub(crate) memory: Memory,
    /// Also on its disk. It survives the loss of that disk here: an agent that belongs to no cluster
    /// joins the first that it reaches, and only an operator can set that right.
    pub(crate) membership: Membership,
    pub(crate) running: Option<Running>,
}

/// A running agent.
pub(crate) struct Running {
    incarnation: Incarnation,
    pub(crate) core: Core,
    monotonic: Monotonic,
    /// The drivers whose runs it knows.
    adopted: Vec<Kind>,
    /// The instances whose assignments it has received: of others that it finds running, it does
    /// not know the stack.
    pub(crate) assigned: BTreeSet<InstanceId>,
    conn: Option<Conn>,
    connecting: bool,
    backoff: Backoff,
    failed_reports: u32,
    timer: u64,
    /// The newest memory, until it is written.
    memory: Option<Memory>,
    writing: bool,
    write_token: u64,
}

impl Agent {
    pub(crate) fn new(node: NodeId, labels: BTreeMap<String, String>) -> Agent {
        let membership = membership(Daemon::Agent, &node);
        Agent { node, labels, disks: 1, memory: Memory::default(), membership, running: None }
    }

    pub(crate) fn start(&mut self, env: &mut Environment, machine: &Machine) {
        if self.running.is_some() || !machine.powered {
            return;
        }
        let incarnation = env.number();
        let mut monotonic = Monotonic::new(machine.clock, env.now());
        let now = monotonic.now(machine.clock, env.now());
        self.running = Some(Running {
            incarnation,
            core: Core::new(self.node.clone(), self.memory.clone(), now),
            monotonic,
            adopted: Vec::new(),
            assigned: self.memory.assignments.iter().map(|known| known.instance.clone()).collect(),
            conn: None,
            connecting: true,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX, (&self.node, incarnation)),
            failed_reports: 0,
            timer: 0,
            memory: None,
            writing: false,
            write_token: 0,
        });
        env.note(format_args!("{}: agent starts", self.node));
        env.observe(Observation::AgentStarted(self.node.clone()));
        let mut last = 0;
        for driver in [Kind::Process, Kind::Docker] {
            let span = env.span(0..400);
            last = last.max(span);
            self.schedule(env, span, AgentEvent::Adopt(driver));
        }
        self.schedule(env, last + 1, AgentEvent::Connect);
    }

    /// Ends the process between two instructions. The write in progress may be on disk or not.
    pub(crate) fn stop(&mut self, env: &mut Environment, why: &str) {
        let written = env.scheduler.rng.bool();
        let Some(running) = self.running.take() else { return };
        if let Some(memory) = running.memory.filter(|_| written) {
            self.memory = memory;
        }
        if let Some(conn) = running.conn {
            env.transport.close(conn);
        }
        env.scheduler.ended(&Process::Agent(self.node.clone()));
        env.note(format_args!("{}: agent {why}", self.node));
    }

    /// Replaces the disk with an empty one.
    pub(crate) fn lose_disk(&mut self) {
        self.disks += 1;
        self.memory = Memory::default();
    }

    pub(crate) fn handle(
        &mut self,
        env: &mut Environment,
        machine: &mut Machine,
        incarnation: Incarnation,
        event: AgentEvent,
    ) {
        let Some(running) = self.running_as(incarnation) else { return };
        match event {
            AgentEvent::Adopt(driver) => self.adopt(env, machine, driver),
            AgentEvent::Connect => self.connect(env, machine),
            AgentEvent::Timer(token) if running.timer == token => {
                self.process(env, machine, Event::Tick);
            }
            AgentEvent::Timer(_) => {}
            AgentEvent::Probed { piece, check } => {
                let outcome = machine.probe(env.now(), &piece);
                self.process(env, machine, Event::Probed { piece, check, outcome });
            }
            AgentEvent::FilesUpdated(piece) => {
                self.process(env, machine, Event::FilesUpdated { piece, outcome: Ok(()) });
            }
            AgentEvent::Suspended { piece, suspend } => {
                let outcome = machine.suspend(env, &piece, suspend);
                self.process(env, machine, Event::Suspended { piece, suspend, outcome });
            }
            AgentEvent::MemoryWritten(token) if running.write_token == token => {
                running.writing = false;
                if let Some(memory) = running.memory.take() {
                    self.memory = memory;
                }
            }
            AgentEvent::MemoryWritten(_) => {}
        }
    }

    /// A driver reports an event.
    pub(crate) fn driver_event(
        &mut self,
        env: &mut Environment,
        machine: &mut Machine,
        event: Reported,
    ) {
        if env.bug == Some(InjectedBug::StackRestart)
            && let DriverEvent::Exited { piece, .. } = &event.event
        {
            machine.stop_others(env, piece);
        }
        if self.listens_to(&event) {
            self.process(env, machine, Event::Driver(event.event));
        }
    }

    /// A driver has failed or recovered: its runs must be listed again.
    pub(crate) fn reset_driver(
        &mut self,
        env: &mut Environment,
        machine: &mut Machine,
        driver: Kind,
    ) {
        let Some(running) = &mut self.running else { return };
        running.adopted.retain(|adopted| *adopted != driver);
        self.adopt(env, machine, driver);
    }

    /// A response arrives.
    pub(crate) fn response(
        &mut self,
        env: &mut Environment,
        machine: &mut Machine,
        incarnation: Incarnation,
        purpose: Purpose,
        reply: Reply,
    ) {
        if self.running_as(incarnation).is_none() {
            return;
        }
        let reply = checked(reply, &self.membership, env);
        let Some(running) = &mut self.running else { return };
        match (purpose, reply) {
            (Purpose::Register, Reply::Changeset(Ok(_))) => {
                let call = Call::Assignments(self.node.clone());
                self.call(env, Purpose::Follow, call);
            }
            (Purpose::Follow, Reply::Stream(conn)) => {
                if !env.transport.attach(conn, incarnation) {
                    return self.retry(env);
                }
                running.conn = Some(conn);
                running.connecting = false;
                self.process(env, machine, Event::Connected);
            }
            (Purpose::Register | Purpose::Follow, _) => self.retry(env),
            (Purpose::Report(number), Reply::Reported(Ok(reply))) => {
                running.failed_reports = 0;
                let resync = reply.resync;
                self.process(env, machine, Event::ReportSent { number, resync });
            }
            (Purpose::Report(number), _) => {
                running.failed_reports += 1;
                let gives_up = running.failed_reports.is_multiple_of(FAILED_REPORTS_MAX);
                if gives_up && !running.connecting {
                    if let Some(conn) = running.conn.take() {
                        env.transport.close(conn);
                    }
                    self.retry(env);
                }
                self.process(env, machine, Event::ReportFailed { number });
            }
        }
    }

    /// A line of a stream arrives.
    pub(crate) fn line(
        &mut self,
        env: &mut Environment,
        machine: &mut Machine,
        incarnation: Incarnation,
        conn: Conn,
        line: Line,
    ) {
        let running = self.running_as(incarnation);
        let Some(running) = running.filter(|running| running.conn == Some(conn)) else { return };
        match line {
            Line::Assignments(mut assignments) => {
                running.backoff.reset();
                if env.bug == Some(InjectedBug::Absence) {
                    forget_one(env, &mut assignments);
                }
                if env.bug == Some(InjectedBug::StackOrder) {
                    without_order(&mut assignments);
                }
                let set = assignments.set.iter().map(|assignment| assignment.instance.clone());
                running.assigned.extend(set);
                self.process(env, machine, Event::Assignments(assignments));
            }
            Line::End => {
                running.conn = None;
                self.retry(env);
            }
            Line::Routes(_) => unreachable!("agents follow assignments"),
        }
    }

    fn running_as(&mut self, incarnation: Incarnation) -> Option<&mut Running> {
        self.running.as_mut().filter(|running| running.incarnation == incarnation)
    }

    fn schedule(&self, env: &mut Environment, span: u64, event: AgentEvent) {
        let Some(running) = &self.running else { return };
        env.after(span, SimEvent::Agent(self.node.clone(), running.incarnation, event));
    }

    fn call(&self, env: &mut Environment, purpose: Purpose, call: Call) {
        let Some(running) = &self.running else { return };
        let caller = Caller::Agent(self.node.clone(), running.incarnation, purpose);
        let call = Call::OfDaemon(self.membership.position(), Box::new(call));
        env.call(Location::Node(self.node.clone()), caller, call);
    }

    fn listens_to(&self, event: &Reported) -> bool {
        // The outcome of a start goes to the task that requested it. Other events come from the
        // driver's own observation, which begins with a list of its runs.
        let is_outcome =
            matches!(event.event, DriverEvent::NotStarted { .. } | DriverEvent::Misplaced { .. });
        let running = self.running.as_ref();
        running.is_some_and(|running| is_outcome || running.adopted.contains(&event.driver))
    }

    fn adopt(&mut self, env: &mut Environment, machine: &mut Machine, driver: Kind) {
        if driver == Kind::Docker && machine.docker_unavailable {
            let message = "the Docker daemon does not respond".into();
            return self.process(env, machine, Event::Unavailable { driver, message });
        }
        let found = machine.found(env, driver);
        if let Some(running) = &mut self.running {
            running.adopted.push(driver);
        }
        self.process(env, machine, Event::Adopted { driver, found });
    }

    fn connect(&mut self, env: &mut Environment, machine: &Machine) {
        let mut capacity = machine.capacity;
        if env.bug == Some(InjectedBug::Capacity) {
            capacity.cpu.0 += capacity.cpu.0 / 2;
        }
        let node = &self.node;
        let registration = Registration {
            node: node.clone(),
            address: format!("{node}.example"),
            agent: Some(AgentRegistration {
                id: format!("{node}, disk {}", self.disks),
                port: 4041,
                capacity,
                labels: self.labels.clone(),
                capabilities: ["process".into(), "docker".into()].into(),
                ports: PORTS,
                software: model::Software::current(),
            }),
        };
        if let Some(running) = &mut self.running {
            running.connecting = true;
        }
        self.call(env, Purpose::Register, Call::Register(registration));
    }

    fn retry(&mut self, env: &mut Environment) {
        let Some(running) = &mut self.running else { return };
        running.connecting = true;
        let span = millis(running.backoff.next_delay());
        self.schedule(env, span, AgentEvent::Connect);
    }

    fn write_memory(&mut self, env: &mut Environment, memory: Memory) {
        let Some(running) = &mut self.running else { return };
        running.memory = Some(memory);
        if !std::mem::replace(&mut running.writing, true) {
            running.write_token += 1;
            let token = running.write_token;
            let span = env.span(1..30);
            self.schedule(env, span, AgentEvent::MemoryWritten(token));
        }
    }

    /// Passes an event to the core and performs its effects, and whatever they lead to at once.
    fn process(&mut self, env: &mut Environment, machine: &mut Machine, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(running) = &mut self.running else { return };
            let now = running.monotonic.now(machine.clock, env.now());
            for effect in running.core.handle(event, now) {
                let event = self.perform(env, machine, effect, now);
                let event = event.filter(|event| self.listens_to(event));
                events.extend(event.map(|event| Event::Driver(event.event)));
            }
        }
        env.observe(Observation::AgentStepped(self.node.clone()));
    }

    fn perform(
        &mut self,
        env: &mut Environment,
        machine: &mut Machine,
        effect: Effect,
        now: Timestamp,
    ) -> Option<Reported> {
        match effect {
            Effect::Start(launch) => return machine.start(env, launch),
            Effect::Stop { piece, grace, .. } => return machine.stop(env, &piece, grace),
            Effect::Probe { launch, check, timeout, .. } => {
                let slowest = if env.chance(20) { timeout.0.max(2) } else { 20 };
                let span = env.span(1..slowest);
                self.schedule(env, span, AgentEvent::Probed { piece: launch.piece, check });
            }
            Effect::RemoveDirectory(_) => {}
            Effect::UpdateFiles { launch, .. } => {
                let span = env.span(1..100);
                self.schedule(env, span, AgentEvent::FilesUpdated(launch.piece));
            }
            Effect::Suspend { piece, suspend, .. } => {
                let span = env.span(1..300);
                self.schedule(env, span, AgentEvent::Suspended { piece, suspend });
            }
            Effect::Forget { of, .. } => {
                let run = machine.runs.remove(&of);
                if run.as_ref().is_some_and(Run::is_alive) {
                    let detail = format!("{} removes {of} while it runs", self.node);
                    env.violated("no run without an agent that knows it", detail);
                }
            }
            Effect::Persist(memory) => self.write_memory(env, memory),
            Effect::Report(mut report) => {
                if env.bug == Some(InjectedBug::Readiness) {
                    for (_, status) in &mut report.instances {
                        status.ready = true;
                        status.healthy = Some(true);
                    }
                }
                self.call(env, Purpose::Report(report.number), Call::Report(report));
            }
            Effect::WakeAt(at) => {
                if let Some(running) = &mut self.running {
                    running.timer += 1;
                    let token = running.timer;
                    self.schedule(env, at.since(now).0, AgentEvent::Timer(token));
                }
            }
        }
        None
    }
}

/// With the injected bug, the server has forgotten an instance, and the agent stops it for that.
fn forget_one(env: &mut Environment, assignments: &mut Assignments) {
    assignments.explicit = false;
    if assignments.whole && !assignments.set.is_empty() {
        let index = env.scheduler.rng.usize(0..assignments.set.len());
        assignments.set.remove(index);
    }
}

/// With the injected bug, all resources of a stack belong to one subset.
fn without_order(assignments: &mut Assignments) {
    for assignment in &mut assignments.set {
        for resource in &mut Arc::make_mut(&mut assignment.spec).stack {
            resource.subset = Some("all".into());
        }
    }
}
