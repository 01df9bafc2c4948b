//! Messages between the processes: requests to the server, its responses, and lines of streams.

use std::sync::Arc;

use api::{GatewayReport, Report, ReportReply};
use model::{Changeset, Command, NodeId, Position, Registration, RequestId, RouteTable};
use server::control::RequestError;

use crate::process::{Conn, Incarnation};

/// A request to the server.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Command {
        id: RequestId,
        command: Box<Command>,
    },
    Register(Registration),
    Assignments(NodeId),
    Routes,
    Report(Report),
    GatewayReport(GatewayReport),
    /// The request of a daemon, with the newest position that it knows.
    OfDaemon(Option<Position>, Box<Call>),
}

/// The response to a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Changeset(Result<Changeset, RequestError>),
    Reported(Result<ReportReply, RequestError>),
    Stream(Conn),
    /// The server rejects the request.
    Rejected,
    /// The response to a daemon, with the position of the server.
    Stated(Option<Position>, Box<Reply>),
    /// No response arrived: the request may or may not have been executed.
    Failed,
}

/// The sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A user, with the number of the command.
    User(u64),
    Agent(NodeId, Incarnation, Purpose),
    Gateway(NodeId, Incarnation, Purpose),
}

/// The purpose of a daemon's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Register,
    Follow,
    /// A report, with its number.
    Report(u64),
}

/// A line of a stream.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    Assignments(api::Assignments),
    Routes(Arc<RouteTable>),
    /// The stream has ended.
    End,
}
