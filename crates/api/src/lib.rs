//! The wire of Muster: the paths, documents and connections between daemons, command line and UI.
//!
//! Only this crate knows the paths and the JSON of the native API. `document` has the requests and
//! replies for people, `daemon` those for agents and gateways, `state` the full state of a server;
//! `path` has the paths, `client` a typed client, `serve` the server side of a connection, and
//! `backoff` the delay before connecting again. Every response that is not 2xx carries an
//! [`ErrorBody`].

mod backoff;
mod body;
mod client;
mod clock;
mod daemon;
mod document;
mod error;
mod membership;
pub mod path;
mod serve;
mod socket;
mod state;

pub use backoff::Backoff;
pub use client::{Client, Error, HEARTBEAT, Lines, REQUEST_ID};
pub use clock::now;
pub use daemon::{
    Assigned, Assignment, Assignments, GatewayReport, Report, ReportReply, Unreadable,
    stored_assignments,
};
pub use document::{
    AcceptLossRequest, ApplyReply, ApplyRequest, ChangedKeys, ClusterView, DeploymentView,
    EventView, FailedRevisionView, FreezeRequest, GatewayView, Health, InstanceView, LOG_OFFSET,
    LOG_SIZE, LogPartQuery, LogQuery, LogStream, MoveView, NodeState, NodeView, RefusedView,
    RemoveRequest, RevisionView, RolloutRequest, RunRequest, ScaleRequest, ServiceState,
    ServiceView, Source, StopUnknownRequest, UndoRequest, WaitView, Wave,
};
pub use error::{Detail, ErrorBody, ErrorCode, error_chain};
pub use membership::{Caller, DAEMON, Membership, POSITION, Save};
pub use serve::serve;
pub use state::{ClusterState, ObservedState};
