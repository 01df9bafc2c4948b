//! The core of the control loop: events in, effects out. It does no I/O and reads no clock.
//!
//! At most one batch is being written. Meanwhile, proposals are queued; the next turn applies all
//! of them, plans on top of them, and stores their changes together with the planner's steps, with
//! one fsync. Once the batch is durable, it is published to daemons and readers, and only then are
//! the proposals answered: a client that has its response sees its change, and every published
//! change is durable. If the write fails, the state rolls back to the durable state, and nothing of
//! the batch has been published.
//!
//! Observations change routes at once, even during a write. `observe` processes reports, `publish`
//! computes the output to daemons and readers, and `event_buffer` keeps events.

mod event_buffer;
mod observe;
mod publish;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{EventView, GatewayReport, Report, ReportReply};
use model::{
    Changeset, Command, Daemon, Event as ModelEvent, Key, Listen, Millis, Mismatch, NodeId, Object,
    Observed, Position, Proposal, Refusal, Registration, RouteTable, SILENT_AFTER, ServiceId,
    Start, State, Timestamp, Wait,
};
use planner::WorkQueue;

use event_buffer::EventBuffer;
pub(crate) use event_buffer::KEPT as EVENTS_KEPT;

/// Identifies a message that waits for its answer.
pub type Ticket = u64;

/// An input of the core.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are named after their types")]
pub enum Event {
    /// A principal proposes a change.
    Request { ticket: Ticket, proposal: Box<Proposal> },
    /// An agent sends a report.
    Report { ticket: Ticket, report: Report },
    /// A gateway sends a report.
    GatewayReport { ticket: Ticket, report: GatewayReport },
    /// The batch is durable, at this revision of the store.
    Stored { revision: u64 },
    /// A daemon cannot follow this server.
    Refused { node: NodeId, daemon: Daemon, mismatch: Mismatch },
    /// The batch could not be stored, and no part of it ever will be.
    StoreFailed { message: String },
    /// The server did not run for this span up to now, so no daemon could be heard.
    Stalled { span: Millis },
    /// All pending events have been passed: act on them.
    Turn,
}

/// An output of the core.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are named after their types")]
pub enum Effect {
    /// Store a batch, then pass [`Event::Stored`] or [`Event::StoreFailed`].
    Store(Batch),
    /// Answer a message.
    Response { ticket: Ticket, response: Response },
    /// Send this route table to the gateways.
    Routes(Arc<RouteTable>),
    /// The assignments of these nodes have changed.
    Assignments { generation: u64, nodes: BTreeSet<NodeId> },
    /// Publish this snapshot to readers.
    Publish(Snapshot),
    /// Publish this event.
    PublishEvent(EventView),
    /// Pass [`Event::Turn`] at this time, unless one is passed before.
    WakeAt(Timestamp),
}

/// The changes that are stored in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// Objects by key; `None` deletes.
    pub objects: Vec<(Key, Option<Object>)>,
    /// Events to append.
    pub events: Vec<EventView>,
    /// The numbers of the oldest events, to be deleted.
    pub deleted_events: Vec<u64>,
    /// Names of objects in earlier versions, to be deleted.
    pub obsolete: Vec<String>,
}

/// An answer to a message.
#[derive(Debug)]
pub enum Response {
    /// The outcome of a proposal.
    Outcome(Result<Changeset, RequestError>),
    /// The reply to a report.
    Report(Result<ReportReply, RequestError>),
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestError {
    /// The request is rejected.
    Refused(Refusal),
    /// The changes could not be stored and have no effect.
    Storage(String),
}

/// The state that readers see.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The durable state.
    pub state: State,
    /// The observations of agents and gateways.
    pub observed: Arc<Observed>,
    /// The reasons why services wait, as of the last planning.
    pub waits: Arc<BTreeMap<ServiceId, Vec<Wait>>>,
    /// The newest route table.
    pub routes: Arc<RouteTable>,
    /// Listeners that a gateway could not open, each with the cause.
    pub failed: Arc<BTreeMap<(Listen, NodeId), String>>,
    /// The newest revision of the store.
    pub revision: u64,
}

impl Snapshot {
    /// The newest position in the history of the cluster's store.
    pub fn position(&self) -> Option<Position> {
        self.state.position(self.revision)
    }

    /// Checks that a daemon that knows a position can follow this server.
    pub fn check(&self, known: Option<&Position>) -> Result<(), Mismatch> {
        match (self.state.cluster(), known) {
            (Some(cluster), Some(known)) => cluster.check(known, self.revision),
            _ => Ok(()),
        }
    }
}

/// Delay of the next planning after a batch could not be stored.
const STORE_RETRY: Millis = Millis(1000);
/// Delay of the next planning after no step of a plan could be adopted.
const PLAN_RETRY: Millis = Millis(1000);
/// Maximum number of planning rounds per turn. A step of one service may unblock another.
const ROUNDS_MAX: usize = 64;

/// The core of a server. Drive it with [`Core::handle`].
#[derive(Debug)]
pub struct Core {
    /// The durable state.
    durable: State,
    /// `durable` and the changes of the batch in progress.
    state: State,
    observed: Observed,
    /// The incarnation of each agent, and the number of its last report.
    last_reports: BTreeMap<NodeId, (u64, u64)>,
    work_queue: WorkQueue,
    /// The lost nodes that an event has announced.
    lost: BTreeSet<NodeId>,
    /// Whether something has happened since the last planning.
    due: bool,
    /// Time of the next planning if nothing happens.
    wake_at: Option<Timestamp>,
    queue: Vec<(Ticket, Proposal)>,
    /// The batch in progress.
    storing: Option<Storing>,
    event_buffer: EventBuffer,
    /// Services whose routes may have changed.
    routes_due: BTreeSet<ServiceId>,
    /// Whether readers must see a new observation.
    readers_due: bool,
    /// The reasons why services wait, as of the last planning.
    waits: Arc<BTreeMap<ServiceId, Vec<Wait>>>,
    /// Rises with each publication; starts at the epoch, shifted left by 32 bits.
    generation: u64,
    routes: Arc<RouteTable>,
    failed: Arc<BTreeMap<(Listen, NodeId), String>>,
    stalled_until: Timestamp,
    /// The newest revision of the store.
    revision: u64,
    /// Nodes whose agents must be ordered to stop instances that are not placed there.
    stops_due: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Storing {
    outcomes: Vec<(Ticket, Result<Changeset, RequestError>)>,
    changed: BTreeSet<Key>,
    /// The events of the batch, published once it is durable.
    events: Vec<EventView>,
}

/// The changes of a turn so far.
#[derive(Default)]
struct Changed {
    keys: BTreeSet<Key>,
    events: Vec<ModelEvent>,
}

/// Becomes leader. Returns the batch that must be durable before a core is created.
pub fn become_leader(
    state: &mut State,
    events: &mut Vec<EventView>,
    start: Start,
    now: Timestamp,
) -> Result<Batch, Refusal> {
    let mut applied = state.apply(Proposal::usual(Command::BecomeLeader), now)?;
    let term = state.apply(Proposal::usual(Command::BeginTerm(start)), now)?;
    applied.changed.extend(term.changed);
    let objects = applied.changed.iter().map(|key| (key.clone(), state.object(key))).collect();
    let first = EventBuffer::first(events.last().map(|event| event.number));
    let numbered = (first..).zip(applied.events);
    let numbered: Vec<_> = numbered.map(|(number, event)| EventView { number, event }).collect();
    events.extend(numbered.iter().cloned());
    Ok(Batch { objects, events: numbered, ..Batch::default() })
}

impl Core {
    /// Creates the core of a server that has just become leader. `durable` is the stored state and
    /// `revision` that of the store; `events` are the numbers and sizes of the stored events, oldest
    /// first.
    pub fn new(
        durable: State,
        revision: u64,
        lost_after: Millis,
        events: impl IntoIterator<Item = (u64, usize)>,
        now: Timestamp,
    ) -> Core {
        Core {
            state: durable.clone(),
            observed: Observed {
                since: now,
                unbroken_since: now,
                lost_after,
                ..Observed::default()
            },
            last_reports: BTreeMap::new(),
            work_queue: WorkQueue::everything(),
            due: true,
            wake_at: None,
            queue: Vec::new(),
            storing: None,
            event_buffer: EventBuffer::new(events),
            routes_due: BTreeSet::new(),
            readers_due: true,
            waits: Arc::default(),
            generation: durable.meta().epoch << 32,
            routes: Arc::default(),
            failed: Arc::default(),
            lost: BTreeSet::new(),
            stalled_until: Timestamp(0),
            revision,
            stops_due: BTreeSet::new(),
            durable,
        }
    }

    /// The highest event number that may have been published.
    pub fn newest_event(&self) -> u64 {
        self.event_buffer.last_published()
    }

    /// The state that readers see now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.durable.clone(),
            observed: Arc::new(self.observed.clone()),
            waits: Arc::clone(&self.waits),
            routes: Arc::clone(&self.routes),
            failed: Arc::clone(&self.failed),
            revision: self.revision,
        }
    }

    /// The durable state, from which tables and assignments follow.
    pub fn durable(&self) -> &State {
        &self.durable
    }

    /// The durable state with the changes of the batch in progress.
    pub fn proposed(&self) -> &State {
        &self.state
    }

    /// Processes an event. Returns the resulting effects in the order in which they must be
    /// performed.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Request { ticket, proposal } => self.queue.push((ticket, *proposal)),
            Event::Report { ticket, report } => {
                let response = Response::Report(self.take_report(report, now, &mut effects));
                effects.push(Effect::Response { ticket, response });
            }
            Event::GatewayReport { ticket, report } => {
                let response =
                    Response::Report(self.take_gateway_report(report, now, &mut effects));
                effects.push(Effect::Response { ticket, response });
            }
            Event::Stored { revision } => {
                self.revision = revision;
                self.stored(now, &mut effects);
            }
            Event::Refused { node, daemon, mismatch } => {
                self.take_refusal(node, daemon, Some(mismatch), now, &mut effects);
            }
            Event::StoreFailed { message } => self.store_failed(&message, now, &mut effects),
            Event::Stalled { span } => self.observed.extend_deadlines(span, now),
            Event::Turn => self.turn(now, &mut effects),
        }
        effects
    }

    fn stored(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(Storing { outcomes, changed, events }) = self.storing.take() else { return };
        let nodes = self.compare(&changed, now);
        self.durable = self.state.clone();
        self.stalled_until = Timestamp(0);
        self.due = true;
        self.publish(&changed, nodes, now, effects);
        self.event_buffer.stored(events, now, effects);
        for (ticket, outcome) in outcomes {
            effects.push(Effect::Response { ticket, response: Response::Outcome(outcome) });
        }
    }

    fn store_failed(&mut self, message: &str, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(storing) = self.storing.take() else { return };
        self.state = self.durable.clone();
        self.work_queue.touch_all();
        self.due = true;
        self.stalled_until = now.after(STORE_RETRY);
        self.event_buffer.not_stored(now, effects);
        for (ticket, _) in storing.outcomes {
            let response = Response::Outcome(Err(RequestError::Storage(message.into())));
            effects.push(Effect::Response { ticket, response });
        }
    }

    fn turn(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.storing.is_none() {
            self.take_turn(now, effects);
        }
        let had_table = self.observed.published.first > 0;
        self.publish(&BTreeSet::new(), BTreeSet::new(), now, effects);
        if !had_table && self.observed.published.first > 0 {
            // Draining instances wait for the first table.
            self.due = true;
            self.wake_at = Some(now);
        }
        if self.storing.is_none() {
            // A wake time in the past must cause a turn soon, not an endless series of turns.
            let soon = Timestamp(now.0 + 1);
            effects.extend(self.wake_at.map(|at| Effect::WakeAt(at.max(soon))));
        }
    }

    /// Applies queued proposals, plans, and stores the resulting changes.
    fn take_turn(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let woken = self.wake_at.is_some_and(|at| at <= now);
        if !self.due && !woken && self.queue.is_empty() {
            return;
        }
        let mut changed = Changed::default();
        let mut outcomes = Vec::new();
        for (ticket, mut proposal) in std::mem::take(&mut self.queue) {
            if let Command::AcceptLoss { start, .. } = &mut proposal.command {
                // No batch is being stored: this is the newest revision that any daemon can know.
                start.after = self.revision;
            }
            if let Command::Register(Registration { node, agent: None, .. }) = &proposal.command
                && self.durable.node(node).is_some_and(|node| node.node.gateway)
            {
                self.gateway_registered(node, now);
            }
            let outcome = match self.duplicate_agent(&proposal.command, now) {
                Some(refusal) => Err(refusal),
                None => self.apply(proposal, now, &mut changed),
            };
            outcomes.push((ticket, outcome.map_err(RequestError::Refused)));
        }
        let stalled = self.stalled_until > now;
        self.wake_at =
            if stalled { Some(self.stalled_until) } else { self.plan(now, &mut changed) };
        self.announce_lost_nodes(now, effects);
        let flush_at = self.event_buffer.flush_at().filter(|_| !stalled);
        if changed.keys.is_empty() && flush_at.is_none_or(|at| at > now) {
            // Nothing to store: the outcomes hold already.
            for (ticket, outcome) in outcomes {
                effects.push(Effect::Response { ticket, response: Response::Outcome(outcome) });
            }
            self.wake_at = self.wake_at.into_iter().chain(flush_at).min();
            return;
        }
        let Changed { keys, events } = changed;
        let objects = keys.iter().map(|key| (key.clone(), self.state.object(key))).collect();
        let (events, batched, deleted_events) = self.event_buffer.store(events);
        effects.push(Effect::Store(Batch {
            objects,
            events: batched,
            deleted_events,
            ..Batch::default()
        }));
        self.storing = Some(Storing { outcomes, changed: keys, events });
    }

    /// Rejects a second agent for a node while the first is alive: both would run its instances.
    fn duplicate_agent(&self, command: &Command, now: Timestamp) -> Option<Refusal> {
        let Command::Register(Registration { node, agent: Some(agent), .. }) = command else {
            return None;
        };
        let known = &self.state.node(node)?.node.agent_id;
        let seen_at = self.observed.agents.get(node).map_or(self.observed.since, |a| a.seen_at);
        let silence = now.since(seen_at);
        let is_other = !known.is_empty() && !agent.id.is_empty() && *known != agent.id;
        (is_other && silence < SILENT_AFTER).then(|| Refusal::Conflict {
            message: format!(
                "another agent is registered as {node} and reported {silence} ago: give this node \
                 another name, or end that agent"
            ),
        })
    }

    fn apply(
        &mut self,
        proposal: Proposal,
        now: Timestamp,
        changed: &mut Changed,
    ) -> Result<Changeset, Refusal> {
        let request = proposal.id.clone().map(|id| (id, proposal.by.clone()));
        let applied = match self.state.apply(proposal, now) {
            Ok(applied) => applied,
            Err(refusal) => {
                if let Some((id, by)) = request {
                    changed.keys.append(&mut self.state.record_refusal(id, by, &refusal, now));
                }
                return Err(refusal);
            }
        };
        self.touch(&applied.changed);
        changed.events.extend(applied.events.iter().cloned());
        changed.keys.extend(applied.changed.iter().cloned());
        Ok(applied)
    }

    /// Puts the services that a change concerns on the work queue.
    fn touch(&mut self, changed: &BTreeSet<Key>) {
        for key in changed {
            match key {
                Key::Service(id) | Key::Revision(id, _) => self.work_queue.touch(id),
                Key::Instance(id) => self.work_queue.touch(&id.service),
                Key::Node(id) => self.work_queue.touch_node(&self.state, id),
                Key::Deployment(id) => {
                    let deployment = self.state.deployment(*id);
                    for m in deployment.iter().flat_map(|deployment| &deployment.moves) {
                        self.work_queue.touch(&m.service);
                    }
                }
                Key::Gateway(_) => self.work_queue.touch_all(),
                Key::Bundle(..) | Key::Request(_) | Key::Meta | Key::Cluster => {}
            }
        }
    }

    /// Plans and adopts steps until none is due. Returns when to plan again.
    fn plan(&mut self, now: Timestamp, changed: &mut Changed) -> Option<Timestamp> {
        self.due = false;
        let mut wake_at = Some(now);
        for _ in 0..ROUNDS_MAX {
            let plan = self.work_queue.plan(&self.state, &self.observed, now);
            if plan.steps.is_empty() {
                wake_at = plan.wake_at;
                break;
            }
            let mut has_progressed = false;
            for step in plan.steps {
                let service = step.service().clone();
                // A rejected step is outdated by one before it: its service is planned again.
                match self.apply(Proposal::step(step), now, changed) {
                    Ok(_) => has_progressed = true,
                    Err(_) => self.work_queue.touch(&service),
                }
            }
            if !has_progressed {
                // Without a change, planning these steps again at once would never end.
                wake_at = Some(now.after(PLAN_RETRY));
                break;
            }
        }
        if *self.waits != *self.work_queue.waits() {
            self.waits = Arc::new(self.work_queue.waits().clone());
            self.readers_due = true;
        }
        wake_at
    }
}
