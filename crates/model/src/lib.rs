//! The data model of Muster and its rules.
//!
//! Everything here is pure: no clock, no disk, no network, no randomness. A [`State`] is the
//! desired state of the cluster. A [`Proposal`] changes it through [`State::apply`], which
//! re-checks the assumptions of its proposer and returns a refusal, never panics. This crate
//! decides which changes are *allowed*; the planner decides which are *wise*. Observations
//! ([`Observed`]) are never stored.
//!
//! Read `spec` for documents, `service` for their stored form, `state` and `apply` for the rules.

mod apply;
mod bundle;
mod bundle_change;
mod change;
mod changeset;
mod cluster;
mod constraint;
mod deploy;
mod deployment;
mod difference;
mod document;
mod event;
mod exit;
mod facts;
mod failure;
mod first_version;
pub mod foreign_name;
mod gateway;
pub mod graph;
pub mod id;
mod leadership;
mod lineage;
mod nearest;
mod node;
mod node_index;
mod not_serving;
pub mod object;
mod observed;
mod once;
mod outcome;
mod pause;
mod phase;
mod piece;
mod places;
mod principal;
mod problem;
mod proposal;
mod reason;
mod reference;
mod refusal;
mod registration;
mod request;
mod requirements;
mod retry;
mod revision;
mod routed;
mod rule_counts;
mod run;
mod scaling;
mod selection;
mod service;
mod serving;
mod size;
mod software;
mod spec;
mod stack;
mod state;
mod status;
mod steer;
mod step;
mod subnet;
pub mod unit;
mod usage;
mod validate;
mod value;
mod violation;

pub use bundle::{Bundle, BundleSpec};
pub use changeset::{Changeset, Outcome};
pub use cluster::{Cluster, ClusterId, Daemon, Mismatch, Position, Start, Term, TermStart};
pub use constraint::{Constraint, OPERATORS, Operator, Rule};
pub use deployment::{Cause, Deployment, Move, MoveState, Stage};
pub use difference::{Difference, differences};
pub use document::{Document, Subject};
pub use event::{About, Event, What};
pub use exit::{Ending, Exit};
pub use facts::Facts;
pub use failure::{Failure, Stall};
pub use gateway::{
    Backend, GATEWAY_SILENCE_MAX, Gateway, Listen, Listener, Route, RouteTable, RouteTo,
    TableRoute, endpoint,
};
pub use id::{
    DeploymentId, GatewayId, InstanceId, NodeId, ReplicaId, RequestKey, ResourceId, RevisionNumber,
    ServiceId,
};
pub use nearest::nearest;
pub use node::{Availability, Node, NodeSummary, PORTS};
pub use not_serving::{Laggard, NotServing};
pub use object::{Key, Meta, Object};
pub use observed::{Agent, GatewayStatus, Observed, Published, SILENT_AFTER};
pub use outcome::{Change, ChangeKind};
pub use pause::{Pause, PauseReport};
pub use phase::Phase;
pub use piece::{InstanceResource, Piece};
pub use principal::{Origin, Principal};
pub use problem::Problem;
pub use proposal::{Command, Guard, Proposal, Steer};
pub use reason::{Reason, Wait};
pub use reference::{Format, Number, Own, Ref};
pub use refusal::Refusal;
pub use registration::{AgentRegistration, Registration};
pub use request::{ExecutedRequest, RequestId};
pub use requirements::Requirements;
pub use revision::{BundleRef, Revision, RevisionOutcome, Source};
pub use run::{Run, RunChange};
pub use scaling::Scaling;
pub use selection::Selection;
pub use service::{FailedRevision, Given, Goal, Placement, Service, ServiceHead, Slot, StopReason};
pub use serving::not_serving;
pub use size::json_bytes;
pub use software::{GOALS, Software};
pub use spec::{
    Base64, CommandLine, Container, FileSource, FileSpec, HealthCheck, HttpProbe, Lost, Mode,
    Network, OnChange, OnFailure, Port, PortRef, Probe, Process, Program, Protocol, Pull,
    ReadinessCheck, Resource, Resources, Restart, Rollout, ScaleDown, Sha256, Signal, Spec, Stop,
    StopSignal, Task, TcpProbe, Unhealthy, Volume,
};
pub use stack::{Merged, PieceState, ResourceRef, merge};
pub use state::State;
pub use status::{CheckResult, ResourceStatus, Status};
pub use step::Step;
pub use subnet::Subnet;
pub use unit::{Bytes, Cpu, Millis, Share, Timestamp};
pub use usage::NodeUsage;
pub use value::{VALUE, Value};
pub use violation::Violation;
