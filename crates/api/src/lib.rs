//! The wire of Muster: what the daemons and the command line say to each other, and how.
//!
//! Only this crate knows the paths and the JSON of the native API. `document` has what people ask
//! and are told, `daemon` what agents and gateways tell and are told, `state` all that a server knows,
//! `path` where, `client` a
//! typed client for all of it. Every answer that is not 2xx carries an [`ErrorBody`].

mod client;
mod clock;
mod daemon;
mod document;
mod error;
pub mod path;
mod serve;
mod socket;
mod state;

pub use client::{Client, Error, Lines, SIGN_OF_LIFE};
pub use clock::now;
pub use daemon::{Assigned, Assignment, Assignments, GatewayReport, Report, ReportReply};
pub use document::{
    ApplyReply, ApplyRequest, DeploymentView, EventView, GatewayView, Health, InstanceView,
    LOG_OFFSET, LOG_SIZE, LogPartQuery, LogQuery, LogStream, MoveView, NodeState, NodeView,
    RemoveRequest, RevisionView, RolloutRequest, ScaleRequest, ServiceState, ServiceView, Source,
    UndoRequest, WaitView, Wave,
};
pub use error::{Detail, ErrorBody, ErrorCode, in_full};
pub use serve::serve;
pub use state::{ClusterState, ObservedState};
