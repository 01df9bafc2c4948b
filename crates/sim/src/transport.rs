//! Requests, responses and streams on their way through the network.

use std::collections::{BTreeMap, VecDeque};

use crate::event::SimEvent;
use crate::message::{Call, Caller, Line, Reply};
use crate::network::{Location, Network};
use crate::process::{Conn, Incarnation, Process, Rpc};
use crate::queue::Moment;
use crate::scheduler::Scheduler;

/// A request without a response fails after this time.
const RESPONSE_TIMEOUT_MS: u64 = 5_000;

/// The requests and streams in flight.
pub(crate) struct Transport {
    pub(crate) network: Network,
    /// Requests that were neither answered nor timed out.
    pending: BTreeMap<Rpc, Caller>,
    streams: BTreeMap<Conn, Stream>,
}

/// A stream from the server to a daemon: its lines arrive in order or not at all.
struct Stream {
    to: Process,
    /// The incarnation of the reader, once the response that opened the stream has arrived.
    reader: Option<Incarnation>,
    opened_at: Moment,
    lines: VecDeque<Line>,
}

/// A line that has arrived.
pub(crate) struct Delivery {
    pub(crate) to: Process,
    pub(crate) reader: Incarnation,
    pub(crate) line: Line,
}

impl Transport {
    pub(crate) fn new(network: Network) -> Transport {
        Transport { network, pending: BTreeMap::new(), streams: BTreeMap::new() }
    }

    /// Sends a request to the server. Exactly one [`SimEvent::Response`] reaches the caller, if
    /// only [`Reply::Failed`] after the timeout.
    pub(crate) fn call(
        &mut self,
        scheduler: &mut Scheduler,
        from: Location,
        caller: Caller,
        call: Call,
    ) {
        let rpc = scheduler.number();
        self.pending.insert(rpc, caller);
        let timeout = SimEvent::Response { rpc, reply: Reply::Failed };
        scheduler.after(RESPONSE_TIMEOUT_MS, timeout);
        if self.network.is_severed(&from, &Location::Server) {
            return;
        }
        let rng = &mut scheduler.rng;
        if self.network.is_cut(&from, &Location::Server) || self.network.loses(rng) {
            // A request sent into a broken connection may still arrive, long after its timeout.
            if rng.u64(0..3) == 0 {
                let span = rng.u64(1_000..20_000);
                scheduler.after(span, SimEvent::Request { from, rpc, call });
            }
            return;
        }
        if self.network.duplicates(rng) {
            let span = rng.u64(0..3_000);
            let (from, call) = (from.clone(), call.clone());
            scheduler.after(span, SimEvent::Request { from, rpc, call });
        }
        let latency = self.network.latency(&mut scheduler.rng);
        scheduler.after(latency, SimEvent::Request { from, rpc, call });
    }

    /// Sends a response.
    pub(crate) fn reply(
        &mut self,
        scheduler: &mut Scheduler,
        to: &Location,
        rpc: Rpc,
        reply: Reply,
    ) {
        let rng = &mut scheduler.rng;
        if self.network.is_cut(&Location::Server, to) || self.network.loses(rng) {
            return;
        }
        let latency = self.network.latency(rng);
        scheduler.after(latency, SimEvent::Response { rpc, reply });
    }

    /// The caller that a response has reached; `None` if it already has one, or is suspended and
    /// gets it later.
    pub(crate) fn receive(
        &mut self,
        scheduler: &mut Scheduler,
        rpc: Rpc,
        reply: &Reply,
    ) -> Option<Caller> {
        let process = match self.pending.get(&rpc)? {
            Caller::User(_) => None,
            Caller::Agent(node, ..) => Some(Process::Agent(node.clone())),
            Caller::Gateway(node, ..) => Some(Process::Gateway(node.clone())),
        };
        if let Some(span) = process.and_then(|process| scheduler.postponed(&process)) {
            scheduler.after(span, SimEvent::Response { rpc, reply: reply.clone() });
            return None;
        }
        self.pending.remove(&rpc)
    }

    /// Opens a stream from the server to a daemon.
    pub(crate) fn open(&mut self, scheduler: &mut Scheduler, to: Process) -> Conn {
        let conn = scheduler.number();
        let opened_at = scheduler.now();
        self.streams.insert(conn, Stream { to, reader: None, opened_at, lines: VecDeque::new() });
        conn
    }

    /// Makes an incarnation the reader of a stream; `false` if the stream has already ended.
    pub(crate) fn attach(&mut self, conn: Conn, reader: Incarnation) -> bool {
        let Some(stream) = self.streams.get_mut(&conn) else { return false };
        stream.reader = Some(reader);
        true
    }

    pub(crate) fn is_open(&self, conn: Conn) -> bool {
        self.streams.contains_key(&conn)
    }

    /// Closes a stream on the reader's side.
    pub(crate) fn close(&mut self, conn: Conn) {
        self.streams.remove(&conn);
    }

    /// Appends a line to a stream, if it is open.
    pub(crate) fn send_line(&mut self, scheduler: &mut Scheduler, conn: Conn, line: Line) {
        let Some(stream) = self.streams.get_mut(&conn) else { return };
        let is_first = stream.lines.is_empty();
        stream.lines.push_back(line);
        if is_first {
            let latency = self.network.latency(&mut scheduler.rng);
            scheduler.after(latency, SimEvent::Line(conn));
        }
    }

    /// The next line of a stream, if it arrives now.
    pub(crate) fn next_line(&mut self, scheduler: &mut Scheduler, conn: Conn) -> Option<Delivery> {
        let stream = self.streams.get_mut(&conn)?;
        let Some(reader) = stream.reader else {
            // Lines follow the response that opens the stream, which may never arrive.
            match stream.opened_at + RESPONSE_TIMEOUT_MS < scheduler.now() {
                true => drop(self.streams.remove(&conn)),
                false => scheduler.after(5, SimEvent::Line(conn)),
            }
            return None;
        };
        let to = stream.to.clone();
        let location = match &to {
            Process::Agent(node) | Process::Gateway(node) => Location::Node(node.clone()),
            Process::Server => Location::Server,
        };
        if let Some(span) = scheduler.postponed(&to) {
            scheduler.after(span, SimEvent::Line(conn));
            return None;
        }
        if self.network.is_cut(&Location::Server, &location) {
            // It is retransmitted until it gets through or the stream is closed.
            let span = scheduler.rng.u64(200..1_500);
            scheduler.after(span, SimEvent::Line(conn));
            return None;
        }
        let line = stream.lines.pop_front()?;
        if !stream.lines.is_empty() {
            let latency = self.network.latency(&mut scheduler.rng);
            scheduler.after(latency, SimEvent::Line(conn));
        }
        if matches!(line, Line::End) {
            self.streams.remove(&conn);
        }
        Some(Delivery { to, reader, line })
    }
}
