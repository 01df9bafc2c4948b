//! The shell around the server's core: a store that may fail, streams, and responses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{EventView, Report};
use model::{
    Changeset, ClusterId, Command, Document, FailedRevision, Failure, Millis, NodeId, Object,
    Proposal, RequestKey, RouteTable, ServiceHead, Spec, Start, State, Term, Timestamp,
};
use server::assigned;
use server::control::{self, Core, Effect, Event, RequestError, Response, Snapshot, Ticket};
use server::event_log::Numbered as _;
use server::persist;
use server::stall::StallDetector;
use store::{Op, Txn};

use crate::bug::InjectedBug;
use crate::clock::{Clock, Monotonic};
use crate::disk::Disk;
use crate::environment::Environment;
use crate::event::{ServerEvent, SimEvent};
use crate::message::{Call, Line, Reply};
use crate::network::Location;
use crate::observation::Observation;
use crate::process::{Conn, Incarnation, Process, Rpc};

/// Instances on a node whose agent has been silent for this long count as lost.
pub(crate) const LOST_AFTER: Millis = Millis::secs(30);
/// The interval at which a server checks that it was not suspended.
const STALL_CHECK_MS: u64 = server::REFRESH.as_millis() as u64;

/// The machine of the server: its clock, its disk, and the process while it runs.
pub(crate) struct Server {
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) disk_condition: DiskCondition,
    pub(crate) running: Option<Running>,
    /// Whether its store is not the cluster's newest. What it does is not checked as if it were.
    is_wrong: bool,
}

/// The outcome of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskCondition {
    Works,
    /// Nothing is written.
    Full,
    /// A flush fails: whether the data was written is unknown, and the server terminates.
    Failing,
}

/// A running server.
pub(crate) struct Running {
    incarnation: Incarnation,
    core: Core,
    monotonic: Monotonic,
    stall: StallDetector,
    pub(crate) snapshot: Snapshot,
    routes: Arc<RouteTable>,
    generation: u64,
    /// Requests without a response.
    waiting: BTreeMap<Ticket, Waiting>,
    /// The write in progress.
    storing: Option<Txn>,
    turn_is_due: bool,
    timer: u64,
    streams: BTreeMap<Conn, Follower>,
    /// The incarnation of each agent, for ghost heartbeats.
    lives: BTreeMap<NodeId, u64>,
    /// The nodes whose agents have reported to this server.
    pub(crate) heard: BTreeSet<NodeId>,
    /// The events that the write in progress makes durable.
    unstored: BTreeSet<u64>,
    is_wrong: bool,
}

/// A request without a response.
struct Waiting {
    rpc: Rpc,
    location: Location,
    /// The key of a user's request.
    key: Option<RequestKey>,
}

/// A stream as the server sees it.
enum Follower {
    Assignments(assigned::Stream),
    /// The generation of the table that was sent last.
    Routes(u64),
}

impl Server {
    pub(crate) fn new() -> Server {
        Server {
            clock: Clock::drifting(0),
            disk: Disk::default(),
            disk_condition: DiskCondition::Works,
            running: None,
            is_wrong: false,
        }
    }

    /// A server with another store than the cluster's newest: of another cluster, or an old copy.
    pub(crate) fn wrong(disk: Disk) -> Server {
        Server { disk, is_wrong: true, ..Server::new() }
    }

    pub(crate) fn start(&mut self, env: &mut Environment) {
        if self.running.is_some() {
            return;
        }
        if self.disk_condition != DiskCondition::Works {
            // It cannot store its epoch. Its supervisor restarts it.
            let span = env.span(500..2_000);
            env.after(span, SimEvent::Start(Process::Server));
            return;
        }
        let mut monotonic = Monotonic::new(self.clock, env.now());
        let now = monotonic.now(self.clock, env.now());
        let loaded = self.disk.load().expect("a server can read what it stored");
        let persist::Loaded { mut state, mut events, revision, .. } = loaded;
        if !self.is_wrong {
            env.observe(Observation::Loaded(state.clone()));
        }
        if env.bug == Some(InjectedBug::SharedBlame) {
            state = with_shared_blame(&state);
        }
        let (cluster, nonce) = (ClusterId(env.number()), env.number());
        if self.is_wrong {
            let number = state.meta().epoch + 1;
            env.wrong_terms.insert(Term { number, nonce });
        }
        let start = Start { cluster, nonce, after: revision };
        let batch = control::become_leader(&mut state, &mut events, start, now);
        let batch = batch.expect("anyone may lead");
        self.disk.commit(persist::txn(batch).expect("a batch can be written"));
        let incarnation = env.number();
        let epoch = state.meta().epoch;
        let numbers: Vec<_> =
            events.iter().map(|event: &EventView| (event.number, event.bytes())).collect();
        let core = Core::new(state, self.disk.revision(), LOST_AFTER, numbers, now);
        let snapshot = core.snapshot();
        env.note(format_args!("server starts, epoch {epoch}"));
        self.running = Some(Running {
            incarnation,
            core,
            monotonic,
            stall: StallDetector::new(server::REFRESH, now),
            snapshot,
            routes: Arc::default(),
            generation: epoch << 32,
            waiting: BTreeMap::new(),
            storing: None,
            turn_is_due: false,
            timer: 0,
            streams: BTreeMap::new(),
            lives: BTreeMap::new(),
            heard: BTreeSet::new(),
            unstored: BTreeSet::new(),
            is_wrong: self.is_wrong,
        });
        if env.bug == Some(InjectedBug::Unreported) {
            self.suppose_reports(env);
        }
        self.turn_soon(env);
        env.after(STALL_CHECK_MS, SimEvent::Server(incarnation, ServerEvent::CheckForStall));
    }

    /// Ends the process between two instructions. The write in progress may be durable or not.
    pub(crate) fn stop(&mut self, env: &mut Environment, why: &str) {
        let Some(running) = self.running.take() else { return };
        env.note(format_args!("server {why}"));
        if let Some(txn) = running.storing
            && env.scheduler.rng.bool()
        {
            self.disk.commit(txn);
        }
        env.scheduler.ended(&Process::Server);
        for Waiting { rpc, location, .. } in running.waiting.into_values() {
            env.reply(&location, rpc, Reply::Failed);
        }
        for conn in running.streams.into_keys() {
            env.send_line(conn, Line::End);
        }
    }

    pub(crate) fn handle(
        &mut self,
        env: &mut Environment,
        incarnation: Incarnation,
        event: ServerEvent,
    ) {
        let Some(running) = self.running.as_mut().filter(|r| r.incarnation == incarnation) else {
            return;
        };
        match event {
            ServerEvent::Turn => self.turn(env),
            ServerEvent::Timer(token) if running.timer == token => self.turn(env),
            ServerEvent::Timer(_) => {}
            ServerEvent::CheckForStall => {
                self.check_for_stall(env);
                env.after(STALL_CHECK_MS, SimEvent::Server(incarnation, event));
            }
            ServerEvent::StreamDue(conn) => self.send_news(env, conn),
            ServerEvent::Stored => self.stored(env),
        }
    }

    /// A request arrives.
    pub(crate) fn receive(
        &mut self,
        env: &mut Environment,
        from: Location,
        rpc: Rpc,
        mut call: Call,
    ) {
        let Some(running) = &self.running else {
            return env.reply(&from, rpc, Reply::Failed);
        };
        if let Call::OfDaemon(known, of_daemon) = call {
            call = *of_daemon;
            let checked = running.snapshot.check(known.as_ref());
            if checked.is_err() && env.bug != Some(InjectedBug::AnyServer) {
                return running.reply(env, &from, rpc, Reply::Rejected);
            }
        }
        if let (Some(InjectedBug::GhostHeartbeat), Call::Report(report)) = (env.bug, &call) {
            self.ghost_heartbeats(env, report);
        }
        let request = |ticket: Ticket, proposal: Proposal| {
            let proposal = Box::new(proposal);
            Event::Request { ticket, proposal }
        };
        let ticket = env.number();
        let mut key = None;
        let event = match call {
            Call::Command { id, command } => {
                if env.bug == Some(InjectedBug::RemovalOrder) {
                    self.drop_dependencies(env, &command);
                }
                let command = match env.bug {
                    Some(InjectedBug::BlindUndo) => self.with_previous_revision(*command),
                    _ => *command,
                };
                key = Some(id.key.clone());
                let id = (env.bug != Some(InjectedBug::Repetition)).then_some(id);
                request(ticket, Proposal { id, ..Proposal::operator(command) })
            }
            Call::Register(registration) => request(ticket, Proposal::registration(registration)),
            Call::Report(report) => {
                if let Some(running) = &mut self.running {
                    running.heard.insert(report.node.clone());
                }
                Event::Report { ticket, report }
            }
            Call::GatewayReport(report) => Event::GatewayReport { ticket, report },
            Call::Assignments(node) => return self.follow_assignments(env, &from, rpc, node),
            Call::Routes => return self.follow_routes(env, &from, rpc),
            Call::OfDaemon(..) => unreachable!("it is unwrapped above"),
        };
        if let Some(running) = &mut self.running {
            running.waiting.insert(ticket, Waiting { rpc, location: from, key });
        }
        self.process(env, event);
        self.turn_soon(env);
    }

    /// With the injected bug, an undo returns to the previous revision.
    fn with_previous_revision(&self, command: Command) -> Command {
        let Command::Undo { service, to: None } = command else { return command };
        let state = self.running.as_ref().map(|running| &running.snapshot.state);
        let to = state.and_then(|state| {
            let service = state.service(&service)?;
            let mut earlier = service.revisions.range(..service.target).rev();
            earlier.find(|(_, one)| one.template != service.target().template).map(|(to, _)| *to)
        });
        Command::Undo { service, to }
    }

    fn follow_assignments(
        &mut self,
        env: &mut Environment,
        from: &Location,
        rpc: Rpc,
        node: NodeId,
    ) {
        let Some(running) = &self.running else { return };
        if running.snapshot.state.node(&node).is_none() {
            return running.reply(env, from, rpc, Reply::Rejected);
        }
        let follower = Follower::Assignments(assigned::Stream::new(node.clone()));
        self.open_stream(env, from, rpc, Process::Agent(node), follower);
    }

    fn follow_routes(&mut self, env: &mut Environment, from: &Location, rpc: Rpc) {
        let Location::Node(node) = from.clone() else { return };
        self.open_stream(env, from, rpc, Process::Gateway(node), Follower::Routes(0));
    }

    fn open_stream(
        &mut self,
        env: &mut Environment,
        from: &Location,
        rpc: Rpc,
        to: Process,
        follower: Follower,
    ) {
        let conn = env.transport.open(&mut env.scheduler, to);
        let Some(running) = &mut self.running else { return };
        running.streams.insert(conn, follower);
        running.reply(env, from, rpc, Reply::Stream(conn));
        stream_soon(env, running.incarnation, conn);
    }

    /// Sends a follower the changes since the last line.
    fn send_news(&mut self, env: &mut Environment, conn: Conn) {
        let Some(running) = &mut self.running else { return };
        if !env.transport.is_open(conn) {
            running.streams.remove(&conn);
            return;
        }
        let line = match running.streams.get_mut(&conn) {
            None => None,
            Some(Follower::Assignments(stream)) => {
                let Snapshot { state, observed, .. } = &running.snapshot;
                match state.node(stream.node()) {
                    None => Some(Line::End),
                    Some(_) => {
                        stream.next(state, observed, running.generation).map(Line::Assignments)
                    }
                }
            }
            Some(Follower::Routes(sent)) if running.routes.generation > *sent => {
                *sent = running.routes.generation;
                Some(Line::Routes(Arc::clone(&running.routes)))
            }
            Some(Follower::Routes(_)) => None,
        };
        if let Some(line) = line {
            env.send_line(conn, line);
        }
    }

    fn turn_soon(&mut self, env: &mut Environment) {
        let Some(running) = &mut self.running else { return };
        if !std::mem::replace(&mut running.turn_is_due, true) {
            let span = env.span(0..2);
            env.after(span, SimEvent::Server(running.incarnation, ServerEvent::Turn));
        }
    }

    fn turn(&mut self, env: &mut Environment) {
        let Some(running) = &mut self.running else { return };
        running.turn_is_due = false;
        running.timer += 1;
        self.process(env, Event::Turn);
    }

    /// The write in progress has ended.
    fn stored(&mut self, env: &mut Environment) {
        let Some(running) = &mut self.running else { return };
        match self.disk_condition {
            DiskCondition::Works => {
                let Some(txn) = running.storing.take() else { return };
                running.unstored.clear();
                match env.bug {
                    Some(InjectedBug::NoFlush) => self.disk.write(txn),
                    Some(InjectedBug::LostDelete) => self.disk.commit(without_deletions(txn)),
                    _ => self.disk.commit(txn),
                }
                let revision = self.disk.revision();
                self.process(env, Event::Stored { revision });
                self.turn_soon(env);
            }
            DiskCondition::Full => {
                running.storing = None;
                running.unstored.clear();
                let message = "no space left on device".into();
                self.process(env, Event::StoreFailed { message });
                self.turn_soon(env);
            }
            DiskCondition::Failing => self.stop(env, "terminates: a flush failed"),
        }
    }

    /// Time in which the server was suspended must not count as silence of the daemons.
    fn check_for_stall(&mut self, env: &mut Environment) {
        let Some(running) = &mut self.running else { return };
        let now = running.monotonic.now(self.clock, env.now());
        if let Some(span) = running.stall.stalled_for(now) {
            running.core.handle(Event::Stalled { span }, now);
        }
    }

    fn process(&mut self, env: &mut Environment, event: Event) {
        self.check_for_stall(env);
        let Some(running) = &mut self.running else { return };
        let now = running.monotonic.now(self.clock, env.now());
        for effect in running.core.handle(event, now) {
            running.perform(env, &self.disk, effect, now);
        }
    }

    /// With the injected bug, a report of one agent counts as a heartbeat of every agent.
    fn ghost_heartbeats(&mut self, env: &mut Environment, report: &Report) {
        let Some(running) = &mut self.running else { return };
        running.lives.insert(report.node.clone(), report.life);
        let others = running.lives.iter().filter(|(node, _)| **node != report.node);
        let heartbeats = others.map(|(node, life)| Report {
            node: node.clone(),
            life: *life,
            number: 0,
            whole: false,
            instances: Vec::new(),
            ..report.clone()
        });
        for report in heartbeats.collect::<Vec<_>>() {
            let ticket = env.number();
            self.process(env, Event::Report { ticket, report });
        }
    }

    /// With the injected bug, every stored node counts as one that has reported.
    fn suppose_reports(&mut self, env: &mut Environment) {
        let Some(running) = &self.running else { return };
        let nodes: Vec<_> = running.snapshot.state.nodes().map(|node| node.id.clone()).collect();
        for node in nodes {
            let (life, number, generation, whole) = (0, 0, 0, false);
            let report = Report { node, life, number, generation, whole, instances: Vec::new() };
            let ticket = env.number();
            self.process(env, Event::Report { ticket, report });
        }
    }

    /// With the injected bug, services that are removed lose their dependencies before.
    fn drop_dependencies(&mut self, env: &mut Environment, command: &Command) {
        let (Some(running), Command::RemoveServices(services)) = (&self.running, command) else {
            return;
        };
        let state = &running.snapshot.state;
        let specs = services.iter().filter_map(|id| Some(Spec::clone(state.service(id)?.spec())));
        let documents =
            specs.map(|spec| Document::service(Spec { depends_on: Default::default(), ..spec }));
        let proposal = Box::new(Proposal::operator(Command::Apply(documents.collect())));
        let ticket = env.number();
        self.process(env, Event::Request { ticket, proposal });
    }
}

/// With the injected bug, a failed deployment blocks the revisions of all its services.
fn with_shared_blame(state: &State) -> State {
    let objects = state.objects().map(|(key, object)| match object {
        Object::Service(head) => (key, Object::Service(blamed(state, head))),
        other => (key, other),
    });
    State::load(objects.collect::<Vec<_>>())
}

fn blamed(state: &State, mut head: ServiceHead) -> ServiceHead {
    let mut failures = state.deployments().filter_map(|deployment| {
        let (moved, reason) = (deployment.move_of(&head.id)?, deployment.stage.reason()?);
        let is_of_another =
            matches!(&**reason, Failure::Stalled { service, .. } if *service != head.id);
        is_of_another.then_some((moved.to?, Arc::clone(reason)))
    });
    if let Some((revision, reason)) = failures.next_back() {
        head.failed = Some(FailedRevision { revision, reason, at: Timestamp(0) });
    }
    head
}

fn without_deletions(mut txn: Txn) -> Txn {
    txn.ops.retain(|op| !matches!(op, Op::Delete { .. }));
    txn
}

impl Running {
    /// Sends a response; one to a daemon states the position of this server.
    fn reply(&self, env: &mut Environment, to: &Location, rpc: Rpc, reply: Reply) {
        let reply = match to {
            Location::Node(_) => Reply::Stated(self.snapshot.position(), Box::new(reply)),
            Location::Server => reply,
        };
        env.reply(to, rpc, reply);
    }

    fn observe(&self, env: &mut Environment, observation: Observation) {
        if !self.is_wrong {
            env.observe(observation);
        }
    }

    fn perform(&mut self, env: &mut Environment, disk: &Disk, effect: Effect, now: Timestamp) {
        let incarnation = self.incarnation;
        match effect {
            Effect::Store(batch) => {
                let before = Box::new(self.core.snapshot());
                let after = self.core.proposed().clone();
                let at = env.now();
                self.observe(env, Observation::Decided { before, after, now, at });
                let newest = self.core.newest_event();
                let caused = batch.events.iter().filter(|event| event.number > newest);
                self.unstored = caused.clone().map(|event| event.number).collect();
                if env.bug == Some(InjectedBug::EarlyEvents) {
                    caused.for_each(|event| self.publish_event(env, event));
                }
                self.storing = Some(persist::txn(batch).expect("a batch can be written"));
                let longest = if env.chance(20) { 400 } else { 12 };
                let span = env.span(1..longest);
                env.after(span, SimEvent::Server(incarnation, ServerEvent::Stored));
            }
            Effect::Response { ticket, response } => {
                let Some(waiting) = self.waiting.remove(&ticket) else { return };
                let Waiting { rpc, location, key } = waiting;
                if let (Some(key), Response::Outcome(outcome)) = (key, &response) {
                    observe_outcome(env, key, outcome);
                }
                let reply = match response {
                    Response::Outcome(outcome) => Reply::Changeset(outcome),
                    Response::Report(outcome) => Reply::Reported(outcome),
                };
                self.reply(env, &location, rpc, reply);
            }
            Effect::Routes(table) => {
                self.routes = Arc::clone(&table);
                // Readers see this state only after the table: an instance may serve again in it.
                let state = self.core.durable().clone();
                self.observe(env, Observation::Routes { table, state });
                self.streams_due(env, |follower| matches!(follower, Follower::Routes(_)));
            }
            Effect::Assignments { generation, nodes } => {
                self.generation = generation;
                self.observe(env, Observation::Assignments(generation));
                self.streams_due(env, |follower| match follower {
                    Follower::Assignments(stream) => nodes.contains(stream.node()),
                    Follower::Routes(_) => false,
                });
            }
            Effect::Publish(snapshot) => {
                // Reading the whole disk is expensive.
                let reads = disk.is_flushed() && env.chance(20);
                let stored = reads.then(|| disk.read().expect("a server can read what it stored"));
                let (state, stored) = (snapshot.state.clone(), stored.map(|loaded| loaded.state));
                self.observe(env, Observation::Published { state, stored });
                self.snapshot = snapshot;
            }
            Effect::PublishEvent(event) => self.publish_event(env, &event),
            Effect::WakeAt(at) => {
                let timer = ServerEvent::Timer(self.timer);
                env.after(at.since(now).0, SimEvent::Server(incarnation, timer));
            }
        }
    }

    fn publish_event(&self, env: &mut Environment, event: &EventView) {
        let model::Event { about, what, .. } = &event.event;
        env.note(format_args!("{} {about}: {what}", what.kind()));
        let (number, is_durable) = (event.number, !self.unstored.contains(&event.number));
        self.observe(env, Observation::EventPublished { number, is_durable });
    }

    fn streams_due(&self, env: &mut Environment, is_due: impl Fn(&Follower) -> bool) {
        for (conn, _) in self.streams.iter().filter(|(_, follower)| is_due(follower)) {
            stream_soon(env, self.incarnation, *conn);
        }
    }
}

/// Records the verdict on a user's request. A failed write is no verdict.
fn observe_outcome(
    env: &mut Environment,
    key: RequestKey,
    outcome: &Result<Changeset, RequestError>,
) {
    let outcome = match outcome {
        Ok(changeset) => Ok(changeset.changes.clone()),
        Err(RequestError::Refused(refusal)) => Err(refusal.clone()),
        Err(RequestError::Storage(_)) => return,
    };
    env.observe(Observation::Answered { key, outcome });
}

/// Schedules the task that writes a stream.
fn stream_soon(env: &mut Environment, incarnation: Incarnation, conn: Conn) {
    let span = env.span(3..9);
    env.after(span, SimEvent::Server(incarnation, ServerEvent::StreamDue(conn)));
}
