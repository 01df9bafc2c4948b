//! The control loop's core: requests and reports in, effects out. No IO, no clock.
//!
//! One batch is under way at a time. While it is being stored, requests queue up; the next turn
//! applies them all, plans on top of them, and stores the requests' changes and the adopted steps
//! together, with one fsync. Only then are requests answered and daemons told: what anyone was
//! ever told is durable. If storing fails, the state goes back to what is durable and nobody was
//! told anything but that.
//!
//! `observe` takes in reports, `publish` works out what daemons and readers are told.

mod observe;
mod publish;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{EventView, GatewayReport, Report, ReportReply};
use model::{
    Applied, Command, Key, Listen, Millis, NodeId, Object, Observed, Refusal, RouteTable,
    ServiceId, State, Timestamp, Wait,
};
use planner::Agenda;

/// Tells apart those who wait for an answer.
pub(crate) type Ticket = u64;

/// What happens to the core.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody wants something changed.
    Request { ticket: Ticket, command: Command },
    /// An agent reports.
    Report { ticket: Ticket, report: Report },
    /// A gateway reports.
    GatewayReport { ticket: Ticket, report: GatewayReport },
    /// The batch is durable.
    Stored,
    /// The batch is not stored, and nothing of it ever will be.
    StoreFailed { message: String },
    /// All that has happened has been told: do what follows from it.
    Turn,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Effect {
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
    /// Something was noticed; it is stored with the next batch.
    Noticed(EventView),
    /// Take a turn at this time, if none is taken before.
    WakeAt(Timestamp),
}

/// What one fsync makes durable.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Objects; `None` deletes.
    pub(crate) objects: Vec<(Key, Option<Object>)>,
    /// Events.
    pub(crate) events: Vec<EventView>,
}

/// An answer to somebody.
#[derive(Debug)]
pub(crate) enum Answer {
    Outcome(Result<Applied, Trouble>),
    Report(ReportReply),
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Trouble {
    /// It may not be.
    Refused(Refusal),
    /// It could not be stored; nothing of it has happened.
    Storage(String),
}

/// What readers see: durable, and observed.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) observed: Arc<Observed>,
    pub(crate) waits: Arc<BTreeMap<ServiceId, Vec<Wait>>>,
    pub(crate) routes: Arc<RouteTable>,
    /// Listeners that gateways cannot open.
    pub(crate) failed: Arc<BTreeMap<(Listen, NodeId), String>>,
}

/// After a batch could not be stored, nothing is proposed by ourselves for this long.
const STORE_RETRY: Millis = Millis(1000);
/// Rounds of planning in a turn: adopting a step of one service may let another one go on.
const ROUNDS_MAX: usize = 64;

/// The core.
pub(crate) struct Core {
    /// What is durable.
    durable: State,
    /// `durable` and the batch under way.
    state: State,
    observed: Observed,
    agenda: Agenda,
    queue: Vec<(Ticket, Command)>,
    /// The batch under way: who waits for it, and what it changes.
    storing: Option<Storing>,
    /// Changes that are durable and have not been published.
    published_due: BTreeSet<Key>,
    /// Something that readers see has been observed.
    observed_due: bool,
    /// Events that are not stored yet.
    events: Vec<EventView>,
    event_number: u64,
    /// Rises with each publication; begins with the epoch.
    generation: u64,
    routes: Arc<RouteTable>,
    failed: Arc<BTreeMap<(Listen, NodeId), String>>,
    stalled_until: Timestamp,
}

struct Storing {
    answers: Vec<(Ticket, Result<Applied, Trouble>)>,
    changed: BTreeSet<Key>,
    events: Vec<EventView>,
}

impl Core {
    /// A core that has just taken the lead with what is durable.
    pub(crate) fn new(
        durable: State,
        lost_after: Millis,
        event_number: u64,
        now: Timestamp,
    ) -> Core {
        let generation = durable.meta().epoch << 32;
        Core {
            state: durable.clone(),
            durable,
            observed: Observed { since: now, lost_after, ..Observed::default() },
            agenda: Agenda::everything(),
            queue: Vec::new(),
            storing: None,
            published_due: BTreeSet::new(),
            observed_due: true,
            events: Vec::new(),
            event_number,
            generation,
            routes: Arc::default(),
            failed: Arc::default(),
            stalled_until: Timestamp(0),
        }
    }

    /// What readers see now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.durable.clone(),
            observed: Arc::new(self.observed.clone()),
            waits: Arc::new(self.agenda.waits().clone()),
            routes: Arc::clone(&self.routes),
            failed: Arc::clone(&self.failed),
        }
    }

    /// Takes in what has happened and says what is to be done.
    pub(crate) fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Request { ticket, command } => self.queue.push((ticket, command)),
            Event::Report { ticket, report } => {
                let reply = self.take_report(report, now, &mut effects);
                effects.push(Effect::Answer { ticket, answer: Answer::Report(reply) });
            }
            Event::GatewayReport { ticket, report } => {
                self.take_gateway_report(report, now);
                let answer = Answer::Report(ReportReply::default());
                effects.push(Effect::Answer { ticket, answer });
            }
            Event::Stored => self.stored(&mut effects),
            Event::StoreFailed { message } => self.store_failed(&message, now, &mut effects),
            Event::Turn => self.turn(now, &mut effects),
        }
        effects
    }

    fn stored(&mut self, effects: &mut Vec<Effect>) {
        let Some(storing) = self.storing.take() else { return };
        self.note_moved_nodes(&storing.changed);
        self.durable = self.state.clone();
        self.published_due.extend(storing.changed);
        for (ticket, outcome) in storing.answers {
            effects.push(Effect::Answer { ticket, answer: Answer::Outcome(outcome) });
        }
    }

    fn store_failed(&mut self, message: &str, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(storing) = self.storing.take() else { return };
        self.state = self.durable.clone();
        self.agenda.touch_all();
        self.stalled_until = now.after(STORE_RETRY);
        self.events.splice(0..0, storing.events);
        for (ticket, _) in storing.answers {
            let answer = Answer::Outcome(Err(Trouble::Storage(message.into())));
            effects.push(Effect::Answer { ticket, answer });
        }
    }

    fn turn(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.storing.is_some() {
            return;
        }
        // What the batch before made durable is told before anything is built on it.
        self.publish(now, effects);
        let mut changed = BTreeSet::new();
        let mut answers = Vec::new();
        for (ticket, command) in std::mem::take(&mut self.queue) {
            let outcome = self.apply(command, now, &mut changed, effects);
            answers.push((ticket, outcome.map_err(Trouble::Refused)));
        }
        let wake_at = match self.stalled_until {
            until if until > now => Some(until),
            _ => self.plan(now, &mut changed, effects),
        };
        effects.extend(wake_at.map(Effect::WakeAt));
        if changed.is_empty() {
            // Nothing to store: answers are true already.
            for (ticket, outcome) in answers {
                effects.push(Effect::Answer { ticket, answer: Answer::Outcome(outcome) });
            }
            self.publish(now, effects);
            return;
        }
        let events = std::mem::take(&mut self.events);
        let objects = changed.iter().map(|key| (key.clone(), self.state.object(key))).collect();
        effects.push(Effect::Store(Batch { objects, events: events.clone() }));
        self.storing = Some(Storing { answers, changed, events });
    }

    fn apply(
        &mut self,
        command: Command,
        now: Timestamp,
        changed: &mut BTreeSet<Key>,
        effects: &mut Vec<Effect>,
    ) -> Result<Applied, Refusal> {
        let applied = self.state.apply(command, now)?;
        for event in &applied.events {
            self.notice(event.clone(), effects);
        }
        self.touch(&applied.changed);
        changed.extend(applied.changed.iter().cloned());
        Ok(applied)
    }

    /// Puts on the agenda what a change concerns.
    fn touch(&mut self, changed: &BTreeSet<Key>) {
        for key in changed {
            match key {
                Key::Service(id) | Key::Revision(id, _) => self.agenda.touch(id),
                Key::Instance(id) => self.agenda.touch(&id.service),
                Key::Node(id) => self.agenda.touch_node(&self.state, id),
                Key::Deployment(id) => {
                    let deployment = self.state.deployment(*id);
                    for m in deployment.iter().flat_map(|deployment| &deployment.moves) {
                        self.agenda.touch(&m.service);
                    }
                }
                Key::Gateway(_) => self.agenda.touch_all(),
                Key::Meta => {}
            }
        }
    }

    /// Plans and adopts until there is nothing more to do now. Returns when to plan again.
    fn plan(
        &mut self,
        now: Timestamp,
        changed: &mut BTreeSet<Key>,
        effects: &mut Vec<Effect>,
    ) -> Option<Timestamp> {
        for _ in 0..ROUNDS_MAX {
            let plan = self.agenda.plan(&self.state, &self.observed, now);
            if plan.steps.is_empty() {
                return plan.wake_at;
            }
            for step in plan.steps {
                let service = step.service().clone();
                // A refused step was overtaken by one before it: its service is planned again.
                if self.apply(Command::Adopt(step), now, changed, effects).is_err() {
                    self.agenda.touch(&service);
                }
            }
        }
        Some(now)
    }
}
