//! The cluster: all its processes, what is between them, and what happens next.
//!
//! [`World::go`] takes one happening after the other and hands it to whom it concerns: `server`,
//! `agent`, `machine`, `gateway` and `user` are the shells around the cores, `fault` breaks things,
//! `laws` watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::core::CheckId;
use api::{GatewayReport, Report, ReportReply};
use model::{
    Changeset, Command, InstanceId, NodeId, Registration, Resources, RouteTable, Timestamp,
};
use server::control::Trouble;

use crate::agent::AgentProcess;
use crate::clock::Clock;
use crate::fault::{Ending, Fault};
use crate::gateway::GatewayProcess;
use crate::history::History;
use crate::laws::Laws;
use crate::machine::Machine;
use crate::network::{Network, Place};
use crate::queue::{Moment, Queue};
use crate::server::ServerProcess;
use crate::tamper::Tamper;
use crate::user::Users;

/// Tells apart requests.
pub(crate) type Rpc = u64;
/// Tells apart streams.
pub(crate) type Conn = u64;
/// Tells apart the lives of a process.
pub(crate) type Life = u64;

/// A request to the server.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Command(Box<Command>),
    Register(Registration),
    Assignments(NodeId),
    Routes,
    Report(Report),
    GatewayReport(GatewayReport),
}

/// What comes of one.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Changeset(Result<Changeset, Trouble>),
    Reported(Result<ReportReply, Trouble>),
    Stream(Conn),
    /// The server answers that it will not.
    Refused,
    /// There was no answer, or that is not known.
    Failed,
}

/// Who has asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asker {
    User(u64),
    Agent(NodeId, Life, Purpose),
    Gateway(NodeId, Life, Purpose),
}

/// What a daemon has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Register,
    Follow,
    /// With its number.
    Report(u64),
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Process {
    Server,
    Agent(NodeId),
    Gateway(NodeId),
}

/// A line of a stream.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    Assignments(api::Assignments),
    Routes(Arc<RouteTable>),
    /// The stream has ended.
    End,
}

/// A stream from the server to a daemon: its lines come in their order, or not at all.
pub(crate) struct Stream {
    pub(crate) to: Process,
    /// The life of its reader, once that knows of it.
    pub(crate) life: Option<Life>,
    pub(crate) opened_at: Moment,
    pub(crate) lines: std::collections::VecDeque<Line>,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// A request arrives.
    Arrives {
        from: Place,
        rpc: Rpc,
        call: Call,
    },
    /// An answer arrives, or none has for too long.
    Answered {
        rpc: Rpc,
        reply: Reply,
    },
    /// The next line of a stream may arrive.
    Line(Conn),
    ServerStarts,
    ServerTurns(Life),
    ServerWakes(Life, u64),
    ServerLooks(Life),
    StreamDue(Life, Conn),
    Stored(Life),
    AgentStarts(NodeId),
    AgentAdopts(NodeId, Life, agent::drivers::Kind),
    AgentConnects(NodeId, Life),
    AgentWakes(NodeId, Life, u64),
    Probed {
        node: NodeId,
        life: Life,
        instance: InstanceId,
        run: u32,
        check: CheckId,
    },
    Remembered(NodeId, Life, u64),
    Begins {
        node: NodeId,
        instance: InstanceId,
        run: u32,
    },
    Ends {
        node: NodeId,
        instance: InstanceId,
        run: u32,
        code: Option<i32>,
    },
    GatewayStarts(NodeId),
    GatewayConnects(NodeId, Life),
    GatewayBeats(NodeId, Life, u64),
    GatewayRetries(NodeId, Life),
    Opened(NodeId, Life, std::net::SocketAddr),
    Switches {
        node: NodeId,
        life: Life,
        thread: usize,
        table: Arc<RouteTable>,
    },
    RequestBegins(NodeId, Life),
    RequestEnds(NodeId, Life, u64),
    UserActs,
    FaultBegins,
    FaultEnds(Ending),
    /// Nothing breaks from now on.
    Calm,
    /// Whether everything is as it should be.
    Look,
}

impl Happening {
    /// The process that has to be awake for it.
    fn concerns(&self) -> Option<Process> {
        match self {
            Happening::Arrives { .. }
            | Happening::ServerTurns(_)
            | Happening::ServerWakes(..)
            | Happening::ServerLooks(_)
            | Happening::StreamDue(..)
            | Happening::Stored(_) => Some(Process::Server),
            Happening::AgentAdopts(node, ..)
            | Happening::AgentConnects(node, _)
            | Happening::AgentWakes(node, ..)
            | Happening::Probed { node, .. }
            | Happening::Remembered(node, ..) => Some(Process::Agent(node.clone())),
            Happening::GatewayConnects(node, _)
            | Happening::GatewayBeats(node, ..)
            | Happening::GatewayRetries(node, _)
            | Happening::Opened(node, ..)
            | Happening::Switches { node, .. }
            | Happening::RequestBegins(node, _)
            | Happening::RequestEnds(node, ..) => Some(Process::Gateway(node.clone())),
            _ => None,
        }
    }
}

/// A machine of the cluster and the processes on it.
pub(crate) struct Host {
    pub(crate) clock: Clock,
    pub(crate) capacity: Resources,
    pub(crate) labels: BTreeMap<String, String>,
    /// Without power nothing starts.
    pub(crate) powered: bool,
    pub(crate) machine: Machine,
    pub(crate) agent: Option<AgentProcess>,
    /// How many disks it has had.
    pub(crate) disks: u32,
    /// What the agent finds on its disk when it starts.
    pub(crate) memory: agent::core::Memory,
    pub(crate) has_gateway: bool,
    pub(crate) gateway: Option<GatewayProcess>,
}

/// The cluster.
pub(crate) struct World {
    pub(crate) rng: fastrand::Rng,
    pub(crate) queue: Queue<Happening>,
    pub(crate) network: Network,
    pub(crate) server: ServerProcess,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    pub(crate) users: Users,
    pub(crate) asked: BTreeMap<Rpc, Asker>,
    pub(crate) streams: BTreeMap<Conn, Stream>,
    /// Processes that stand still, and until when.
    pub(crate) asleep: BTreeMap<Process, Moment>,
    /// Nothing breaks any more.
    pub(crate) calm: bool,
    pub(crate) faults: BTreeSet<Fault>,
    pub(crate) fault_count: u64,
    pub(crate) tamper: Option<Tamper>,
    pub(crate) laws: Laws,
    pub(crate) history: History,
    /// The last number given to a request, a stream, a life, or anything else.
    pub(crate) last_number: u64,
}

/// A request that is not answered for so long has failed.
const ANSWER_MAX_MS: u64 = 5_000;

impl World {
    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(crate) fn now(&self) -> Moment {
        self.queue.now()
    }

    pub(crate) fn host(&mut self, node: &NodeId) -> &mut Host {
        self.hosts.get_mut(node).expect("hosts are never taken away")
    }

    /// The time on a node's own clock.
    pub(crate) fn time_on(&self, node: &NodeId) -> Timestamp {
        self.hosts[node].clock.at(self.now())
    }

    /// Whether something with this chance happens.
    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.rng.u64(0..one_in) == 0
    }

    /// Takes the next happening; `false` once there is nothing more to come.
    pub(crate) fn go(&mut self) -> bool {
        let Some(happening) = self.queue.next() else { return false };
        if let Some(until) = happening.concerns().and_then(|process| self.asleep.get(&process)) {
            let span = until.saturating_sub(self.now()) + 1;
            self.queue.after(span, happening);
            return true;
        }
        self.happen(happening);
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives { from, rpc, call } => self.server_is_asked(from, rpc, call),
            Happening::Answered { rpc, reply } => self.answered(rpc, reply),
            Happening::Line(conn) => self.line(conn),
            Happening::ServerStarts => self.server_starts(),
            Happening::ServerTurns(life) => self.server_turns(life),
            Happening::ServerWakes(life, token) => self.server_wakes(life, token),
            Happening::ServerLooks(life) => self.server_looks(life),
            Happening::StreamDue(life, conn) => self.stream_due(life, conn),
            Happening::Stored(life) => self.stored(life),
            Happening::AgentStarts(node) => self.agent_starts(&node),
            Happening::AgentAdopts(node, life, kind) => self.agent_adopts(&node, life, kind),
            Happening::AgentConnects(node, life) => self.agent_connects(&node, life),
            Happening::AgentWakes(node, life, token) => self.agent_wakes(&node, life, token),
            Happening::Probed { node, life, instance, run, check } => {
                self.probed(&node, life, instance, run, check);
            }
            Happening::Remembered(node, life, token) => self.remembered(&node, life, token),
            Happening::Begins { node, instance, run } => self.run_begins(&node, &instance, run),
            Happening::Ends { node, instance, run, code } => {
                self.run_ends(&node, &instance, run, code);
            }
            Happening::GatewayStarts(node) => self.gateway_starts(&node),
            Happening::GatewayConnects(node, life) => self.gateway_connects(&node, life),
            Happening::GatewayBeats(node, life, token) => self.gateway_beats(&node, life, token),
            Happening::GatewayRetries(node, life) => self.gateway_retries(&node, life),
            Happening::Opened(node, life, address) => self.opened(&node, life, address),
            Happening::Switches { node, life, thread, table } => {
                self.switches(&node, life, thread, table);
            }
            Happening::RequestBegins(node, life) => self.request_begins(&node, life),
            Happening::RequestEnds(node, life, request) => {
                self.request_ends(&node, life, request);
            }
            Happening::UserActs => self.user_acts(),
            Happening::FaultBegins => self.fault_begins(),
            Happening::FaultEnds(ending) => self.fault_ends(ending),
            Happening::Calm => self.calm_down(),
            Happening::Look => self.look(),
        }
    }

    /// Sends a request to the server. What comes of it is an [`Happening::Answered`], at last that
    /// nothing came.
    pub(crate) fn call(&mut self, from: Place, asker: Asker, call: Call) -> Rpc {
        let rpc = self.number();
        self.asked.insert(rpc, asker);
        self.queue.after(ANSWER_MAX_MS, Happening::Answered { rpc, reply: Reply::Failed });
        if self.network.is_cut(&from, &Place::Server) || self.network.loses(&mut self.rng) {
            // What is sent into a broken line may still arrive once it is mended, long after
            // nobody waits for it any more.
            if self.chance(3) {
                let span = self.rng.u64(1_000..20_000);
                self.queue.after(span, Happening::Arrives { from, rpc, call });
            }
            return rpc;
        }
        if self.network.echoes(&mut self.rng) {
            let span = self.rng.u64(0..3_000);
            let (from, call) = (from.clone(), call.clone());
            self.queue.after(span, Happening::Arrives { from, rpc, call });
        }
        let delay = self.network.delay(&mut self.rng);
        self.queue.after(delay, Happening::Arrives { from, rpc, call });
        rpc
    }

    /// Sends an answer back.
    pub(crate) fn reply(&mut self, to: &Place, rpc: Rpc, reply: Reply) {
        if self.network.is_cut(&Place::Server, to) || self.network.loses(&mut self.rng) {
            return;
        }
        let delay = self.network.delay(&mut self.rng);
        self.queue.after(delay, Happening::Answered { rpc, reply });
    }

    fn answered(&mut self, rpc: Rpc, reply: Reply) {
        let Some(asker) = self.asked.get(&rpc) else { return };
        let process = match asker {
            Asker::User(_) => None,
            Asker::Agent(node, ..) => Some(Process::Agent(node.clone())),
            Asker::Gateway(node, ..) => Some(Process::Gateway(node.clone())),
        };
        if let Some(until) = process.and_then(|process| self.asleep.get(&process)) {
            let span = until.saturating_sub(self.now()) + 1;
            self.queue.after(span, Happening::Answered { rpc, reply });
            return;
        }
        match self.asked.remove(&rpc) {
            Some(Asker::User(ask)) => self.user_is_answered(ask, reply),
            Some(Asker::Agent(node, life, purpose)) => {
                self.agent_is_answered(&node, life, purpose, reply);
            }
            Some(Asker::Gateway(node, life, purpose)) => {
                self.gateway_is_answered(&node, life, purpose, reply);
            }
            None => {}
        }
    }

    /// Puts a line into a stream.
    pub(crate) fn send_line(&mut self, conn: Conn, line: Line) {
        let Some(stream) = self.streams.get_mut(&conn) else { return };
        let is_first = stream.lines.is_empty();
        stream.lines.push_back(line);
        if is_first {
            let delay = self.network.delay(&mut self.rng);
            self.queue.after(delay, Happening::Line(conn));
        }
    }

    fn line(&mut self, conn: Conn) {
        let Some(stream) = self.streams.get_mut(&conn) else { return };
        let to = stream.to.clone();
        let Some(life) = stream.life else {
            // Its lines come after the answer that opens it, if that ever comes.
            match stream.opened_at + ANSWER_MAX_MS < self.queue.now() {
                true => drop(self.streams.remove(&conn)),
                false => self.queue.after(5, Happening::Line(conn)),
            }
            return;
        };
        let place = match &to {
            Process::Agent(node) | Process::Gateway(node) => Place::Node(node.clone()),
            Process::Server => Place::Server,
        };
        if let Some(until) = self.asleep.get(&to) {
            let span = until.saturating_sub(self.queue.now()) + 1;
            self.queue.after(span, Happening::Line(conn));
            return;
        }
        if self.network.is_cut(&Place::Server, &place) {
            // It is sent again until it gets through, or the stream is given up.
            let span = self.rng.u64(200..1_500);
            self.queue.after(span, Happening::Line(conn));
            return;
        }
        let Some(line) = stream.lines.pop_front() else { return };
        if !stream.lines.is_empty() {
            let delay = self.network.delay(&mut self.rng);
            self.queue.after(delay, Happening::Line(conn));
        }
        if matches!(line, Line::End) {
            self.streams.remove(&conn);
        }
        match to {
            Process::Agent(node) => self.agent_reads(&node, life, conn, line),
            Process::Gateway(node) => self.gateway_reads(&node, life, conn, line),
            Process::Server => {}
        }
    }

    /// Lets a process stand still.
    pub(crate) fn suspend(&mut self, process: Process, span: u64) {
        let until = self.now() + span;
        self.asleep.insert(process.clone(), until);
        self.queue.after(span, Happening::FaultEnds(Ending::Wakes(process)));
    }
}
