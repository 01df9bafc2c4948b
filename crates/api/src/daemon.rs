//! What agents and gateways tell a server, and are told. Whole documents with generations: the
//! newer one wins, and a lost one is made good by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Given, InstanceId, NodeId, RevisionNumber, Spec, Status};
use serde::{Deserialize, Serialize};

/// What one node should run. A line of the assignments stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignments {
    /// Rises with every change, also over restarts of servers.
    pub generation: u64,
    /// Whether `set` is all there is: what is not in it should not run. Otherwise this document
    /// is the one before with `set` put in and `removed` taken out. The first of a stream is whole.
    pub whole: bool,
    /// What should run, or should stop.
    pub set: Vec<Assignment>,
    /// What should be stopped if it still runs, and forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<InstanceId>,
}

/// One instance that a node should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The instance.
    pub instance: InstanceId,
    /// The revision it was placed at.
    pub revision: RevisionNumber,
    /// What is wanted of it.
    pub goal: Assigned,
    /// What the node gave it: its fields are fields of the assignment, such as `ports`.
    #[serde(flatten)]
    pub given: Given,
    /// Whenever this changes, what waits after failures is started at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// Variables of this instance beside those of its spec, which win over them. `${MUSTER_RUN}`,
    /// and so each variable that the agent itself sets, stands for its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What to run and how to check it. Between two documents only what needs no new start
    /// changes: checks, restart, stop, labels.
    pub spec: Arc<Spec>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What is wanted of an assigned instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assigned {
    /// It should run.
    Run,
    /// It should stop; once it has, that is reported until the assignment is removed.
    Stop,
}

/// What an agent reports. Sent at once when something changes, and as a sign of life otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The node.
    pub node: NodeId,
    /// Tells apart the lives of agents: what one says of another's is not believed.
    #[serde(default)]
    pub life: u64,
    /// Rises with each report of that life, from 1. A report that arrives after a later one is
    /// not listened to. Reports without numbers, of older agents, are taken as they come.
    #[serde(default)]
    pub number: u64,
    /// The generation of assignments it follows.
    pub generation: u64,
    /// Whether `instances` is all there is. Each connection's first report is whole.
    pub whole: bool,
    /// What has changed since the report before, or everything.
    pub instances: Vec<(InstanceId, Status)>,
}

/// What a server answers to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportReply {
    /// The server does not know the whole truth yet: the next report should be whole.
    #[serde(alias = "tell_all")]
    pub resync: bool,
}

/// What a gateway reports: at once after it has switched tables or the last request of a leaving
/// instance is done, and as a sign of life otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// Its node.
    pub node: NodeId,
    /// The generation of the table that all new requests follow.
    pub generation: u64,
    /// The instances that are not in that table and still have requests under way.
    pub busy: BTreeSet<InstanceId>,
    /// The listeners it could not open, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(model::Listen, String)>,
}
