//! The messages between a server and its agents and gateways. They carry generations or numbers: a
//! newer message replaces an older one, so a lost message is repaired by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Given, InstanceId, NodeId, ResourceId, RevisionNumber, Spec, Status, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The instances that one node should run. A line of the stream of assignments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Line")]
pub struct Assignments {
    /// Increases with every change, also across restarts of servers.
    pub generation: u64,
    /// Whether `set` is complete: other instances are not assigned. Otherwise this document is the
    /// previous one with `set` inserted and `removed` deleted. The first one of a stream is
    /// complete.
    pub whole: bool,
    /// The assignments that are new or changed.
    pub set: Vec<Assignment>,
    /// Instances to stop if they still run, and to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<InstanceId>,
    /// Whether only the instances in `removed` stop. An instance that neither `set` nor `removed`
    /// contains is then reported and keeps running: absence is no order to stop. Servers of the
    /// first version do not send it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub explicit: bool,
    /// Assignments that were sent in `set` and that this version cannot read. Never sent.
    #[serde(skip)]
    pub unreadable: Vec<Unreadable>,
}

/// An assignment of a newer server of which only these fields can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The instance.
    pub instance: InstanceId,
    /// Whether its goal is to stop.
    pub stop: bool,
    /// Why the assignment cannot be read.
    pub error: String,
}

/// [`Assignments`] as they are sent. Assignments are read one by one, so that one that this version
/// cannot read does not prevent the node from following the others.
#[derive(Deserialize)]
struct Line {
    generation: u64,
    whole: bool,
    set: Vec<Box<RawValue>>,
    #[serde(default)]
    removed: Vec<InstanceId>,
    #[serde(default)]
    explicit: bool,
}

impl TryFrom<Line> for Assignments {
    type Error = serde_json::Error;

    fn try_from(line: Line) -> Result<Self, Self::Error> {
        let Line { generation, whole, set, removed, explicit } = line;
        let (set, unreadable) = read_each(&set)?;
        Ok(Assignments { generation, whole, set, removed, explicit, unreadable })
    }
}

/// Fails only if an assignment has no instance id: then it cannot be reported as unreadable.
fn read_each(
    values: &[Box<RawValue>],
) -> Result<(Vec<Assignment>, Vec<Unreadable>), serde_json::Error> {
    #[derive(Deserialize)]
    struct Readable {
        instance: InstanceId,
        #[serde(default)]
        goal: serde_json::Value,
    }
    let mut set = Vec::with_capacity(values.len());
    let mut unreadable = Vec::new();
    for value in values {
        match serde_json::from_str::<Assignment>(value.get()) {
            Ok(mut assignment) => {
                let env = std::mem::take(&mut assignment.env);
                if !env.is_empty() {
                    Arc::make_mut(&mut assignment.spec).add_references(env);
                }
                set.push(assignment);
            }
            Err(error) => {
                let Readable { instance, goal } = serde_json::from_str(value.get())?;
                let stop = goal == "stop";
                unreadable.push(Unreadable { instance, stop, error: error.to_string() });
            }
        }
    }
    Ok((set, unreadable))
}

/// Reads the assignments that an agent has stored, without those of a newer agent that this
/// version cannot read: the server sends them again.
///
/// # Errors
///
/// The value is not a list, or an assignment has no instance id.
pub fn stored_assignments<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Assignment>, D::Error> {
    let values = Vec::<Box<RawValue>>::deserialize(deserializer)?;
    let (set, _) = read_each(&values).map_err(serde::de::Error::custom)?;
    Ok(set)
}

/// One instance that a node should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The instance.
    pub instance: InstanceId,
    /// The revision it was placed at.
    pub revision: RevisionNumber,
    /// When that revision was applied. Not sent to agents of the first version, which do not know
    /// the key.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub revision_created_at: Timestamp,
    /// Its goal.
    pub goal: Assigned,
    /// Whether a resource that exits is not restarted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
    /// The resources that are not restarted when they exit, if not all of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub frozen_resources: BTreeSet<ResourceId>,
    /// Whether its processes are suspended. A stop takes precedence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What the node gave it: its fields are fields of the assignment, such as `ports`.
    #[serde(flatten)]
    pub given: Given,
    /// A change of this number ends the back-off after failures immediately.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// The variables with references, for an agent of the first version; see
    /// [`Spec::take_references`]. They are part of the spec for others, and once they are read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The spec to run. Between two documents only fields change that need no restart: checks,
    /// restart, stop, labels.
    pub spec: Arc<Spec>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_unknown(time: &Timestamp) -> bool {
    time.0 == 0
}

/// The goal of an assigned instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assigned {
    /// Run.
    Run,
    /// Stop. A stopped instance is reported until its assignment is removed.
    Stop,
}

/// The report of an agent. Sent immediately after a change, and as a heartbeat otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The node.
    pub node: NodeId,
    /// The incarnation of the agent. A complete report of another incarnation does not count.
    #[serde(default)]
    pub life: u64,
    /// Increases with each report of that incarnation, from 1. A report that arrives after a later
    /// one is ignored. Reports of older agents have no number and are never ignored.
    #[serde(default)]
    pub number: u64,
    /// The generation of assignments it follows.
    pub generation: u64,
    /// Whether `instances` is complete. The first report of each connection is.
    pub whole: bool,
    /// The instances that changed since the previous report, or all.
    pub instances: Vec<(InstanceId, Status)>,
}

/// The reply to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportReply {
    /// The server needs a complete report next.
    #[serde(alias = "tell_all")]
    pub resync: bool,
}

/// The report of a gateway. Sent immediately after a switch of tables or after the last request at
/// a removed instance, and as a heartbeat otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// Its node.
    pub node: NodeId,
    /// The generation of the table that all new requests follow.
    pub generation: u64,
    /// The instances outside of that table with requests in flight.
    pub busy: BTreeSet<InstanceId>,
    /// The listeners that could not be opened, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(model::Listen, String)>,
    /// The threads that are stuck, by number, with what each is doing. The requests on their
    /// connections wait.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stuck: BTreeMap<u32, String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assignment(instance: &str) -> serde_json::Value {
        json!({
            "instance": instance, "revision": 1, "goal": "run", "ports": [],
            "spec": { "service": "/web", "process": { "command": "serve" } },
        })
    }

    #[test]
    fn an_assignment_that_cannot_be_read_leaves_the_others() {
        let mut newer = assignment("/web~1.1");
        newer["spec"]["process"] = json!({ "program": "serve" });
        newer["goal"] = json!("stop");
        let line = json!({
            "generation": 7, "whole": true, "set": [assignment("/web~0.1"), newer],
            "key of a newer server": {},
        });
        let read: Assignments = serde_json::from_str(&line.to_string()).unwrap();
        assert_eq!((read.generation, read.whole, read.removed.len()), (7, true, 0));
        assert_eq!(read.set.len(), 1);
        assert_eq!(read.set[0].instance.to_string(), "/web~0.1");
        let [unreadable] = read.unreadable.as_slice() else { panic!("{:?}", read.unreadable) };
        assert_eq!((unreadable.instance.to_string().as_str(), unreadable.stop), ("/web~1.1", true));
        assert!(unreadable.error.starts_with("missing field `command`"), "{}", unreadable.error);
        let again: Assignments =
            serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, Assignments { unreadable: Vec::new(), ..read });
    }

    #[test]
    fn an_assignment_without_an_instance_is_an_error() {
        let line = json!({ "generation": 7, "whole": true, "set": [{ "goal": "run" }] });
        assert!(serde_json::from_str::<Assignments>(&line.to_string()).is_err());
    }
}
