//! Events: what happened, when, and to which object. An [`Event`] is a fact with fields; its
//! sentence is made from them by [`Display`](fmt::Display), once, for people.
//!
//! The serialized form keeps `kind`, `subject`, `service` and `message` for readers that only
//! display events, and adds `about` and the fields of the kind. An event of a kind that this
//! version does not know, or that was stored without its fields, is read as [`What::Other`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::cluster::{Daemon, Mismatch};
use crate::deployment::Cause;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::gateway::{Listen, Route};
use crate::id::{
    DeploymentId, GatewayId, InstanceId, NodeId, ResourceId, RevisionNumber, ServiceId,
};
use crate::principal::Principal;
use crate::retry::with_retry;
use crate::run::RunChange;
use crate::service::StopReason;
use crate::unit::{Millis, Timestamp};

/// A fact about one object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The time by the server's clock.
    pub at: Timestamp,
    /// The object it concerns.
    pub about: About,
    /// The author; `None` for actions of the cluster itself and for observations.
    pub by: Option<Principal>,
    /// What happened to that object.
    pub what: What,
}

/// The object that an event concerns. Displays as the object's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each variant is named after its content")]
pub enum About {
    Server,
    Node(NodeId),
    Service(ServiceId),
    Instance(InstanceId),
    Deployment(DeploymentId),
    Gateway(GatewayId),
    /// An object of a kind that this version does not know.
    #[serde(untagged)]
    Other(String),
}

/// What happened. Displays as a sentence without its subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[expect(missing_docs, reason = "the fields are named after their types")]
pub enum What {
    /// A server became leader.
    ServerStarted { epoch: u64 },
    /// An operator accepted that changes which daemons know of are lost.
    LossAccepted { epoch: u64 },

    /// A daemon registered from a node that was not known before.
    NodeJoined,
    /// The node takes instances again.
    NodeActive,
    /// The node takes no new instances.
    NodeCordoned,
    /// The instances of the node are moved elsewhere.
    NodeDraining,
    /// The node was removed from the cluster.
    NodeRemoved,
    /// A daemon of the node does not follow this server.
    DaemonRefused { daemon: Daemon, mismatch: Mismatch },
    /// A daemon of the node that was refused follows this server.
    DaemonAdmitted { daemon: Daemon },
    /// The agent of the node runs instances that this server did not place.
    UnknownInstances { count: usize },
    /// An operator ordered to stop instances that this server did not place.
    UnknownStopped { count: usize },
    /// The agent of the node has been silent for longer than the limit: its instances count as lost.
    NodeLost,
    /// The agent of a lost node reports again.
    NodeReturned,

    /// A thread of the node's gateway is stuck: the requests on its connections wait.
    GatewayThreadStuck { thread: u32, task: String },
    /// A thread of the node's gateway that was stuck makes progress again.
    GatewayThreadRecovered { thread: u32 },

    /// A gateway document was applied that is new or has changed.
    GatewayApplied { listen: Listen },
    /// A gateway document was removed.
    GatewayRemoved,
    /// A route of the gateway lost the port of the service that it leads to.
    RouteBroken { route: Box<Route> },

    /// The service completed its move to a revision.
    Arrived { revision: RevisionNumber },
    /// The last instance of a service that was to be removed has stopped.
    Removed,
    /// Whether the instances of the service should run has changed.
    RunChanged { change: RunChange },
    /// Nothing is done to the service automatically from now on.
    Frozen,
    /// The service is no longer frozen.
    Thawed,
    /// These resources of the service are not restarted once they have ended.
    ResourcesFrozen { resources: Vec<ResourceId> },
    /// These resources of the service are no longer frozen.
    ResourcesThawed { resources: Vec<ResourceId> },
    /// Back-off after failures was cancelled.
    DelayReset,

    /// A deployment was created for these services. `more` counts those that are not named.
    DeploymentStarted { cause: Cause, services: Vec<ServiceId>, more: usize },
    /// The services of the deployment stay as they are until it is resumed.
    DeploymentPaused,
    /// The deployment continues.
    DeploymentResumed,
    /// The deployment failed and waits for a decision.
    DeploymentHeld { reason: Arc<Failure> },
    /// The deployment failed and its services return to their earlier revisions.
    DeploymentRollingBack { reason: Arc<Failure> },
    /// The services of a failed deployment are back at their earlier revisions.
    DeploymentRolledBack { reason: Arc<Failure> },
    /// The deployment failed, and some of its services could not return to their earlier revisions.
    DeploymentRollbackFailed { reason: Arc<Failure>, cause: Arc<Failure> },
    /// The services of the deployment have arrived.
    DeploymentSucceeded,
    /// A newer deployment moves all services that this one still had to move.
    DeploymentSuperseded { successor: DeploymentId },

    /// The instance was assigned to a node.
    Placed { node: NodeId, revision: RevisionNumber },
    /// The agent prepares a run, or waits before it for the time that `retry_after` gives.
    Starting {
        detail: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<Millis>,
    },
    /// A run started.
    Running { run: u32 },
    /// A run could not be started.
    NotStarted { run: u32, detail: Option<String> },
    /// A run ended.
    Exited { run: u32, exit: Box<Exit> },
    /// The instance ended and is not started again.
    Failed {
        #[serde(deserialize_with = "Option::deserialize")]
        detail: Option<String>,
    },
    /// The health checks pass.
    Healthy,
    /// The health checks fail.
    Unhealthy {
        #[serde(deserialize_with = "Option::deserialize")]
        cause: Option<String>,
    },
    /// A health check, by its index in the spec, failed `count` consecutive times up to now.
    CheckFailed {
        check: usize,
        count: u32,
        #[serde(deserialize_with = "Option::deserialize")]
        cause: Option<String>,
    },
    /// A health check, by its index in the spec, passes after failures.
    CheckPassed { check: usize },
    /// The instance may receive traffic.
    Ready,
    /// The instance receives no new requests and finishes those in flight.
    Draining { why: StopReason },
    /// The instance receives no new requests and finishes those in flight, before it is suspended.
    Pausing,
    /// The processes of the instance are suspended.
    Paused,
    /// The processes of the instance run again.
    Resumed,
    /// The instance is stopped.
    Stopping { why: StopReason },
    /// The instance has stopped and its placement is removed.
    Stopped { why: StopReason },
    /// The placement was removed because its node is unreachable.
    Lost,

    /// An event of another version of this program.
    #[serde(skip)]
    Other { kind: Box<str>, message: Box<str> },
}

impl Event {
    /// The service that the event concerns, if any: readers filter by it.
    pub fn service(&self) -> Option<&ServiceId> {
        match (&self.about, &self.what) {
            (About::Service(service), _) => Some(service),
            (About::Instance(instance), _) => Some(&instance.service),
            (_, What::RouteBroken { route }) => Some(&route.to.service),
            _ => None,
        }
    }
}

impl What {
    /// The kind in one word, as it is stored: `placed`, `deployment-succeeded`.
    pub fn kind(&self) -> &str {
        match self {
            What::ServerStarted { .. } => "server-started",
            What::LossAccepted { .. } => "loss-accepted",
            What::DaemonRefused { .. } => "daemon-refused",
            What::DaemonAdmitted { .. } => "daemon-admitted",
            What::UnknownInstances { .. } => "unknown-instances",
            What::UnknownStopped { .. } => "unknown-stopped",
            What::NodeJoined => "node-joined",
            What::NodeActive => "node-active",
            What::NodeCordoned => "node-cordoned",
            What::NodeDraining => "node-draining",
            What::NodeRemoved => "node-removed",
            What::NodeLost => "node-lost",
            What::NodeReturned => "node-returned",
            What::GatewayThreadStuck { .. } => "gateway-thread-stuck",
            What::GatewayThreadRecovered { .. } => "gateway-thread-recovered",
            What::GatewayApplied { .. } => "gateway-applied",
            What::GatewayRemoved => "gateway-removed",
            What::RouteBroken { .. } => "route-broken",
            What::Arrived { .. } => "arrived",
            What::Removed => "removed",
            What::RunChanged { .. } => "run-changed",
            What::Frozen => "frozen",
            What::Thawed => "thawed",
            What::ResourcesFrozen { .. } => "resources-frozen",
            What::ResourcesThawed { .. } => "resources-thawed",
            What::DelayReset => "delay-reset",
            What::DeploymentStarted { .. } => "deployment-started",
            What::DeploymentPaused => "deployment-paused",
            What::DeploymentResumed => "deployment-resumed",
            What::DeploymentHeld { .. } => "deployment-held",
            What::DeploymentRollingBack { .. } => "deployment-rolling-back",
            What::DeploymentRolledBack { .. } => "deployment-rolled-back",
            What::DeploymentRollbackFailed { .. } => "deployment-rollback-failed",
            What::DeploymentSucceeded => "deployment-succeeded",
            What::DeploymentSuperseded { .. } => "deployment-superseded",
            What::Placed { .. } => "placed",
            What::Starting { .. } => "starting",
            What::Running { .. } => "running",
            What::NotStarted { .. } => "not-started",
            What::Exited { .. } => "exited",
            What::Failed { .. } => "failed",
            What::Healthy => "healthy",
            What::Unhealthy { .. } => "unhealthy",
            What::CheckFailed { .. } => "check-failed",
            What::CheckPassed { .. } => "check-passed",
            What::Ready => "ready",
            What::Draining { .. } => "draining",
            What::Pausing => "pausing",
            What::Paused => "paused",
            What::Resumed => "resumed",
            What::Stopping { .. } => "stopping",
            What::Stopped { .. } => "stopped",
            What::Lost => "lost",
            What::Other { kind, .. } => kind,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::ServerStarted { epoch } => write!(f, "became leader, epoch {epoch}"),
            What::LossAccepted { epoch } => {
                write!(f, "changes that daemons know of are lost, epoch {epoch}")
            }
            What::DaemonRefused { daemon, mismatch } => {
                write!(f, "its {daemon} does not follow this server: {mismatch}")
            }
            What::DaemonAdmitted { daemon } => write!(f, "its {daemon} follows this server again"),
            What::UnknownInstances { count: 1 } => {
                f.write_str("runs 1 instance that this server did not place; it keeps running")
            }
            What::UnknownInstances { count } => {
                write!(
                    f,
                    "runs {count} instances that this server did not place; they keep running"
                )
            }
            What::UnknownStopped { count } => {
                write!(f, "instances that this server did not place are stopped: {count}")
            }
            What::NodeJoined => f.write_str("joined the cluster"),
            What::NodeActive => f.write_str("takes instances again"),
            What::NodeCordoned => f.write_str("takes no new instances"),
            What::NodeDraining => f.write_str("is being drained"),
            What::NodeLost => f.write_str("its agent is silent: its instances count as lost"),
            What::NodeReturned => f.write_str("its agent reports again"),
            What::NodeRemoved | What::GatewayRemoved => f.write_str("was removed"),
            What::GatewayThreadStuck { thread, task } => {
                write!(f, "thread {thread} of its gateway is stuck in {task}")
            }
            What::GatewayThreadRecovered { thread } => {
                write!(f, "thread {thread} of its gateway makes progress again")
            }
            What::GatewayApplied { listen } => write!(f, "listens on {listen}"),
            What::RouteBroken { route } => {
                write!(f, "routes {route}, which no longer exists")
            }
            What::Arrived { revision } => write!(f, "revision {revision} is ready"),
            What::Removed => f.write_str("its last instance has stopped"),
            What::RunChanged { change } => write!(f, "{change}"),
            What::Frozen => f.write_str("nothing is done to it automatically"),
            What::Thawed => f.write_str("it is no longer frozen"),
            What::ResourcesFrozen { resources } => {
                write!(f, "not restarted once they have ended: {}", names(resources))
            }
            What::ResourcesThawed { resources } => {
                write!(f, "no longer frozen: {}", names(resources))
            }
            What::DelayReset => f.write_str("failed starts are retried without delay"),
            What::DeploymentStarted { cause, services, more } => {
                let names: Vec<_> = services.iter().map(ServiceId::as_str).collect();
                write!(f, "{cause} of {}", names.join(", "))?;
                if *more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            What::DeploymentPaused | What::DeploymentResumed => f.write_str("requested by a user"),
            What::DeploymentHeld { reason }
            | What::DeploymentRollingBack { reason }
            | What::DeploymentRolledBack { reason } => write!(f, "{reason}"),
            What::DeploymentRollbackFailed { reason, cause } => {
                write!(f, "{reason}; it could not be rolled back: {cause}")
            }
            What::DeploymentSucceeded => f.write_str("all its services have arrived"),
            What::DeploymentSuperseded { successor } => write!(f, "by {successor}"),
            What::Placed { node, revision } => write!(f, "placed on {node} at revision {revision}"),
            What::Starting { detail, retry_after } => {
                f.write_str(&with_retry(detail, *retry_after))
            }
            What::Running { run } => write!(f, "run {run}"),
            What::NotStarted { run, detail } => {
                write!(f, "run {run}: {}", detail.as_deref().unwrap_or("it could not be started"))
            }
            What::Exited { exit, .. } => write!(f, "{exit}"),
            What::Failed { detail } => {
                f.write_str(detail.as_deref().unwrap_or("it is not started again"))
            }
            What::Healthy => f.write_str("its health checks pass"),
            What::Unhealthy { cause } => {
                f.write_str(cause.as_deref().unwrap_or("its health checks fail"))
            }
            What::CheckFailed { count, cause, .. } => {
                let cause = cause.as_deref().unwrap_or("the cause is unknown");
                write!(f, "{count} consecutive: {cause}")
            }
            What::CheckPassed { .. } => f.write_str("it passes again"),
            What::Ready => f.write_str("it is ready for traffic"),
            What::Draining { why } | What::Stopping { why } | What::Stopped { why } => {
                write!(f, "{why}")
            }
            What::Pausing => f.write_str("it finishes its requests before it is suspended"),
            What::Paused => f.write_str("its processes are suspended"),
            What::Resumed => f.write_str("its processes run again"),
            What::Lost => write!(f, "{}", StopReason::Lost),
            What::Other { message, .. } => f.write_str(message),
        }
    }
}

fn names(resources: &[ResourceId]) -> String {
    resources.iter().map(ResourceId::as_str).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::Server => f.pad("server"),
            About::Node(id) => id.fmt(f),
            About::Service(id) => id.fmt(f),
            About::Instance(id) => id.fmt(f),
            About::Deployment(id) => id.fmt(f),
            About::Gateway(id) => id.fmt(f),
            About::Other(name) => f.pad(name),
        }
    }
}

impl About {
    /// The object of an event that was stored before `about` existed. Names of nodes and gateways
    /// have the same form, so the kind decides.
    fn of(subject: String, kind: &str) -> About {
        let instance = || subject.parse().ok().map(About::Instance);
        let service = || subject.parse().ok().map(About::Service);
        let deployment = || subject.parse().ok().map(About::Deployment);
        let known = match kind {
            "server-started" => Some(About::Server),
            _ if kind.starts_with("node-") => subject.parse().ok().map(About::Node),
            _ if kind.starts_with("gateway-") || kind == "route-broken" => {
                subject.parse().ok().map(About::Gateway)
            }
            _ if subject.starts_with('/') => instance().or_else(service),
            _ => deployment(),
        };
        known.unwrap_or(About::Other(subject))
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Fields<'a> {
            Known(&'a What),
            Other { kind: &'a str },
        }
        #[derive(Serialize)]
        struct Written<'a> {
            at: Timestamp,
            #[serde(flatten)]
            fields: Fields<'a>,
            #[serde(serialize_with = "as_text")]
            subject: &'a About,
            #[serde(skip_serializing_if = "Option::is_none")]
            service: Option<&'a ServiceId>,
            #[serde(serialize_with = "as_text")]
            message: &'a What,
            about: &'a About,
            #[serde(skip_serializing_if = "Option::is_none")]
            by: Option<&'a Principal>,
        }
        let fields = match &self.what {
            What::Other { kind, .. } => Fields::Other { kind },
            what => Fields::Known(what),
        };
        let Event { at, about, by, what } = self;
        let service = self.service();
        Written { at: *at, fields, subject: about, service, message: what, about, by: by.as_ref() }
            .serialize(serializer)
    }
}

fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            at: Timestamp,
            #[serde(default)]
            about: Option<About>,
            #[serde(default)]
            by: Option<Principal>,
            #[serde(default)]
            subject: String,
            #[serde(default)]
            message: String,
            #[serde(flatten)]
            fields: Map<String, Value>,
        }
        let Read { at, about, by, subject, message, fields } = Read::deserialize(deserializer)?;
        let kind: Box<str> = fields.get("kind").and_then(Value::as_str).unwrap_or_default().into();
        let about = about.unwrap_or_else(|| About::of(subject, &kind));
        let what = What::deserialize(Value::Object(fields));
        let what = what.unwrap_or_else(|_| What::Other { kind, message: message.into() });
        Ok(Event { at, about, by, what })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exit::Ending;
    use crate::run::Run;

    fn all() -> Vec<What> {
        let node: NodeId = "n1".parse().expect("a name");
        let route = json!({"hosts": ["a.example"], "path": "/api", "to": "/web:http"});
        let route = serde_json::from_value(route).expect("a route");
        let services = vec!["/a".parse().expect("a path"), "/b".parse().expect("a path")];
        let exit = Exit { at: Timestamp(4), how: Ending::Code { code: 3 } };
        let reason = || Arc::new(Failure::Other("no progress".into()));
        vec![
            What::ServerStarted { epoch: 3 },
            What::NodeJoined,
            What::NodeActive,
            What::NodeCordoned,
            What::NodeDraining,
            What::NodeRemoved,
            What::NodeLost,
            What::NodeReturned,
            What::GatewayThreadStuck { thread: 1, task: "a connection of 10.0.0.9:5000".into() },
            What::GatewayThreadRecovered { thread: 1 },
            What::GatewayApplied { listen: "8080".parse().expect("an address") },
            What::GatewayRemoved,
            What::RouteBroken { route: Box::new(route) },
            What::Arrived { revision: 2 },
            What::Removed,
            What::RunChanged { change: RunChange { from: Run::Started, to: Run::Stopped } },
            What::Frozen,
            What::Thawed,
            What::ResourcesFrozen { resources: vec!["db".parse().expect("a name")] },
            What::ResourcesThawed { resources: vec!["db".parse().expect("a name")] },
            What::DelayReset,
            What::DeploymentStarted { cause: Cause::Apply, services, more: 3 },
            What::DeploymentPaused,
            What::DeploymentResumed,
            What::DeploymentHeld { reason: reason() },
            What::DeploymentRollingBack { reason: reason() },
            What::DeploymentRolledBack { reason: reason() },
            What::DeploymentRollbackFailed { reason: reason(), cause: reason() },
            What::DeploymentSucceeded,
            What::DeploymentSuperseded { successor: DeploymentId(2) },
            What::Placed { node, revision: 1 },
            What::Starting { detail: "pulling".into(), retry_after: None },
            What::Starting { detail: "ended".into(), retry_after: Some(Millis(1_500)) },
            What::Running { run: 2 },
            What::NotStarted { run: 2, detail: None },
            What::Exited { run: 2, exit: Box::new(exit) },
            What::Failed { detail: Some("no such image".into()) },
            What::Healthy,
            What::Unhealthy { cause: None },
            What::Unhealthy { cause: Some("503".into()) },
            What::CheckFailed { check: 1, count: 2, cause: None },
            What::CheckPassed { check: 1 },
            What::Ready,
            What::Draining { why: StopReason::Replaced },
            What::Pausing,
            What::Paused,
            What::Resumed,
            What::Stopping { why: StopReason::Surplus },
            What::Stopped { why: StopReason::Removed },
            What::Lost,
            What::Other { kind: "melted".into(), message: "by the sun".into() },
        ]
    }

    #[test]
    fn written_events_read_back() {
        for what in all() {
            let about = About::Service("/web".parse().expect("a path"));
            let event = Event { at: Timestamp(5), about, by: Some(Principal::operator()), what };
            let written = serde_json::to_value(&event).expect("it is written");
            assert_eq!(written["kind"], event.what.kind());
            assert_eq!(written["subject"], "/web");
            assert_eq!(written["message"], event.what.to_string());
            let read: Event = serde_json::from_value(written).expect("it is read");
            assert_eq!(read, event);
        }
    }

    #[test]
    fn each_subject_of_an_event_is_displayed_and_reads_back() {
        for (about, name) in [
            (About::Server, "server"),
            (About::Node("n1".parse().expect("a name")), "n1"),
            (About::Service("/a".parse().expect("a path")), "/a"),
            (About::Instance("/a~0.1".parse().expect("an instance")), "/a~0.1"),
            (About::Deployment(DeploymentId(2)), "d-2"),
            (About::Gateway("public".parse().expect("a name")), "public"),
        ] {
            assert_eq!(about.to_string(), name);
            let event = Event { at: Timestamp(5), about, by: None, what: What::Removed };
            let written = serde_json::to_string(&event).expect("it is written");
            assert_eq!(serde_json::from_str::<Event>(&written).expect("it is read"), event);
        }
    }

    /// Servers stored up to 10,000 events of the form before `about`, and clients may be older than
    /// it.
    #[test]
    fn events_without_fields_keep_their_kind_and_message() {
        let read = |kind: &str, subject: &str, message: &str| -> Event {
            let event = json!({
                "at": "2026-11-21T10:00:00.000Z", "kind": kind, "subject": subject,
                "message": message,
            });
            let event: Event = serde_json::from_value(event).expect("it is read");
            let again = serde_json::to_string(&event).expect("it is written");
            assert_eq!(serde_json::from_str::<Event>(&again).expect("it is read"), event);
            event
        };
        for (kind, subject, message, about) in [
            ("placed", "/web~0.1", "placed on n1 at revision 1", "instance"),
            ("running", "/web~0.1", "run 3", "instance"),
            ("exited", "/web~0.1", "exit code 1", "instance"),
            ("unhealthy", "/web~0.1", "503 Service Unavailable", "instance"),
            ("check-failed", "/web~0.1", "2 in a row: 503", "instance"),
            ("failed", "/web~0.1", "no such image", "instance"),
            ("arrived", "/web", "revision 2 is ready", "service"),
            ("deployment-held", "d-3", "aborted", "deployment"),
            ("gateway-applied", "public", "gateway public listens on :80", "gateway"),
            ("route-broken", "public", "it leads nowhere now", "gateway"),
        ] {
            let event = read(kind, subject, message);
            let of = serde_json::to_value(&event.about).expect("it is written");
            assert_eq!(of, json!({about: subject}));
            let other = What::Other { kind: kind.into(), message: message.into() };
            assert_eq!(event.what, other);
        }
        let node = read("node-joined", "n1", "node n1 joined");
        assert_eq!((node.about.to_string().as_str(), node.what), ("n1", What::NodeJoined));
        assert_eq!(read("server-started", "server", "it leads, epoch 2").about, About::Server);
        assert_eq!(read("melted", "the moon", "").about, About::Other("the moon".into()));
    }

    #[test]
    fn events_are_filtered_by_the_service_they_concern() {
        let route = serde_json::from_value(json!({"to": "/web:http"})).expect("a route");
        let broken = What::RouteBroken { route: Box::new(route) };
        for (about, what, expected) in [
            (About::Instance("/a~0.1".parse().expect("an instance")), What::Ready, Some("/a")),
            (About::Gateway("public".parse().expect("a name")), broken, Some("/web")),
            (About::Deployment(DeploymentId(2)), What::DeploymentPaused, None),
        ] {
            let event = Event { at: Timestamp(5), about, by: None, what };
            assert_eq!(event.service().map(ServiceId::as_str), expected);
        }
    }

    /// A server keeps thousands of events.
    #[test]
    fn an_event_is_small() {
        assert!(size_of::<Event>() <= 120, "{}", size_of::<Event>());
    }
}
