//! What agents and gateways tell a server, and are told. Whole documents with generations: the
//! newer one wins, and a lost one is made good by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Given, InstanceId, NodeId, RevisionNumber, Spec, Status};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// What one node should run. A line of the assignments stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Line")]
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
    /// Assignments that were sent in `set` and that this version cannot read. Never sent.
    #[serde(skip)]
    pub unreadable: Vec<Unreadable>,
}

/// An assignment from a newer server, of which only this can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The instance.
    pub instance: InstanceId,
    /// Whether it should stop.
    pub stop: bool,
    /// Why the assignment cannot be read.
    pub error: String,
}

/// [`Assignments`] as they are sent. Assignments are read one by one, so that one of a newer
/// server that cannot be read does not keep the node from following the others.
#[derive(Deserialize)]
struct Line {
    generation: u64,
    whole: bool,
    set: Vec<Box<RawValue>>,
    #[serde(default)]
    removed: Vec<InstanceId>,
}

impl TryFrom<Line> for Assignments {
    type Error = serde_json::Error;

    fn try_from(line: Line) -> Result<Self, Self::Error> {
        let Line { generation, whole, set, removed } = line;
        let (set, unreadable) = read_each(&set)?;
        Ok(Assignments { generation, whole, set, removed, unreadable })
    }
}

/// Fails only if an assignment does not even name its instance: then nothing can be reported of it.
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
            Ok(assignment) => set.push(assignment),
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
/// The value is not a list, or an assignment does not name its instance.
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
