//! The shell around the server's core: a store that may lose power, streams, answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::EventView;
use model::{Command, NodeId, RouteTable, Timestamp};
use server::absence::Absence;
use server::assigned;
use server::control::{self, Answer, Core, Effect, Event, Snapshot, Ticket};
use server::{Apps, persist};
use store::Txn;

use crate::LOST_AFTER;
use crate::clock::{Clock, Steady};
use crate::disk::Disk;
use crate::network::Place;
use crate::tamper::Tamper;
use crate::world::{Call, Conn, Happening, Life, Line, Process, Reply, Rpc, Stream, World};

/// How often a server looks up.
const LOOK_MS: u64 = server::REFRESH.as_millis() as u64;

/// The server, which runs or not, and its disk.
pub(crate) struct ServerProcess {
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) running: Option<Running>,
    /// What becomes of writes.
    pub(crate) trouble: Trouble,
}

/// What becomes of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// Nothing is written.
    Full,
    /// A flush fails: what has been written is not known, and the server ends.
    Broken,
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) life: Life,
    core: Core,
    steady: Steady,
    absence: Absence,
    pub(crate) snapshot: Snapshot,
    routes: Arc<RouteTable>,
    generation: u64,
    apps: Apps,
    waiting: BTreeMap<Ticket, (Rpc, Place)>,
    /// The write under way, and how long it takes.
    storing: Option<Txn>,
    turn_is_due: bool,
    wake: u64,
    streams: BTreeMap<Conn, Told>,
}

/// A stream as the server sees it.
enum Told {
    Assignments(assigned::Stream),
    /// The generation of the table that was sent last.
    Routes(u64),
}

impl ServerProcess {
    pub(crate) fn new() -> ServerProcess {
        ServerProcess {
            clock: Clock::drifting(0),
            disk: Disk::default(),
            running: None,
            trouble: Trouble::None,
        }
    }
}

impl World {
    fn server_now(&mut self) -> Timestamp {
        let (clock, moment) = (self.server.clock, self.queue.now());
        match &mut self.server.running {
            Some(running) => running.steady.now(clock, moment),
            None => clock.at(moment),
        }
    }

    pub(crate) fn server_starts(&mut self) {
        if self.server.running.is_some() {
            return;
        }
        if self.server.trouble != Trouble::None {
            // It cannot write that it leads: whoever starts it tries again.
            let span = self.rng.u64(500..2_000);
            self.queue.after(span, Happening::ServerStarts);
            return;
        }
        let (clock, moment) = (self.server.clock, self.now());
        let mut steady = Steady::new(clock, moment);
        let now = steady.now(clock, moment);
        let loaded = self.server.disk.load().expect("what a server has stored can be read");
        let persist::Loaded { mut state, mut events } = loaded;
        self.law_of_loading(&state);
        let batch = control::lead(&mut state, &mut events, now).expect("anyone may lead");
        let txn = persist::txn(batch).expect("a batch can be written");
        self.server.disk.commit(txn);
        let life = self.number();
        let epoch = state.meta().epoch;
        let numbers: Vec<u64> = events.iter().map(|event: &EventView| event.number).collect();
        let core = Core::new(state, LOST_AFTER, numbers, now);
        let snapshot = core.snapshot();
        self.history.note(moment, format_args!("server starts, epoch {epoch}"));
        self.server.running = Some(Running {
            life,
            core,
            steady,
            absence: Absence::new(server::REFRESH, now),
            snapshot,
            routes: Arc::default(),
            generation: epoch << 32,
            apps: Apps::default(),
            waiting: BTreeMap::new(),
            storing: None,
            turn_is_due: false,
            wake: 0,
            streams: BTreeMap::new(),
        });
        self.turn_soon();
        self.queue.after(LOOK_MS, Happening::ServerLooks(life));
    }

    /// The server looks up from time to time, so that it notices when it stood still.
    pub(crate) fn server_looks(&mut self, life: Life) {
        if self.server.running.as_ref().is_some_and(|running| running.life == life) {
            self.look_up();
            self.queue.after(LOOK_MS, Happening::ServerLooks(life));
        }
    }

    /// What was not heard while the server stood still is held against nobody.
    fn look_up(&mut self) {
        let now = self.server_now();
        let Some(running) = &mut self.server.running else { return };
        if let Some(span) = running.absence.until(now) {
            running.core.handle(Event::Absent { span }, now);
        }
    }

    /// The server is gone between two instructions. What it was writing may have been written.
    pub(crate) fn server_dies(&mut self, why: &str) {
        let Some(running) = self.server.running.take() else { return };
        self.history.note(self.now(), format_args!("server {why}"));
        if let Some(txn) = running.storing {
            // A write is whole or not there; that it was not answered says neither.
            if self.rng.bool() {
                self.server.disk.commit(txn);
            }
        }
        self.asleep.remove(&Process::Server);
        for (rpc, place) in running.waiting.into_values() {
            self.reply(&place, rpc, Reply::Failed);
        }
        for conn in running.streams.into_keys() {
            self.send_line(conn, Line::End);
        }
    }

    pub(crate) fn server_is_asked(&mut self, from: Place, rpc: Rpc, call: Call) {
        if self.server.running.is_none() {
            self.reply(&from, rpc, Reply::Failed);
            return;
        }
        let event = |ticket: Ticket, command: Command| Event::Request { ticket, command };
        let ticket = self.number();
        let event = match call {
            Call::Command(command) => event(ticket, *command),
            Call::Register(registration) => event(ticket, Command::Register(registration)),
            Call::Report(report) => Event::Report { ticket, report },
            Call::GatewayReport(report) => Event::GatewayReport { ticket, report },
            Call::Assignments(node) => return self.follow_assignments(&from, rpc, node),
            Call::Routes => return self.follow_routes(&from, rpc),
        };
        if let Some(running) = &mut self.server.running {
            running.waiting.insert(ticket, (rpc, from));
        }
        self.server_takes(event);
        self.turn_soon();
    }

    fn follow_assignments(&mut self, from: &Place, rpc: Rpc, node: NodeId) {
        let Some(running) = &self.server.running else { return };
        if running.snapshot.state.node(&node).is_none() {
            self.reply(from, rpc, Reply::Refused);
            return;
        }
        let told = Told::Assignments(assigned::Stream::new(node.clone()));
        self.open_stream(from, rpc, Process::Agent(node), told);
    }

    fn follow_routes(&mut self, from: &Place, rpc: Rpc) {
        let Place::Node(node) = from.clone() else { return };
        self.open_stream(from, rpc, Process::Gateway(node), Told::Routes(0));
    }

    fn open_stream(&mut self, from: &Place, rpc: Rpc, to: Process, told: Told) {
        let conn = self.number();
        // Its reader makes it its own when the answer comes.
        let opened_at = self.now();
        let stream = Stream { to, life: None, opened_at, lines: Default::default() };
        self.streams.insert(conn, stream);
        let Some(running) = &mut self.server.running else { return };
        let life = running.life;
        running.streams.insert(conn, told);
        self.reply(from, rpc, Reply::Stream(conn));
        self.stream_soon(life, conn);
    }

    fn stream_soon(&mut self, life: Life, conn: Conn) {
        // The task that writes a stream runs when it runs.
        let span = self.rng.u64(3..9);
        self.queue.after(span, Happening::StreamDue(life, conn));
    }

    /// A stream is told what is new by now.
    pub(crate) fn stream_due(&mut self, life: Life, conn: Conn) {
        if !self.streams.contains_key(&conn) {
            if let Some(running) = &mut self.server.running {
                running.streams.remove(&conn);
            }
            return;
        }
        let Some(running) = self.server.running.as_mut().filter(|r| r.life == life) else { return };
        let line = match running.streams.get_mut(&conn) {
            None => None,
            Some(Told::Assignments(stream)) => {
                let state = &running.snapshot.state;
                match state.node(stream.node()) {
                    None => Some(Line::End),
                    Some(_) => {
                        stream.next(state, running.generation, &running.apps).map(Line::Assignments)
                    }
                }
            }
            Some(Told::Routes(sent)) if running.routes.generation > *sent => {
                *sent = running.routes.generation;
                Some(Line::Routes(Arc::clone(&running.routes)))
            }
            Some(Told::Routes(_)) => None,
        };
        if let Some(line) = line {
            self.send_line(conn, line);
        }
    }

    fn turn_soon(&mut self) {
        let Some(running) = &mut self.server.running else { return };
        if !std::mem::replace(&mut running.turn_is_due, true) {
            let life = running.life;
            let span = self.rng.u64(0..2);
            self.queue.after(span, Happening::ServerTurns(life));
        }
    }

    pub(crate) fn server_turns(&mut self, life: Life) {
        let Some(running) = self.server.running.as_mut().filter(|r| r.life == life) else { return };
        running.turn_is_due = false;
        running.wake += 1;
        self.server_takes(Event::Turn);
    }

    pub(crate) fn server_wakes(&mut self, life: Life, token: u64) {
        let running = self.server.running.as_ref();
        if running.is_some_and(|running| running.life == life && running.wake == token) {
            self.server_turns(life);
        }
    }

    /// The write under way has ended.
    pub(crate) fn stored(&mut self, life: Life) {
        let Some(running) = self.server.running.as_mut().filter(|r| r.life == life) else { return };
        match self.server.trouble {
            Trouble::None => {
                let Some(txn) = running.storing.take() else { return };
                match self.tamper {
                    Some(Tamper::NoFlush) => self.server.disk.write(txn),
                    _ => self.server.disk.commit(txn),
                }
                self.server_takes(Event::Stored);
                self.turn_soon();
            }
            Trouble::Full => {
                running.storing = None;
                let message = "no space left on device".into();
                self.server_takes(Event::StoreFailed { message });
                self.turn_soon();
            }
            Trouble::Broken => self.server_dies("ends: it cannot trust its disk any more"),
        }
    }

    fn server_takes(&mut self, event: Event) {
        self.look_up();
        let now = self.server_now();
        let Some(running) = &mut self.server.running else { return };
        let life = running.life;
        for effect in running.core.handle(event, now) {
            self.server_performs(life, effect, now);
        }
    }

    fn server_performs(&mut self, life: Life, effect: Effect, now: Timestamp) {
        let Some(running) = &mut self.server.running else { return };
        match effect {
            Effect::Store(batch) => {
                let (before, after) = (running.core.snapshot(), running.core.proposed().clone());
                self.laws_of_decision(&before, &after, now);
                let Some(running) = &mut self.server.running else { return };
                running.storing = Some(persist::txn(batch).expect("a batch can be written"));
                let span = if self.chance(20) { 400 } else { 12 };
                let span = self.rng.u64(1..span);
                self.queue.after(span, Happening::Stored(life));
            }
            Effect::Answer { ticket, answer } => {
                let Some((rpc, place)) = running.waiting.remove(&ticket) else { return };
                let reply = match answer {
                    Answer::Outcome(outcome) => Reply::Changeset(outcome),
                    Answer::Report(outcome) => Reply::Reported(outcome),
                };
                self.reply(&place, rpc, reply);
            }
            Effect::Routes(table) => {
                running.routes = Arc::clone(&table);
                self.law_of_routes(&table);
                self.streams_due(life, |told| matches!(told, Told::Routes(_)));
            }
            Effect::Assignments { generation, nodes } => {
                running.generation = generation;
                self.law_of_generations(generation);
                self.streams_due(life, |told| match told {
                    Told::Assignments(stream) => nodes.contains(stream.node()),
                    Told::Routes(_) => false,
                });
            }
            Effect::Publish(snapshot) => {
                running.snapshot = snapshot;
                let state = running.snapshot.state.clone();
                self.law_of_promises(&state);
            }
            Effect::Tell(event) => {
                let line = format!(
                    "{} {}: {}",
                    event.event.kind, event.event.subject, event.event.message
                );
                self.history.note(self.now(), line);
                self.law_of_events(event.number);
            }
            Effect::WakeAt(at) => {
                let token = running.wake;
                self.queue.after(at.since(now).0, Happening::ServerWakes(life, token));
            }
        }
    }

    fn streams_due(&mut self, life: Life, which: impl Fn(&Told) -> bool) {
        let Some(running) = &self.server.running else { return };
        let due = running.streams.iter().filter(|(_, told)| which(told));
        let due: Vec<Conn> = due.map(|(conn, _)| *conn).collect();
        for conn in due {
            self.stream_soon(life, conn);
        }
    }
}
