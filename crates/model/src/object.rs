//! The stored form: one object for each key. Applying commands marks keys as changed; the shell
//! asks for their objects and stores them, so a key changed often in one batch is written once.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::deployment::Deployment;
use crate::gateway::Gateway;
use crate::group::Group;
use crate::id::{DeploymentId, GatewayId, InstanceId, NodeId, RevisionNumber, ServiceId};
use crate::node::Node;
use crate::service::{Placement, Revision, ServiceHead};

/// What an object is stored under. Written `services/zdd/base`, `instances/zdd/base~0.1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Counters of the cluster.
    Meta,
    /// A node.
    Node(NodeId),
    /// A service, without its revisions and placements.
    Service(ServiceId),
    /// A revision.
    Revision(ServiceId, RevisionNumber),
    /// A placement.
    Instance(InstanceId),
    /// A deployment.
    Deployment(DeploymentId),
    /// A gateway document.
    Gateway(GatewayId),
    /// A group.
    Group(ServiceId),
}

/// Counters of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Deployments so far.
    pub deployments: u64,
    /// Times a server took the lead; generations of routes and assignments begin with it.
    pub epoch: u64,
    /// No slot of a service that was removed had more attempts than this.
    #[serde(default)]
    pub attempts: u32,
}

/// A stored object.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each variant is named after its content")]
pub enum Object {
    Meta(Meta),
    Node(Node),
    Service(ServiceHead),
    Revision(Revision),
    Instance(Placement),
    Deployment(Deployment),
    Gateway(Gateway),
    Group(Group),
}

/// Why stored text is not an object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key that no version of this program writes.
    #[error("`{key}` is not a key of the state")]
    Key {
        /// The key.
        key: String,
    },
    /// A value that does not read as its key says.
    #[error("the object at `{key}` cannot be read")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Meta => f.write_str("meta"),
            Key::Node(id) => write!(f, "nodes/{id}"),
            Key::Service(id) => write!(f, "services{id}"),
            Key::Revision(id, number) => write!(f, "revisions{id}@{number}"),
            Key::Instance(id) => write!(f, "instances{id}"),
            Key::Deployment(id) => write!(f, "deployments/{id}"),
            Key::Gateway(id) => write!(f, "gateways/{id}"),
            Key::Group(path) => write!(f, "groups{path}"),
        }
    }
}

impl FromStr for Key {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (kind, name) = text.split_once('/').unwrap_or((text, ""));
            Some(match kind {
                "meta" => Key::Meta,
                "nodes" => Key::Node(name.parse().ok()?),
                "services" => Key::Service(name.parse().ok()?),
                "revisions" => {
                    let (id, number) = name.rsplit_once('@')?;
                    Key::Revision(id.parse().ok()?, number.parse().ok()?)
                }
                "instances" => Key::Instance(name.parse().ok()?),
                "deployments" => Key::Deployment(name.parse().ok()?),
                "gateways" => Key::Gateway(name.parse().ok()?),
                "groups" => Key::Group(name.parse().ok()?),
                _ => return None,
            })
        };
        parse().ok_or_else(|| Error::Key { key: text.into() })
    }
}

impl Object {
    /// Reads the object stored under `key`.
    pub fn read(key: &Key, value: &[u8]) -> Result<Object, Error> {
        let object = match key {
            Key::Meta => serde_json::from_slice(value).map(Object::Meta),
            Key::Node(_) => serde_json::from_slice(value).map(Object::Node),
            Key::Service(_) => serde_json::from_slice(value).map(Object::Service),
            Key::Revision(..) => serde_json::from_slice(value).map(Object::Revision),
            Key::Instance(_) => serde_json::from_slice(value).map(Object::Instance),
            Key::Deployment(_) => serde_json::from_slice(value).map(Object::Deployment),
            Key::Gateway(_) => serde_json::from_slice(value).map(Object::Gateway),
            Key::Group(_) => serde_json::from_slice(value).map(Object::Group),
        };
        object.map_err(|source| Error::Value { key: key.to_string(), source })
    }
}
