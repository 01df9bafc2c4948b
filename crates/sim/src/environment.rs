//! The environment of every process: time, chance, the network, and the records of the simulation.
//! Shells get it as a parameter; they share nothing else.

use std::collections::BTreeSet;
use std::fmt;

use model::Term;

use crate::bug::InjectedBug;
use crate::event::SimEvent;
use crate::history::History;
use crate::message::{Call, Caller, Line, Reply};
use crate::network::Location;
use crate::observation::Observation;
use crate::process::{Conn, Rpc};
use crate::queue::Moment;
use crate::scheduler::Scheduler;
use crate::transport::Transport;

/// The environment of the processes.
pub(crate) struct Environment {
    pub(crate) scheduler: Scheduler,
    pub(crate) transport: Transport,
    pub(crate) history: History,
    /// The observations since the last step.
    pub(crate) observations: Vec<Observation>,
    pub(crate) bug: Option<InjectedBug>,
    /// The fault phase is over: no new fault begins.
    pub(crate) healed: bool,
    /// The terms of servers with the wrong store.
    pub(crate) wrong_terms: BTreeSet<Term>,
}

impl Environment {
    pub(crate) fn now(&self) -> Moment {
        self.scheduler.now()
    }

    /// A number that was never returned before.
    pub(crate) fn number(&mut self) -> u64 {
        self.scheduler.number()
    }

    /// Draws an event with the probability `1 / one_in`.
    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.scheduler.rng.u64(0..one_in) == 0
    }

    /// Draws a number of milliseconds.
    pub(crate) fn span(&mut self, range: impl std::ops::RangeBounds<u64>) -> u64 {
        self.scheduler.rng.u64(range)
    }

    /// Schedules an event `span` milliseconds from now.
    pub(crate) fn after(&mut self, span: u64, event: SimEvent) {
        self.scheduler.after(span, event);
    }

    /// Adds a line to the history.
    pub(crate) fn note(&mut self, line: impl fmt::Display) {
        self.history.note(self.scheduler.now(), line);
    }

    /// Records a fact for the invariants.
    pub(crate) fn observe(&mut self, observation: Observation) {
        self.observations.push(observation);
    }

    /// Records that a shell saw an invariant violated.
    pub(crate) fn violated(&mut self, invariant: &'static str, detail: String) {
        self.observe(Observation::Violated { invariant, detail });
    }

    /// Sends a request to the server.
    pub(crate) fn call(&mut self, from: Location, caller: Caller, call: Call) {
        self.transport.call(&mut self.scheduler, from, caller, call);
    }

    /// Sends a response.
    pub(crate) fn reply(&mut self, to: &Location, rpc: Rpc, reply: Reply) {
        self.transport.reply(&mut self.scheduler, to, rpc, reply);
    }

    /// Appends a line to a stream.
    pub(crate) fn send_line(&mut self, conn: Conn, line: Line) {
        self.transport.send_line(&mut self.scheduler, conn, line);
    }
}
