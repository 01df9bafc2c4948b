//! What people ask for and are told.

use model::{
    Change, Deployment, DeploymentId, Event, FailedRevision, Failure, Gateway, Goal, InstanceId,
    Millis, Node, NodeId, Phase, ResourceId, Resources, Revision, RevisionNumber, ServiceId, Spec,
    Status, Steer, Step, TableRoute, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether a server answers for the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// The version of the server.
    pub version: String,
}

/// A text with documents, and the name to use in messages about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// A file's name, or `-`.
    pub name: String,
    /// Its content: native documents in YAML or JSON, or a document of a foreign system.
    pub text: String,
}

/// Carry documents out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The documents.
    pub sources: Vec<Source>,
    /// Only show what would happen; nothing is changed.
    #[serde(default)]
    pub plan: bool,
}

/// What came, or would come, of a request that changes things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyReply {
    /// What became of each thing.
    pub changes: Vec<Change>,
    /// The deployment that carries it out, if it takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// For a plan: what would be done, wave after wave, each once the one before has worked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Wave>,
    /// For a plan: what would still be waited for at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitView>,
}

/// Steps that are taken together, once those of the wave before have worked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wave {
    /// The steps.
    pub steps: Vec<Step>,
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitView {
    /// The service that waits.
    pub service: ServiceId,
    /// In words, for what.
    pub message: String,
    /// The same as data.
    pub wait: model::Wait,
}

/// Change a number of instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// The service.
    pub service: ServiceId,
    /// How many should run.
    pub instances: u32,
}

/// Stop and forget services, those that depend on others of them first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveRequest {
    /// The services.
    pub services: Vec<ServiceId>,
}

/// Go back to an earlier revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    /// The service.
    pub service: ServiceId,
    /// The revision; left out, the one before.
    #[serde(default)]
    pub to: Option<RevisionNumber>,
}

/// Steer the deployment of a service, or one by its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// The service.
    #[serde(default)]
    pub service: Option<ServiceId>,
    /// The deployment.
    #[serde(default)]
    pub deployment: Option<DeploymentId>,
    /// What to do with it.
    #[serde(default)]
    pub how: Option<Steer>,
}

/// A service in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// All instances are ready at the revision wanted.
    Running,
    /// On its way to a revision.
    Deploying,
    /// Nothing moves, but not all instances are ready.
    Degraded,
    /// Going away.
    Removing,
}

/// A service as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its path.
    pub service: ServiceId,
    /// In one word.
    pub state: ServiceState,
    /// How many instances should run.
    pub instances: u32,
    /// How many run at the revision wanted.
    pub running: u32,
    /// How many of these are healthy.
    pub healthy: u32,
    /// How many of these are ready for traffic.
    pub ready: u32,
    /// How many others have not ended.
    pub outgoing: u32,
    /// The revision wanted.
    pub revision: RevisionNumber,
    /// The image or command of it.
    pub runs: String,
    /// When that revision was applied.
    pub applied_at: Timestamp,
    /// The deployment that moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// The revision that failed, until another one is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedRevisionView>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitView>,
    /// What is wanted.
    pub spec: Arc<Spec>,
    /// Its revisions, newest first; only when one service is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<RevisionView>,
}

/// A revision.
pub type RevisionView = Arc<Revision>;

/// An instance as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its id.
    pub instance: InstanceId,
    /// Its service.
    pub service: ServiceId,
    /// Its node.
    pub node: NodeId,
    /// The address of that node.
    pub address: String,
    /// Its ports there.
    pub ports: Vec<u16>,
    /// The revision it was placed at.
    pub revision: RevisionNumber,
    /// Whether that needs no new start to be what is wanted.
    pub current: bool,
    /// What is wanted of it.
    pub goal: Goal,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// How far it is.
    pub phase: Phase,
    /// All that its agent reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why it gets no traffic, if it gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_serving: Option<String>,
}

/// A node in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Its daemons call.
    Ready,
    /// Its agent has not called for a while.
    Silent,
    /// It has been silent for so long that its instances are replaced.
    Lost,
}

/// A node as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// What it is and has.
    pub node: Node,
    /// In one word.
    pub state: NodeState,
    /// When its agent was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    /// What its instances use.
    pub used: Resources,
    /// How many instances are placed on it.
    pub instances: u32,
}

/// A deployment as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentView {
    /// The deployment.
    pub deployment: Deployment,
    /// The sentence of the failure in its stage, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its services' progress, in the order of its moves.
    pub moves: Vec<MoveView>,
}

/// A revision that failed and is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRevisionView {
    /// Its number.
    pub revision: RevisionNumber,
    /// The sentence of `failure`, for people.
    pub reason: String,
    /// Why its deployment failed, as data.
    pub failure: Arc<Failure>,
    /// When its deployment failed.
    pub at: Timestamp,
}

impl From<&FailedRevision> for FailedRevisionView {
    fn from(failed: &FailedRevision) -> Self {
        let FailedRevision { revision, reason, at } = failed;
        let failure = Arc::clone(reason);
        Self { revision: *revision, reason: failure.to_string(), failure, at: *at }
    }
}

/// How far a service is in a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveView {
    /// The service.
    pub service: ServiceId,
    /// How many instances should be ready.
    pub wanted: u32,
    /// How many are.
    pub ready: u32,
    /// How many of other revisions have not ended.
    pub outgoing: u32,
    /// When it will have failed, unless it makes progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_in: Option<Millis>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitView>,
}

/// A gateway document as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayView {
    /// The document.
    pub gateway: Gateway,
    /// Its routes with their backends.
    pub routes: Vec<TableRoute>,
    /// The gateways (by node) that follow the newest table.
    pub followed_by: Vec<NodeId>,
    /// The gateways that cannot open its listener, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(NodeId, String)>,
}

/// An event with its number: a later event has a higher one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// The number.
    pub number: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// Which output to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The instance.
    pub instance: InstanceId,
    /// A resource of its stack. Left out, all of them; each line then begins with the name of its
    /// resource, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
    /// Which of the output streams.
    #[serde(default)]
    pub stream: LogStream,
    /// At most this number of the last lines of each resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Continue with new output.
    #[serde(default)]
    pub follow: bool,
}

/// Which part of one output stream to return. Bytes are counted from the beginning of the first
/// run, including those that are no longer kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogPartQuery {
    /// The instance.
    pub instance: InstanceId,
    /// A resource of its stack; left out, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
    /// Which of the output streams: one.
    pub stream: LogStream,
    /// The position of the first byte.
    pub offset: u64,
    /// The greatest length; with 0, only the headers are of use.
    pub length: u64,
}

/// The header with the position of the first byte of the part: later than requested, if that is
/// no longer kept.
pub const LOG_OFFSET: &str = "muster-log-offset";
/// The header with the length of the stream so far.
pub const LOG_SIZE: &str = "muster-log-size";

impl LogPartQuery {
    /// The path that answers it.
    pub fn path(&self) -> String {
        let stream = self.stream.name().map(|stream| ("stream", stream.to_string()));
        let resource = self.resource.as_ref().map(|resource| ("resource", resource.to_string()));
        let pairs = [
            ("instance", self.instance.to_string()),
            ("offset", self.offset.to_string()),
            ("length", self.length.to_string()),
        ];
        crate::path::query(crate::path::LOG_PART, pairs.into_iter().chain(resource).chain(stream))
    }
}

impl LogQuery {
    /// The path that answers it.
    pub fn path(&self) -> String {
        let pairs = [
            Some(("instance", self.instance.to_string())),
            self.resource.as_ref().map(|resource| ("resource", resource.to_string())),
            self.stream.name().map(|stream| ("stream", stream.to_string())),
            self.tail.map(|tail| ("tail", tail.to_string())),
            self.follow.then(|| ("follow", "true".to_string())),
        ];
        crate::path::query(crate::path::LOGS, pairs.into_iter().flatten())
    }
}

/// One or both of the output streams of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Both.
    #[default]
    All,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogStream {
    /// The name of a stream, if it is one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            LogStream::All => None,
            LogStream::Stdout => Some("stdout"),
            LogStream::Stderr => Some("stderr"),
        }
    }
}
