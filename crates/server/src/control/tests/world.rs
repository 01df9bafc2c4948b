//! A cluster around one core: a disk, agents that follow assignments, gateways that follow tables.
//! Everything that goes over a wire or to the disk is checked on the way, see `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Assigned, Assignment, EventView, GatewayReport, Report};
use model::{
    AgentRegistration, Changeset, Command, Goal, InstanceId, Key, Millis, NodeId, Object, Phase,
    Registration, Resources, RouteTable, State, Status, Timestamp,
};

use super::super::{Answer, Batch, Core, Effect, Event, Snapshot, Ticket, Trouble, lead};
use crate::adapter::Adapters;
use crate::assigned::assigned;

pub(super) const LOST_AFTER: Millis = Millis::secs(30);
const HEARTBEAT: u64 = 2_000;
const STARTS_IN: u64 = 300;
const HEALTHY_IN: u64 = 700;
const STOPS_IN: u64 = 200;

/// What survives a kill.
#[derive(Default, Clone)]
pub(super) struct Disk {
    pub(super) objects: BTreeMap<Key, Object>,
    pub(super) events: BTreeMap<u64, EventView>,
}

impl Disk {
    pub(super) fn state(&self) -> State {
        State::load(self.objects.iter().map(|(key, object)| (key.clone(), object.clone())))
    }

    fn write(&mut self, batch: &Batch) {
        for (key, object) in &batch.objects {
            match object {
                Some(object) => self.objects.insert(key.clone(), object.clone()),
                None => self.objects.remove(key),
            };
        }
        for number in &batch.forgotten {
            assert!(self.events.remove(number).is_some(), "event {number} was never stored");
        }
        for event in &batch.events {
            let before = self.events.insert(event.number, event.clone());
            assert!(before.is_none(), "event {} is stored twice", event.number);
        }
    }
}

/// An instance as it really is.
#[derive(Clone)]
pub(super) struct Local {
    assignment: Assignment,
    pub(super) status: Status,
    /// When it goes on to what comes next.
    next_at: u64,
}

pub(super) struct Agent {
    pub(super) node: NodeId,
    /// Whether anything it says arrives.
    pub(super) reachable: bool,
    whole: bool,
    pub(super) instances: BTreeMap<InstanceId, Local>,
    changed: BTreeSet<InstanceId>,
    spoke_at: u64,
}

pub(super) struct Gateway {
    pub(super) node: NodeId,
    pub(super) reachable: bool,
    pub(super) table: Arc<RouteTable>,
    pub(super) busy: BTreeSet<InstanceId>,
    pub(super) spoke_at: u64,
}

impl Gateway {
    /// Whether it sends requests to the instance, or has any under way.
    pub(super) fn uses(&self, instance: &InstanceId) -> bool {
        let routes = self.table.listeners.iter().flat_map(|listener| &listener.routes);
        let mut backends = routes.flat_map(|route| &route.backends);
        self.busy.contains(instance) || backends.any(|backend| backend.instance == *instance)
    }
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: u64,
    pub(super) disk: Disk,
    /// The batch under way.
    pub(super) storing: Option<Batch>,
    wake_at: Option<u64>,
    next_ticket: Ticket,
    /// Those who wait for an answer, and whether it may be an outcome.
    pub(super) waiting: BTreeSet<Ticket>,
    pub(super) outcomes: BTreeMap<Ticket, Result<Changeset, Trouble>>,
    pub(super) agents: Vec<Agent>,
    pub(super) gateways: Vec<Gateway>,
    /// What was told last, since the last start.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) routes: Option<Arc<RouteTable>>,
    pub(super) assignments: BTreeMap<NodeId, u64>,
    /// The newest of each, ever.
    pub(super) generation: u64,
    pub(super) told: u64,
    pub(super) started_at: u64,
    turns: usize,
    /// The instances that are placed, and those that were.
    pub(super) placed: BTreeSet<InstanceId>,
    pub(super) gone: BTreeSet<InstanceId>,
    /// What was last told to be wanted of them.
    pub(super) goals: BTreeMap<InstanceId, Goal>,
    /// The disk has changed since all of the state was last checked.
    pub(super) unchecked: bool,
}

impl World {
    pub(super) fn new(agents: usize, gateways: usize) -> World {
        let agent = |i| Agent {
            node: format!("n{i}").parse().unwrap(),
            reachable: true,
            whole: true,
            instances: BTreeMap::new(),
            changed: BTreeSet::new(),
            spoke_at: 0,
        };
        let gateway = |i| Gateway {
            node: format!("g{i}").parse().unwrap(),
            reachable: true,
            table: Arc::default(),
            busy: BTreeSet::new(),
            spoke_at: 0,
        };
        let mut world = World {
            core: Core::new(State::new(), LOST_AFTER, [], Timestamp(0)),
            now: 1_000_000,
            disk: Disk::default(),
            storing: None,
            wake_at: None,
            next_ticket: 0,
            waiting: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            agents: (0..agents).map(agent).collect(),
            gateways: (0..gateways).map(gateway).collect(),
            snapshot: None,
            routes: None,
            assignments: BTreeMap::new(),
            generation: 0,
            told: 0,
            started_at: 0,
            turns: 0,
            placed: BTreeSet::new(),
            gone: BTreeSet::new(),
            goals: BTreeMap::new(),
            unchecked: true,
        };
        world.start();
        world
    }

    /// Starts a server on what is on the disk; daemons call again.
    pub(super) fn start(&mut self) {
        let mut state = self.disk.state();
        let mut events: Vec<_> = self.disk.events.values().cloned().collect();
        let batch = lead(&mut state, &mut events, self.at()).unwrap();
        self.disk.write(&batch);
        let numbers: Vec<_> = events.iter().map(|event| event.number).collect();
        self.core = Core::new(state, LOST_AFTER, numbers, self.at());
        self.started_at = self.now;
        self.snapshot = None;
        self.routes = None;
        self.assignments.clear();
        self.wake_at = None;
        self.agents.iter_mut().for_each(|agent| agent.whole = true);
        self.turn();
        for registration in self.registrations() {
            self.request(Command::Register(registration));
        }
    }

    /// Ends the server as `kill -9` does.
    pub(super) fn kill(&mut self, written: bool) {
        if let Some(batch) = self.storing.take().filter(|_| written) {
            self.disk.write(&batch);
        }
        self.waiting.clear();
        self.unchecked = true;
        self.start();
    }

    pub(super) fn at(&self) -> Timestamp {
        Timestamp(self.now)
    }

    pub(super) fn registrations(&self) -> Vec<Registration> {
        let agent = |agent: &Agent| Registration {
            node: agent.node.clone(),
            address: "10.0.0.1".into(),
            agent: Some(AgentRegistration {
                id: String::new(),
                port: 4041,
                capacity: Resources { cpu: model::Cpu(8_000), memory: model::Bytes::mib(8_192) },
                labels: BTreeMap::new(),
                capabilities: BTreeSet::new(),
                ports: (20_000, 20_999),
            }),
        };
        let gateway = |gateway: &Gateway| Registration {
            node: gateway.node.clone(),
            address: "10.0.0.2".into(),
            agent: None,
        };
        let agents = self.agents.iter().filter(|agent| agent.reachable).map(agent);
        agents.chain(self.gateways.iter().filter(|g| g.reachable).map(gateway)).collect()
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.waiting.insert(self.next_ticket);
        self.next_ticket
    }

    pub(super) fn request(&mut self, command: Command) -> Ticket {
        let ticket = self.ticket();
        self.tell(Event::Request { ticket, command });
        ticket
    }

    /// Brings an event and lets the core take a turn, as the shell does.
    pub(super) fn tell(&mut self, event: Event) {
        self.bring(event);
        self.turn();
    }

    pub(super) fn turn(&mut self) {
        self.wake_at = None;
        self.turns += 1;
        self.bring(Event::Turn);
        self.check_after_turn();
    }

    pub(super) fn bring(&mut self, event: Event) {
        for effect in self.core.handle(event, self.at()) {
            self.perform(effect);
        }
    }

    /// The store is done with the batch under way.
    pub(super) fn store(&mut self, works: bool) {
        let Some(batch) = self.storing.take() else { return };
        self.unchecked = true;
        if works {
            self.disk.write(&batch);
            self.tell(Event::Stored);
        } else {
            self.tell(Event::StoreFailed { message: "no space left".into() });
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Store(batch) => {
                self.check_batch(&batch);
                self.storing = Some(batch);
            }
            Effect::Answer { ticket, answer } => {
                assert!(
                    self.waiting.remove(&ticket),
                    "{ticket} is answered twice, or after a kill"
                );
                if let Answer::Outcome(outcome) = answer {
                    self.check_outcome(&outcome);
                    self.outcomes.insert(ticket, outcome);
                }
            }
            Effect::Routes(table) => {
                self.check_routes(&table);
                self.routes = Some(table);
            }
            Effect::Assignments { generation, nodes } => {
                assert!(generation > self.generation, "generations only rise");
                self.generation = generation;
                for node in nodes {
                    self.assignments.insert(node, generation);
                }
            }
            Effect::Publish(snapshot) => {
                self.check_snapshot(&snapshot);
                self.snapshot = Some(snapshot);
            }
            Effect::Tell(event) => self.check_told(&event),
            Effect::WakeAt(at) => {
                assert!(at.0 > self.now, "a wake that is due is a turn without end");
                self.wake_at = Some(at.0);
            }
        }
    }

    /// Lets time pass, with everything that happens by itself.
    pub(super) fn pass(&mut self, millis: u64) {
        let until = self.now + millis;
        let before = self.turns;
        while self.now < until {
            let own = self.agents.iter().flat_map(|agent| agent.instances.values());
            let own = own.map(|local| local.next_at).filter(|at| *at > self.now);
            let beat = self.now + HEARTBEAT / 2;
            let next = own.chain(self.wake_at).chain([until, beat]).min().unwrap_or(until);
            self.now = next.max(self.now + 1).min(until.max(self.now + 1));
            for i in 0..self.agents.len() {
                self.live(i);
                if self.now - self.agents[i].spoke_at >= HEARTBEAT {
                    self.report(i);
                }
            }
            for i in 0..self.gateways.len() {
                if self.now - self.gateways[i].spoke_at >= HEARTBEAT {
                    self.report_gateway(i);
                }
            }
            if self.wake_at.is_some_and(|at| at <= self.now) {
                self.turn();
            }
        }
        let turns = self.turns - before;
        assert!(turns < 200 + millis as usize / 20, "{turns} turns in {millis} ms");
    }

    /// The instances of an agent go on.
    fn live(&mut self, i: usize) {
        let now = Timestamp(self.now);
        let agent = &mut self.agents[i];
        for (id, local) in agent.instances.iter_mut().filter(|(_, l)| l.next_at <= now.0) {
            local.next_at = u64::MAX;
            let status = &mut local.status;
            match status.phase {
                Phase::Starting => {
                    *status = Status { run: status.run + 1, ..Status::new(Phase::Running, now) };
                    status.started_at = Some(now);
                    local.next_at = now.0 + HEALTHY_IN;
                }
                Phase::Running if status.healthy != Some(true) => {
                    (status.healthy, status.ready) = (Some(true), true);
                }
                Phase::Stopping => {
                    let run = status.run;
                    *status = Status { run, ..Status::new(Phase::Stopped, now) };
                }
                _ => continue,
            }
            agent.changed.insert(id.clone());
        }
    }

    /// An agent reads what it should run.
    pub(super) fn follow(&mut self, i: usize) {
        let Some(snapshot) = &self.snapshot else { return };
        let now = self.now;
        let agent = &mut self.agents[i];
        if snapshot.state.node(&agent.node).is_none() || !agent.reachable {
            return;
        }
        let wanted = assigned(&snapshot.state, &agent.node, &Adapters::default());
        for (id, assignment) in &wanted {
            let fresh = || Local {
                assignment: assignment.clone(),
                status: Status::new(Phase::Starting, Timestamp(now)),
                next_at: now + STARTS_IN,
            };
            let local = agent.instances.entry(id.clone()).or_insert_with(fresh);
            local.assignment = assignment.clone();
            if assignment.goal == Assigned::Stop
                && !local.status.phase.is_over()
                && local.status.phase != Phase::Stopping
            {
                local.status.phase = Phase::Stopping;
                local.next_at = now + STOPS_IN;
                agent.changed.insert(id.clone());
            }
        }
        // What nobody wants any more ends; that it did matters to nobody.
        agent.instances.retain(|id, _| wanted.contains_key(id));
        agent.changed.retain(|id| wanted.contains_key(id));
    }

    /// Another daemon goes wrong: an instance dies or is unhealthy for a while.
    pub(super) fn hurt(&mut self, i: usize, nth: usize, dies: bool) {
        let now = self.now;
        let agent = &mut self.agents[i];
        let running = agent.instances.iter_mut().filter(|(_, l)| l.status.phase == Phase::Running);
        let mut running: Vec<_> = running.collect();
        if running.is_empty() {
            return;
        }
        let nth = nth % running.len();
        let (id, local) = &mut running[nth];
        if dies {
            local.status.phase = Phase::Starting;
            local.status.failures += 1;
            (local.status.healthy, local.status.ready) = (None, false);
            local.next_at = now + STARTS_IN;
        } else {
            local.status.healthy = Some(false);
            local.next_at = now + 5_000;
        }
        let id = id.clone();
        agent.changed.insert(id);
    }

    /// An agent reports; if nothing arrives, it will say everything again.
    pub(super) fn report(&mut self, i: usize) {
        let ticket = self.next_ticket + 1;
        let now = self.now;
        let agent = &mut self.agents[i];
        agent.spoke_at = now;
        if !agent.reachable {
            agent.whole = true;
            return;
        }
        let told =
            agent.instances.iter().filter(|(id, _)| agent.whole || agent.changed.contains(*id));
        let instances = told.map(|(id, local)| (id.clone(), local.status.clone())).collect();
        let node = agent.node.clone();
        let report = Report {
            node: node.clone(),
            life: 0,
            number: 0,
            generation: 0,
            whole: agent.whole,
            instances,
        };
        let is_known = self.core.durable.node(&node).is_some_and(|n| n.node.capacity.is_some());
        if is_known {
            agent.whole = false;
            agent.changed.clear();
        }
        self.ticket();
        self.bring(Event::Report { ticket, report });
        let known = self.core.observed.agents.contains_key(&node);
        assert_eq!(is_known, known, "there are no ghosts");
        self.turn();
    }

    /// A gateway reads the table.
    pub(super) fn switch(&mut self, i: usize, keep_busy: bool) {
        let Some(table) = self.routes.clone() else { return };
        let gateway = &mut self.gateways[i];
        // A gateway follows once it has registered.
        let known = self.core.durable.node(&gateway.node).is_some();
        if !known || !gateway.reachable || table.generation <= gateway.table.generation {
            return;
        }
        let backends = |table: &RouteTable| -> BTreeSet<InstanceId> {
            let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
            routes.flat_map(|route| &route.backends).map(|b| b.instance.clone()).collect()
        };
        let after = backends(&table);
        if keep_busy {
            gateway.busy.extend(backends(&gateway.table));
        }
        gateway.busy.retain(|instance| !after.contains(instance));
        gateway.table = table;
    }

    pub(super) fn report_gateway(&mut self, i: usize) {
        let ticket = self.next_ticket + 1;
        let now = self.now;
        let gateway = &mut self.gateways[i];
        if !gateway.reachable {
            return;
        }
        gateway.spoke_at = now;
        let report = GatewayReport {
            node: gateway.node.clone(),
            generation: gateway.table.generation,
            busy: gateway.busy.clone(),
            failed: Vec::new(),
        };
        self.ticket();
        self.tell(Event::GatewayReport { ticket, report });
    }

    /// Everything works and is prompt, for that long.
    pub(super) fn heal(&mut self, millis: u64) {
        self.agents.iter_mut().for_each(|agent| agent.reachable = true);
        self.gateways.iter_mut().for_each(|gateway| gateway.reachable = true);
        for registration in self.registrations() {
            self.request(Command::Register(registration));
        }
        let until = self.now + millis;
        while self.now < until {
            while self.storing.is_some() {
                self.store(true);
            }
            for i in 0..self.agents.len() {
                self.follow(i);
                if self.agents[i].whole || !self.agents[i].changed.is_empty() {
                    self.report(i);
                }
            }
            for i in 0..self.gateways.len() {
                self.gateways[i].busy.clear();
                self.switch(i, false);
                self.report_gateway(i);
            }
            self.pass(500);
        }
    }
}
