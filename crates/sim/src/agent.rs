//! The shell around an agent's core: its connection with the server, its memory, its drivers.

use agent::core::{CheckId, Core, Effect, Event, Memory};
use agent::drivers::{Kind, Told};
use model::{AgentRegistration, InstanceId, NodeId, PORTS, Registration, Timestamp};

use crate::clock::Steady;
use crate::network::Place;
use crate::tamper::Tamper;
use crate::world::{Asker, Call, Conn, Happening, Life, Line, Purpose, Reply, World};

/// So many reports in a row fail before the connection is made anew.
const FAILED_REPORTS_MAX: u32 = 3;
/// The first wait before connecting again, and the longest.
const RETRY_MS: (u64, u64) = (100, 2_000);

/// An agent that runs.
pub(crate) struct AgentProcess {
    pub(crate) life: Life,
    pub(crate) core: Core,
    steady: Steady,
    /// The drivers that it has heard of.
    adopted: Vec<Kind>,
    pub(crate) conn: Option<Conn>,
    connecting: bool,
    retry_ms: u64,
    failed_reports: u32,
    wake: u64,
    /// The newest memory, and whether it is being written.
    memory: Option<Memory>,
    writing: bool,
    token: u64,
}

impl World {
    pub(crate) fn agent_starts(&mut self, node: &NodeId) {
        let (moment, life) = (self.now(), self.number());
        let host = self.host(node);
        if host.agent.is_some() || !host.powered {
            return;
        }
        let mut steady = Steady::new(host.clock, moment);
        let now = steady.now(host.clock, moment);
        let core = Core::new(node.clone(), host.memory.clone(), now);
        host.agent = Some(AgentProcess {
            life,
            core,
            steady,
            adopted: Vec::new(),
            conn: None,
            connecting: true,
            retry_ms: RETRY_MS.0,
            failed_reports: 0,
            wake: 0,
            memory: None,
            writing: false,
            token: 0,
        });
        self.history.note(moment, format_args!("{node}: agent starts"));
        self.phases_begin_anew(node);
        let mut last = 0;
        for kind in [Kind::Process, Kind::Docker] {
            let span = self.rng.u64(0..400);
            last = last.max(span);
            self.queue.after(span, Happening::AgentAdopts(node.clone(), life, kind));
        }
        self.queue.after(last + 1, Happening::AgentConnects(node.clone(), life));
    }

    /// The agent is gone between two instructions; what it was writing may have been written.
    pub(crate) fn agent_dies(&mut self, node: &NodeId, why: &str) {
        let written = self.rng.bool();
        let Some(agent) = self.host(node).agent.take() else { return };
        if let Some(memory) = agent.memory.filter(|_| written) {
            self.host(node).memory = memory;
        }
        self.streams.retain(|conn, _| agent.conn != Some(*conn));
        self.asleep.remove(&crate::world::Process::Agent(node.clone()));
        self.history.note(self.now(), format_args!("{node}: agent {why}"));
    }

    fn agent(&mut self, node: &NodeId, life: Life) -> Option<&mut AgentProcess> {
        self.host(node).agent.as_mut().filter(|agent| agent.life == life)
    }

    pub(crate) fn agent_adopts(&mut self, node: &NodeId, life: Life, driver: Kind) {
        if self.agent(node, life).is_none() {
            return;
        }
        let machine = &self.hosts[node].machine;
        if driver == Kind::Docker && machine.docker_is_away {
            let message = "the Docker daemon does not answer".into();
            return self.agent_takes(node, life, Event::Away { driver, message });
        }
        let found = machine.found(driver);
        if let Some(agent) = self.agent(node, life) {
            agent.adopted.push(driver);
        }
        self.agent_takes(node, life, Event::Adopted { driver, found });
    }

    /// A driver tells its agent something, if there is one to be told.
    pub(crate) fn driver_tells(&mut self, node: &NodeId, kind: Kind, told: Told) {
        // What a driver sees of others it tells once it has looked; what becomes of a start it tells
        // whoever has asked for it.
        let is_answer = matches!(told, Told::NotStarted { .. } | Told::Misplaced { .. });
        let agent = self.hosts[node].agent.as_ref();
        let Some(agent) = agent.filter(|a| is_answer || a.adopted.contains(&kind)) else { return };
        let life = agent.life;
        self.agent_takes(node, life, Event::Told(told));
    }

    /// A driver cannot work any more, or can again.
    pub(crate) fn driver_looks_again(&mut self, node: &NodeId, driver: Kind) {
        let Some(agent) = &mut self.host(node).agent else { return };
        agent.adopted.retain(|kind| *kind != driver);
        let life = agent.life;
        self.agent_adopts(node, life, driver);
    }

    pub(crate) fn agent_connects(&mut self, node: &NodeId, life: Life) {
        let host = &self.hosts[node];
        let mut capacity = host.capacity;
        if self.tamper == Some(Tamper::Capacity) {
            capacity.cpu.0 += capacity.cpu.0 / 2;
        }
        let registration = Registration {
            node: node.clone(),
            address: format!("{node}.example"),
            agent: Some(AgentRegistration {
                id: format!("{node}, disk {}", host.disks),
                port: 4041,
                capacity,
                labels: host.labels.clone(),
                capabilities: ["process".into(), "docker".into()].into(),
                ports: PORTS,
            }),
        };
        let Some(agent) = self.agent(node, life) else { return };
        agent.connecting = true;
        let asker = Asker::Agent(node.clone(), life, Purpose::Register);
        self.call(Place::Node(node.clone()), asker, Call::Register(registration));
    }

    pub(crate) fn agent_is_answered(
        &mut self,
        node: &NodeId,
        life: Life,
        purpose: Purpose,
        reply: Reply,
    ) {
        if self.agent(node, life).is_none() {
            return;
        }
        match (purpose, reply) {
            (Purpose::Register, Reply::Changeset(Ok(_))) => {
                let asker = Asker::Agent(node.clone(), life, Purpose::Follow);
                let call = Call::Assignments(node.clone());
                self.call(Place::Node(node.clone()), asker, call);
            }
            (Purpose::Follow, Reply::Stream(conn)) => {
                // It may have ended before its reader knew of it.
                let Some(stream) = self.streams.get_mut(&conn) else {
                    return self.agent_retries(node, life);
                };
                stream.life = Some(life);
                if let Some(agent) = self.agent(node, life) {
                    agent.conn = Some(conn);
                    agent.connecting = false;
                }
                self.agent_takes(node, life, Event::Connected);
            }
            (Purpose::Register | Purpose::Follow, _) => self.agent_retries(node, life),
            (Purpose::Report(number), Reply::Reported(Ok(reply))) => {
                if let Some(agent) = self.agent(node, life) {
                    agent.failed_reports = 0;
                }
                let resync = reply.resync;
                self.agent_takes(node, life, Event::ReportSent { number, resync });
            }
            (Purpose::Report(number), _) => {
                let Some(agent) = self.agent(node, life) else { return };
                agent.failed_reports += 1;
                if agent.failed_reports.is_multiple_of(FAILED_REPORTS_MAX) && !agent.connecting {
                    self.agent_gives_up(node, life);
                }
                self.agent_takes(node, life, Event::ReportFailed { number });
            }
        }
    }

    fn agent_gives_up(&mut self, node: &NodeId, life: Life) {
        let Some(agent) = self.agent(node, life) else { return };
        if let Some(conn) = agent.conn.take() {
            self.streams.remove(&conn);
        }
        self.agent_retries(node, life);
    }

    fn agent_retries(&mut self, node: &NodeId, life: Life) {
        let Some(agent) = self.agent(node, life) else { return };
        agent.connecting = true;
        let span = agent.retry_ms;
        agent.retry_ms = (span * 2).min(RETRY_MS.1);
        self.queue.after(span, Happening::AgentConnects(node.clone(), life));
    }

    pub(crate) fn agent_reads(&mut self, node: &NodeId, life: Life, conn: Conn, line: Line) {
        let Some(agent) = self.agent(node, life).filter(|agent| agent.conn == Some(conn)) else {
            return;
        };
        match line {
            Line::Assignments(assignments) => {
                agent.retry_ms = RETRY_MS.0;
                self.agent_takes(node, life, Event::Assignments(assignments));
            }
            Line::End => {
                agent.conn = None;
                self.agent_retries(node, life);
            }
            Line::Routes(_) => unreachable!("agents follow assignments"),
        }
    }

    pub(crate) fn agent_wakes(&mut self, node: &NodeId, life: Life, token: u64) {
        if self.agent(node, life).is_some_and(|agent| agent.wake == token) {
            self.agent_takes(node, life, Event::Tick);
        }
    }

    pub(crate) fn probed(
        &mut self,
        node: &NodeId,
        life: Life,
        instance: InstanceId,
        run: u32,
        check: CheckId,
    ) {
        let outcome = self.probe(node, &instance, run);
        self.agent_takes(node, life, Event::Probed { instance, run, check, outcome });
    }

    /// The memory that was being written is on the disk.
    pub(crate) fn remembered(&mut self, node: &NodeId, life: Life, token: u64) {
        let Some(agent) = self.agent(node, life).filter(|agent| agent.token == token) else {
            return;
        };
        agent.writing = false;
        if let Some(memory) = agent.memory.take() {
            self.host(node).memory = memory;
        }
    }

    fn remember(&mut self, node: &NodeId, life: Life, memory: Memory) {
        let Some(agent) = self.agent(node, life) else { return };
        agent.memory = Some(memory);
        if !std::mem::replace(&mut agent.writing, true) {
            agent.token += 1;
            let token = agent.token;
            let span = self.rng.u64(1..30);
            self.queue.after(span, Happening::Remembered(node.clone(), life, token));
        }
    }

    pub(crate) fn agent_takes(&mut self, node: &NodeId, life: Life, event: Event) {
        let moment = self.now();
        let clock = self.hosts[node].clock;
        let Some(agent) = self.agent(node, life) else { return };
        let now = agent.steady.now(clock, moment);
        let effects = agent.core.handle(event, now);
        for effect in effects {
            self.agent_performs(node, life, effect, now);
        }
        self.law_of_phases(node);
    }

    fn agent_performs(&mut self, node: &NodeId, life: Life, effect: Effect, now: Timestamp) {
        match effect {
            Effect::Start(seed) => self.run_is_wanted(node, seed),
            Effect::Stop { instance, run, grace, .. } => {
                self.stop_is_wanted(node, &instance, run, grace);
            }
            Effect::Probe { seed, check, timeout, .. } => {
                let slow = if self.chance(20) { timeout.0.max(2) } else { 20 };
                let span = self.rng.u64(1..slow);
                self.queue.after(
                    span,
                    Happening::Probed {
                        node: node.clone(),
                        life,
                        instance: seed.instance,
                        run: seed.run,
                        check,
                    },
                );
            }
            Effect::Forget { instance, .. } => {
                let run = self.host(node).machine.runs.remove(&instance);
                if run.is_some_and(|run| run.is_there()) {
                    self.breach("no stray run", format!("{node} forgets {instance}, which runs"));
                }
            }
            Effect::Persist(memory) => self.remember(node, life, memory),
            Effect::Report(mut report) => {
                if self.tamper == Some(Tamper::Readiness) {
                    for (_, status) in &mut report.instances {
                        status.ready = true;
                        status.healthy = Some(true);
                    }
                }
                let asker = Asker::Agent(node.clone(), life, Purpose::Report(report.number));
                self.call(Place::Node(node.clone()), asker, Call::Report(report));
            }
            Effect::WakeAt(at) => {
                let Some(agent) = self.agent(node, life) else { return };
                agent.wake += 1;
                let token = agent.wake;
                let span = at.since(now).0;
                self.queue.after(span, Happening::AgentWakes(node.clone(), life, token));
            }
        }
    }
}
