//! Everything that can happen in a simulation.

use std::net::SocketAddr;
use std::sync::Arc;

use agent::core::CheckId;
use agent::drivers::Kind;
use model::{NodeId, Piece, RouteTable};

use crate::fault::FaultEnd;
use crate::message::{Call, Reply};
use crate::network::Location;
use crate::process::{Conn, Incarnation, Process, Rpc};

/// Something that happens at a moment.
#[derive(Debug, Clone)]
pub(crate) enum SimEvent {
    /// A request arrives at the server.
    Request {
        from: Location,
        rpc: Rpc,
        call: Call,
    },
    /// A response arrives at the caller, or the timeout of the request expires.
    Response {
        rpc: Rpc,
        reply: Reply,
    },
    /// The next line of a stream may arrive.
    Line(Conn),
    /// A process is started, unless it runs.
    Start(Process),
    Server(Incarnation, ServerEvent),
    Agent(NodeId, Incarnation, AgentEvent),
    Machine(NodeId, MachineEvent),
    Gateway(NodeId, Incarnation, GatewayEvent),
    UserActs,
    FaultBegins,
    FaultEnds(FaultEnd),
    /// The fault phase ends.
    Heal,
    /// The state of the cluster is compared with the desired state.
    CheckConvergence,
}

/// An event inside the server's shell.
#[derive(Debug, Clone)]
pub(crate) enum ServerEvent {
    Turn,
    /// A timer with its token; a newer one replaces it.
    Timer(u64),
    CheckForStall,
    StreamDue(Conn),
    /// The write in progress has ended.
    Stored,
}

/// An event inside an agent's shell.
#[derive(Debug, Clone)]
pub(crate) enum AgentEvent {
    Adopt(Kind),
    Connect,
    /// A timer with its token; a newer one replaces it.
    Timer(u64),
    Probed {
        piece: Piece,
        check: CheckId,
    },
    /// The files of a run have been written anew.
    FilesUpdated(Piece),
    /// A driver has suspended or resumed a run, or not.
    Suspended {
        piece: Piece,
        suspend: bool,
    },
    /// The write of the agent's memory with this token has ended.
    MemoryWritten(u64),
}

/// An event of a node's drivers. It happens whether an agent runs or not.
#[derive(Debug, Clone)]
pub(crate) enum MachineEvent {
    RunStarted(Piece),
    RunEnded { piece: Piece, code: Option<i32> },
}

/// An event inside a gateway's shell.
#[derive(Debug, Clone)]
pub(crate) enum GatewayEvent {
    Connect,
    /// A report with its token is due; a newer one replaces it.
    ReportDue(u64),
    RetryListeners,
    Opened(SocketAddr),
    Switch {
        thread: usize,
        table: Arc<RouteTable>,
    },
    RequestArrives,
    RequestEnds(u64),
}

impl SimEvent {
    /// The process that must not be suspended for the event to happen.
    pub(crate) fn process(&self) -> Option<Process> {
        match self {
            SimEvent::Request { .. } | SimEvent::Server(..) => Some(Process::Server),
            SimEvent::Agent(node, ..) => Some(Process::Agent(node.clone())),
            SimEvent::Gateway(node, ..) => Some(Process::Gateway(node.clone())),
            _ => None,
        }
    }
}
