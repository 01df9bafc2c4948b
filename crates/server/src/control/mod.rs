//! The control loop's core: requests and reports in, effects out. No IO, no clock.
//!
//! One batch is under way at a time. While it is being stored, requests queue up; the next turn
//! applies them all, plans on top of them, and stores the requests' changes and the adopted steps
//! together, with one fsync. Only then are requests answered and daemons told, daemons and readers
//! first: who has an answer sees what it speaks of, and what anyone was ever told is durable. If
//! storing fails, the state goes back to what is durable and nobody was told anything but that.
//!
//! What is observed changes routes at once, whatever is being stored. `observe` takes in reports,
//! `publish` works out what daemons and readers are told, `record` keeps the events.

mod observe;
mod publish;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{EventView, GatewayReport, Report, ReportReply};
use model::{
    Changeset, Command, Event as Told, Key, Listen, Millis, NodeId, Object, Observed, Principal,
    Proposal, Refusal, Registration, RouteTable, SILENT_AFTER, ServiceId, State, Timestamp, Wait,
};
use planner::WorkQueue;

pub(crate) use record::KEPT as EVENTS_KEPT;
use record::Record;

/// Tells apart those who wait for an answer.
pub type Ticket = u64;

/// What happens to the core.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are named after their types")]
pub enum Event {
    /// A principal proposes a change.
    Request { ticket: Ticket, proposal: Proposal },
    /// An agent reports.
    Report { ticket: Ticket, report: Report },
    /// A gateway reports.
    GatewayReport { ticket: Ticket, report: GatewayReport },
    /// The batch is durable.
    Stored,
    /// The batch is not stored, and nothing of it ever will be.
    StoreFailed { message: String },
    /// Nobody could be heard for so long, up to now: the server itself stood still.
    Absent { span: Millis },
    /// All that has happened has been told: do what follows from it.
    Turn,
}

/// What is to be done.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are named after their types")]
pub enum Effect {
    /// Make a batch durable, then tell `Stored` or `StoreFailed`.
    Store(Batch),
    /// Answer somebody.
    Answer { ticket: Ticket, answer: Answer },
    /// Gateways should follow this table.
    Routes(Arc<RouteTable>),
    /// What these nodes should run has changed.
    Assignments { generation: u64, nodes: BTreeSet<NodeId> },
    /// Readers should see this.
    Publish(Snapshot),
    /// Readers of events should see this one.
    Tell(EventView),
    /// Take a turn at this time, if none is taken before.
    WakeAt(Timestamp),
}

/// What one fsync makes durable.
#[derive(Debug, Default)]
pub struct Batch {
    /// Objects; `None` deletes.
    pub objects: Vec<(Key, Option<Object>)>,
    /// Events.
    pub events: Vec<EventView>,
    /// The numbers of events that are old enough to be forgotten.
    pub forgotten: Vec<u64>,
}

/// An answer to somebody.
#[derive(Debug)]
pub enum Answer {
    /// To a request.
    Outcome(Result<Changeset, Trouble>),
    /// To a report.
    Report(Result<ReportReply, Trouble>),
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// It may not be.
    Refused(Refusal),
    /// It could not be stored; nothing of it has happened.
    Storage(String),
}

/// What readers see: durable, and observed.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What is durable.
    pub state: State,
    /// What is observed.
    pub observed: Arc<Observed>,
    /// What services waited for when last planned.
    pub waits: Arc<BTreeMap<ServiceId, Vec<Wait>>>,
    /// The newest table.
    pub routes: Arc<RouteTable>,
    /// Listeners that gateways cannot open.
    pub failed: Arc<BTreeMap<(Listen, NodeId), String>>,
}

/// After a batch could not be stored, nothing is proposed by ourselves for this long.
const STORE_RETRY: Millis = Millis(1000);
/// After none of its steps could be adopted, planning is tried again after this long.
const PLAN_RETRY: Millis = Millis(1000);
/// Rounds of planning in a turn: adopting a step of one service may let another one go on.
const ROUNDS_MAX: usize = 64;

/// The core of a server. Drive it with [`Core::handle`].
#[derive(Debug)]
pub struct Core {
    /// What is durable.
    durable: State,
    /// `durable` and the batch under way.
    state: State,
    observed: Observed,
    /// The life of each agent, and the number of its last report.
    heard: BTreeMap<NodeId, (u64, u64)>,
    work_queue: WorkQueue,
    /// Something has happened since the last planning.
    due: bool,
    /// When to plan even if nothing happens.
    wake_at: Option<Timestamp>,
    queue: Vec<(Ticket, Proposal)>,
    /// The batch under way: who waits for it, and what it changes.
    storing: Option<Storing>,
    record: Record,
    /// Services whose routes may have changed.
    routes_due: BTreeSet<ServiceId>,
    /// Something that readers see has been observed.
    readers_due: bool,
    /// What services waited for when last planned.
    waits: Arc<BTreeMap<ServiceId, Vec<Wait>>>,
    /// Rises with each publication; begins with the epoch.
    generation: u64,
    routes: Arc<RouteTable>,
    failed: Arc<BTreeMap<(Listen, NodeId), String>>,
    stalled_until: Timestamp,
}

#[derive(Debug)]
struct Storing {
    answers: Vec<(Ticket, Result<Changeset, Trouble>)>,
    changed: BTreeSet<Key>,
    /// What it brings about; told once it is durable.
    events: Vec<EventView>,
}

/// What a turn has changed so far.
#[derive(Default)]
struct Changed {
    keys: BTreeSet<Key>,
    events: Vec<Told>,
}

/// Takes the lead. Returns what must be durable before a core is made.
pub fn lead(
    state: &mut State,
    events: &mut Vec<EventView>,
    now: Timestamp,
) -> Result<Batch, Refusal> {
    let applied = state.apply(Proposal::new(Principal::Server, Command::BecomeLeader), now)?;
    let objects = applied.changed.iter().map(|key| (key.clone(), state.object(key))).collect();
    let first = Record::first(events.last().map(|event| event.number));
    let told = (first..).zip(applied.events);
    let told: Vec<_> = told.map(|(number, event)| EventView { number, event }).collect();
    events.extend(told.iter().cloned());
    Ok(Batch { objects, events: told, forgotten: Vec::new() })
}

impl Core {
    /// A core that has just taken the lead with what is durable; `events` are the numbers of the
    /// stored events, oldest first.
    pub fn new(
        durable: State,
        lost_after: Millis,
        events: impl IntoIterator<Item = u64>,
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
            heard: BTreeMap::new(),
            work_queue: WorkQueue::everything(),
            due: true,
            wake_at: None,
            queue: Vec::new(),
            storing: None,
            record: Record::new(events),
            routes_due: BTreeSet::new(),
            readers_due: true,
            waits: Arc::default(),
            generation: durable.meta().epoch << 32,
            routes: Arc::default(),
            failed: Arc::default(),
            stalled_until: Timestamp(0),
            durable,
        }
    }

    /// The number of the newest event that anyone may have been told.
    pub fn newest_event(&self) -> u64 {
        self.record.told()
    }

    /// What readers see now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.durable.clone(),
            observed: Arc::new(self.observed.clone()),
            waits: Arc::clone(&self.waits),
            routes: Arc::clone(&self.routes),
            failed: Arc::clone(&self.failed),
        }
    }

    /// What is durable, and what is about to be.
    pub fn proposed(&self) -> &State {
        &self.state
    }

    /// Takes in what has happened and says what is to be done.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Request { ticket, proposal } => self.queue.push((ticket, proposal)),
            Event::Report { ticket, report } => {
                let answer = Answer::Report(self.take_report(report, now, &mut effects));
                effects.push(Effect::Answer { ticket, answer });
            }
            Event::GatewayReport { ticket, report } => {
                let answer = Answer::Report(self.take_gateway_report(report, now));
                effects.push(Effect::Answer { ticket, answer });
            }
            Event::Stored => self.stored(now, &mut effects),
            Event::StoreFailed { message } => self.store_failed(&message, now, &mut effects),
            Event::Absent { span } => self.observed.forgive(span, now),
            Event::Turn => self.turn(now, &mut effects),
        }
        effects
    }

    fn stored(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(Storing { answers, changed, events }) = self.storing.take() else { return };
        let nodes = self.compare(&changed, now);
        self.durable = self.state.clone();
        self.stalled_until = Timestamp(0);
        self.due = true;
        self.publish(&changed, nodes, now, effects);
        self.record.stored(events, now, effects);
        for (ticket, outcome) in answers {
            effects.push(Effect::Answer { ticket, answer: Answer::Outcome(outcome) });
        }
    }

    fn store_failed(&mut self, message: &str, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(storing) = self.storing.take() else { return };
        self.state = self.durable.clone();
        self.work_queue.touch_all();
        self.due = true;
        self.stalled_until = now.after(STORE_RETRY);
        self.record.not_stored(now, effects);
        for (ticket, _) in storing.answers {
            let answer = Answer::Outcome(Err(Trouble::Storage(message.into())));
            effects.push(Effect::Answer { ticket, answer });
        }
    }

    fn turn(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.storing.is_none() {
            self.go_on(now, effects);
        }
        let had_table = self.observed.published.first > 0;
        self.publish(&BTreeSet::new(), BTreeSet::new(), now, effects);
        if !had_table && self.observed.published.first > 0 {
            // What is being drained has waited for this.
            self.due = true;
            self.wake_at = Some(now);
        }
        if self.storing.is_none() {
            // A wake that is due already is a turn soon, not a turn without end.
            let soon = Timestamp(now.0 + 1);
            effects.extend(self.wake_at.map(|at| Effect::WakeAt(at.max(soon))));
        }
    }

    /// Applies what is asked for, plans, and sees that what came of it is stored.
    fn go_on(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let woken = self.wake_at.is_some_and(|at| at <= now);
        if !self.due && !woken && self.queue.is_empty() {
            return;
        }
        let mut changed = Changed::default();
        let mut answers = Vec::new();
        for (ticket, proposal) in std::mem::take(&mut self.queue) {
            if let Command::Register(Registration { node, agent: None, .. }) = &proposal.command
                && self.durable.node(node).is_some_and(|node| node.node.gateway)
            {
                self.gateway_called(node, now);
            }
            let outcome = match self.impostor(&proposal.command, now) {
                Some(refusal) => Err(refusal),
                None => self.apply(proposal, now, &mut changed),
            };
            answers.push((ticket, outcome.map_err(Trouble::Refused)));
        }
        let stalled = self.stalled_until > now;
        self.wake_at =
            if stalled { Some(self.stalled_until) } else { self.plan(now, &mut changed) };
        let flush_at = self.record.flush_at().filter(|_| !stalled);
        if changed.keys.is_empty() && flush_at.is_none_or(|at| at > now) {
            // Nothing to store: answers are true already.
            for (ticket, outcome) in answers {
                effects.push(Effect::Answer { ticket, answer: Answer::Outcome(outcome) });
            }
            self.wake_at = self.wake_at.into_iter().chain(flush_at).min();
            return;
        }
        let Changed { keys, events } = changed;
        let objects = keys.iter().map(|key| (key.clone(), self.state.object(key))).collect();
        let (events, batched, forgotten) = self.record.store(events);
        effects.push(Effect::Store(Batch { objects, events: batched, forgotten }));
        self.storing = Some(Storing { answers, changed: keys, events });
    }

    /// Refuses a second agent for a node whose own is alive: both would run its instances.
    fn impostor(&self, command: &Command, now: Timestamp) -> Option<Refusal> {
        let Command::Register(Registration { node, agent: Some(agent), .. }) = command else {
            return None;
        };
        let known = &self.state.node(node)?.node.agent_id;
        let seen_at = self.observed.agents.get(node).map_or(self.observed.since, |a| a.seen_at);
        let silence = now.since(seen_at);
        let is_other = !known.is_empty() && !agent.id.is_empty() && *known != agent.id;
        (is_other && silence < SILENT_AFTER).then(|| Refusal::Conflict {
            message: format!(
                "another agent calls itself {node} and was heard of {silence} ago: give this node \
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
        let applied = self.state.apply(proposal, now)?;
        self.touch(&applied.changed);
        changed.events.extend(applied.events.iter().cloned());
        changed.keys.extend(applied.changed.iter().cloned());
        Ok(applied)
    }

    /// Puts on the work queue what a change concerns.
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
                Key::Group(_) | Key::Meta => {}
            }
        }
    }

    /// Plans and adopts until there is nothing more to do now. Returns when to plan again.
    fn plan(&mut self, now: Timestamp, changed: &mut Changed) -> Option<Timestamp> {
        self.due = false;
        let mut wake_at = Some(now);
        for _ in 0..ROUNDS_MAX {
            let plan = self.work_queue.plan(&self.state, &self.observed, now);
            if plan.steps.is_empty() {
                wake_at = plan.wake_at;
                break;
            }
            let mut went_on = false;
            for step in plan.steps {
                let service = step.service().clone();
                // A refused step was overtaken by one before it: its service is planned again.
                match self.apply(Proposal::step(step), now, changed) {
                    Ok(_) => went_on = true,
                    Err(_) => self.work_queue.touch(&service),
                }
            }
            if !went_on {
                // Nothing overtook these: planning them again now would be planning for ever.
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
