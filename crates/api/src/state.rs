//! The whole state of a cluster at one time: the stored objects by key, and the observations. It is
//! sufficient to continue from there, as `muster lab` does.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Agent, GatewayStatus, InstanceId, Key, Millis, NodeId, Object, Observed, Published, State,
    Status, Timestamp,
};
use serde::{Deserialize, Serialize};

/// The state of a cluster as its server has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// The server's time.
    pub now: Timestamp,
    /// The stored objects by key, in the form of the store.
    #[serde(with = "by_key")]
    pub objects: BTreeMap<Key, Object>,
    /// The observations.
    pub observed: ObservedState,
}

/// The observations of a server, which are not stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedState {
    /// When the server began to observe.
    pub since: Timestamp,
    /// Since when it has observed without interruption.
    pub unbroken_since: Timestamp,
    /// How long an agent may be silent before its instances count as lost.
    pub lost_after: Millis,
    /// The last heartbeats of agents, by node.
    pub agents: BTreeMap<NodeId, Agent>,
    /// The last heartbeats of gateways and their generations, by node.
    pub gateways: BTreeMap<NodeId, GatewayStatus>,
    /// The statuses that agents report, by instance.
    pub statuses: BTreeMap<InstanceId, Status>,
    /// The instances that are or were in the routes.
    pub published: Published,
    /// The instances that agents report and that were not placed on their nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<NodeId, BTreeSet<InstanceId>>,
}

impl ClusterState {
    /// The state at `now`.
    pub fn new(state: &State, observed: &Observed, now: Timestamp) -> ClusterState {
        let statuses = observed.statuses();
        let statuses = statuses.map(|(instance, status)| (instance, status.clone()));
        let observed = ObservedState {
            since: observed.since,
            unbroken_since: observed.unbroken_since,
            lost_after: observed.lost_after,
            agents: observed.agents.clone(),
            gateways: observed.gateways.clone(),
            statuses: statuses.collect(),
            published: observed.published.clone(),
            unknown: observed.unknown.clone(),
        };
        ClusterState { now, objects: state.objects().collect(), observed }
    }

    /// Converts it to the types of the model.
    pub fn parts(self) -> (State, Observed, Timestamp) {
        let document = self.observed;
        let mut observed = Observed {
            since: document.since,
            unbroken_since: document.unbroken_since,
            agents: document.agents,
            gateways: document.gateways,
            instances: BTreeMap::new(),
            lost_after: document.lost_after,
            published: document.published,
            unknown: document.unknown,
            removed: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        for (instance, status) in document.statuses {
            observed.set_status(&instance, status);
        }
        (State::load(self.objects), observed, self.now)
    }
}

/// Objects as a map: each is read as its key says.
mod by_key {
    use std::collections::BTreeMap;

    use model::{Key, Object};
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(
        objects: &BTreeMap<Key, Object>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(objects.iter().map(|(key, object)| (key.to_string(), object)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Key, Object>, D::Error> {
        let texts = BTreeMap::<String, Box<RawValue>>::deserialize(deserializer)?;
        let read = |(key, text): (String, Box<RawValue>)| {
            let key: Key = key.parse()?;
            let object = Object::read(&key, text.get().as_bytes())?;
            Ok((key, object))
        };
        texts
            .into_iter()
            .map(|text| read(text).map_err(|error: model::object::Error| D::Error::custom(error)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_values_read_back() {
        let text = r#"{
            "now": "2026-01-01T00:00:10Z",
            "objects": {
                "meta": { "deployments": 0, "epoch": 3, "attempts": 7 },
                "nodes/n1": {
                    "id": "n1", "address": "10.0.0.1", "gateway": true, "ports": [20000, 20100],
                    "capacity": { "cpu": 4, "memory": "8GiB" }
                }
            },
            "observed": {
                "since": "2026-01-01T00:00:00Z",
                "unbroken_since": "2026-01-01T00:00:00Z",
                "lost_after": "30s",
                "agents": { "n1": { "seen_at": "2026-01-01T00:00:09Z", "synced": true } },
                "gateways": {
                    "n1": { "seen_at": "2026-01-01T00:00:08Z", "generation": 5, "busy": [] }
                },
                "statuses": {
                    "/web~0.1": { "phase": "running", "run": 1, "since": "2026-01-01T00:00:05Z" }
                },
                "published": {
                    "first": 4, "last": 5, "present": ["/web~0.1"], "left": { "/web~0.0": 5 }
                }
            }
        }"#;
        let known: ClusterState = serde_json::from_str(text).unwrap();
        let again = serde_json::to_string(&known).unwrap();
        assert_eq!(serde_json::from_str::<ClusterState>(&again).unwrap(), known);
        let (state, observed, now) = known.clone().parts();
        assert_eq!((state.nodes().count(), state.meta().attempts), (1, 7));
        assert_eq!(observed.instances.len(), 1);
        assert_eq!(ClusterState::new(&state, &observed, now), known);
    }

    #[test]
    fn unreadable_objects_are_named_in_the_error() {
        let text = r#"{ "now": "2026-01-01T00:00:10Z", "objects": { "wheels/w1": {} } }"#;
        let error = serde_json::from_str::<ClusterState>(text).unwrap_err();
        assert!(error.to_string().contains("wheels/w1"), "{error}");
    }
}
