//! Requests and responses for users.

use model::{
    Change, ClusterId, Daemon, Deployment, DeploymentId, Difference, Event, FailedRevision,
    Failure, Gateway, Goal, InstanceId, Millis, Mismatch, Node, NodeId, Pause, Phase, ResourceId,
    Resources, Revision, RevisionNumber, Run, ServiceId, Spec, Status, Steer, Step, TableRoute,
    Term, Timestamp,
};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The health of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// The version of the server.
    pub version: String,
    /// The cluster of the server; not stated by older servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
}

/// The identity of a cluster, and the daemons and instances that do not belong to its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The id of the cluster.
    pub cluster: ClusterId,
    /// The term of the server: it begins with each start.
    pub term: Term,
    /// The newest revision of the store.
    pub revision: u64,
    /// The daemons that do not follow this server.
    pub refused: Vec<RefusedView>,
    /// The instances that agents report and that this server did not place, by node. They keep
    /// running until an operator decides.
    pub unknown: BTreeMap<NodeId, BTreeSet<InstanceId>>,
}

/// A daemon that does not follow a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The node of the daemon.
    pub node: NodeId,
    /// Its kind.
    pub daemon: Daemon,
    /// The reason as a sentence.
    pub reason: String,
    /// The reason as data.
    pub mismatch: Mismatch,
}

/// Continues from a store that is older than refused daemons know. What they know of and the store
/// does not have is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptLossRequest {
    /// The cluster, to confirm that the server is the right one.
    pub cluster: ClusterId,
}

/// Stops instances on a node that the server did not place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopUnknownRequest {
    /// The instances.
    pub instances: BTreeSet<InstanceId>,
}

/// A string with documents, and its name in messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The name of a file, or `-` for standard input.
    pub name: String,
    /// Its content: native documents in YAML or JSON, or a document of a foreign system.
    pub text: String,
}

/// Applies documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The sources of the documents, which are applied together.
    pub sources: Vec<Source>,
    /// Return the changes and steps of a dry run; nothing is changed.
    #[serde(default)]
    pub plan: bool,
    /// Try documents of revisions that failed again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
}

/// The result of a command or of its dry run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyReply {
    /// The change of each object.
    pub changes: Vec<Change>,
    /// The deployment that the command has started, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Of a dry run: the steps in waves, each adopted after the previous wave has succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Wave>,
    /// Of a dry run: the waits that are left at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitView>,
    /// Of a dry run: the changed keys of each object that is updated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<ChangedKeys>,
}

/// The changed keys of an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangedKeys {
    /// The kind of the object: `service`, `gateway`.
    pub kind: String,
    /// The name of the object.
    pub name: String,
    /// The keys, with their values before and after.
    pub keys: Vec<Difference>,
}

/// Steps that are adopted together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wave {
    /// The steps, in the order in which they are applied.
    pub steps: Vec<Step>,
}

/// The reason why a service waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitView {
    /// The service that waits.
    pub service: ServiceId,
    /// The reason as a sentence.
    pub message: String,
    /// The reason as data.
    pub wait: model::Wait,
}

/// Changes the number of instances of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// The service.
    pub service: ServiceId,
    /// The desired number of instances. Required unless `by` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// The number of additional instances, or of fewer if it is negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<i32>,
    /// Act on a frozen service as well.
    #[serde(default)]
    pub force: bool,
}

/// Starts, pauses or stops the instances of services, in one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The services. At least one is required.
    pub services: Vec<ServiceId>,
    /// Whether their instances should run, be suspended, or not exist.
    pub run: Run,
    /// Act on frozen services as well.
    #[serde(default)]
    pub force: bool,
}

/// Freezes or thaws services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// The services. At least one is required.
    pub services: Vec<ServiceId>,
    /// Whether they are frozen.
    pub frozen: bool,
    /// Only these resources of each service.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<ResourceId>,
    /// Only the resources of each service with one of these tags.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
}

/// Removes services. Their instances are stopped, those of dependent services first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveRequest {
    /// The services. At least one is required.
    pub services: Vec<ServiceId>,
    /// Act on frozen services as well.
    #[serde(default)]
    pub force: bool,
}

/// Rolls a service back to an earlier revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    /// The service.
    pub service: ServiceId,
    /// The revision; by default the previous one.
    #[serde(default)]
    pub to: Option<RevisionNumber>,
    /// Act on a frozen service as well.
    #[serde(default)]
    pub force: bool,
}

/// Controls a deployment, which is named by its number or by a service that it moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// A service of the deployment; ignored if `deployment` is set. A restart requires it.
    #[serde(default)]
    pub service: Option<ServiceId>,
    /// The number of the deployment.
    #[serde(default)]
    pub deployment: Option<DeploymentId>,
    /// The action. Required to control a deployment, and ignored by a restart.
    #[serde(default)]
    pub how: Option<Steer>,
    /// Restart a frozen service as well. Ignored by other requests.
    #[serde(default)]
    pub force: bool,
}

/// The state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// All desired instances are ready at the target revision.
    Running,
    /// A deployment is in progress.
    Deploying,
    /// No deployment is in progress, but not all desired instances are ready.
    Degraded,
    /// Not enough instances are known to be ready, because agents have not reported to this server
    /// yet.
    Unknown,
    /// A user has stopped the service, and it has no instances.
    Stopped,
    /// A user has paused the service, and its instances are suspended.
    Paused,
    /// The service is being removed.
    Removing,
}

/// A service with its current state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The path of the service.
    pub service: ServiceId,
    /// The state of the service.
    pub state: ServiceState,
    /// The desired number of instances; it remains while the service is stopped.
    pub instances: u32,
    /// Whether the instances should run.
    #[serde(default)]
    pub run: Run,
    /// Whether nothing is done to the service automatically.
    #[serde(default)]
    pub frozen: bool,
    /// The resources that are not restarted once they have ended.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub frozen_resources: BTreeSet<ResourceId>,
    /// The number of running instances that need no restart to reach the target revision.
    pub running: u32,
    /// The number of these that are healthy.
    pub healthy: u32,
    /// The number of these that are ready for traffic.
    pub ready: u32,
    /// The number of all other instances that have not been reaped.
    pub outgoing: u32,
    /// The target revision.
    pub revision: RevisionNumber,
    /// The image or command of the target revision; several are joined by ` + `.
    pub runs: String,
    /// When the target revision was applied.
    pub applied_at: Timestamp,
    /// The deployment in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// The last failed revision, until another one is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedRevisionView>,
    /// The reasons why the service waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitView>,
    /// The spec of the target revision.
    #[serde(serialize_with = "shown_spec")]
    pub spec: Arc<Spec>,
    /// All stored revisions, newest first. Only in the response for a single service.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "shown_revisions")]
    pub revisions: Vec<RevisionView>,
}

/// Users apply what they are shown, so a view has the form of a document and not that of the store.
fn shown_spec<S: Serializer>(spec: &Arc<Spec>, serializer: S) -> Result<S::Ok, S::Error> {
    spec.shown().serialize(serializer)
}

fn shown_revisions<S: Serializer>(
    revisions: &[RevisionView],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(revisions.iter().map(Revision::shown))
}

/// A revision of a service.
pub type RevisionView = Arc<Revision>;

/// An instance with its current state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// The id of the instance.
    pub instance: InstanceId,
    /// The service of the instance.
    pub service: ServiceId,
    /// The node on which the instance is placed.
    pub node: NodeId,
    /// The address of that node.
    pub address: String,
    /// The ports of the instance on that node, in the order of the spec.
    pub ports: Vec<u16>,
    /// The revision with which the instance was placed.
    pub revision: RevisionNumber,
    /// Whether the instance needs no restart to reach the target revision.
    pub current: bool,
    /// The desired state of the instance.
    pub goal: Goal,
    /// The desired pause of the instance; whether it is suspended is in `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// When the instance was placed.
    pub placed_at: Timestamp,
    /// The phase of the instance; `lost` while its node is lost.
    pub phase: Phase,
    /// The last status that the agent reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why the instance gets no traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_serving: Option<String>,
}

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// The node sends heartbeats.
    Ready,
    /// No heartbeat has arrived for a while.
    Silent,
    /// No heartbeat has arrived for long enough that the instances on the node count as lost.
    Lost,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A node with its current state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// The registered properties of the node.
    pub node: Node,
    /// The state of the node.
    pub state: NodeState,
    /// When the last heartbeat arrived: of the agent, or of the gateway if the node has no agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    /// The sum of the resources of the instances on the node.
    pub used: Resources,
    /// The number of instances that are placed on the node.
    pub instances: u32,
    /// The number of instances that its agent reports and that the server did not place.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown: u32,
}

/// A deployment with its progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentView {
    /// The deployment.
    pub deployment: Deployment,
    /// If the deployment has failed, the reason as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The progress of each service, in the order of the deployment's moves.
    pub moves: Vec<MoveView>,
}

/// A revision that failed and is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRevisionView {
    /// The number of the revision.
    pub revision: RevisionNumber,
    /// The reason as a sentence.
    pub reason: String,
    /// The reason as data.
    pub failure: Arc<Failure>,
    /// When the deployment failed.
    pub at: Timestamp,
}

impl From<&FailedRevision> for FailedRevisionView {
    fn from(failed: &FailedRevision) -> Self {
        let FailedRevision { revision, reason, at } = failed;
        let failure = Arc::clone(reason);
        Self { revision: *revision, reason: failure.to_string(), failure, at: *at }
    }
}

/// The progress of a service in a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveView {
    /// The service.
    pub service: ServiceId,
    /// The number of instances that must be ready.
    pub wanted: u32,
    /// The number of instances that are ready.
    pub ready: u32,
    /// The number of all other instances that have not been reaped.
    pub outgoing: u32,
    /// The time left until the deployment fails unless the service makes progress. `None` while no
    /// deadline applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_in: Option<Millis>,
    /// The reasons why the service waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitView>,
}

/// A gateway document with its current state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayView {
    /// The document.
    pub gateway: Gateway,
    /// The routes with their backends.
    pub routes: Vec<TableRoute>,
    /// The nodes whose gateways follow the newest table.
    pub followed_by: Vec<NodeId>,
    /// The nodes whose gateways respond to the server and do not follow the newest table yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<NodeId>,
    /// The nodes whose gateways have stuck threads, with the number of a thread and what it is doing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<(NodeId, u32, String)>,
    /// The nodes whose gateways cannot open the listener, with the reason.
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

/// Selects output of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The instance.
    pub instance: InstanceId,
    /// A resource of its stack. Left out, all of them; each line then begins with the name of its
    /// resource, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
    /// The output streams.
    #[serde(default)]
    pub stream: LogStream,
    /// At most this number of the last lines of each resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Continue with new output.
    #[serde(default)]
    pub follow: bool,
}

/// Selects a part of one output stream. Bytes are counted from the beginning of the first run,
/// including those that are no longer kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogPartQuery {
    /// The instance.
    pub instance: InstanceId,
    /// A resource of its stack; left out, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceId>,
    /// The output stream; must not be both.
    pub stream: LogStream,
    /// The position of the first byte.
    pub offset: u64,
    /// Maximum length in bytes; 0 requests the headers only.
    pub length: u64,
}

/// The header with the position of the first byte of the part: later than requested, if that is
/// no longer kept.
pub const LOG_OFFSET: &str = "muster-log-offset";
/// The header with the length of the stream so far.
pub const LOG_SIZE: &str = "muster-log-size";

impl LogPartQuery {
    /// The path of this request.
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
    /// The path of this request.
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
    /// The name of the stream; `None` for both.
    pub fn name(self) -> Option<&'static str> {
        match self {
            LogStream::All => None,
            LogStream::Stdout => Some("stdout"),
            LogStream::Stderr => Some("stderr"),
        }
    }
}
