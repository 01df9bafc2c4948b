//! The stored form of a [`State`]: one object for each key, and one line for each kind of object.
//!
//! `State::apply` marks keys as changed; the server then reads and stores their objects, so that a
//! key that changes often in one batch is written once. The macro [`stored!`] turns the list of
//! kinds at the end of this file into keys, objects, their text form, the maps of `State`, and the
//! code that reads and writes a complete state. Kinds whose objects have a map of their own
//! (`tables`) need nothing else; the others (`parts`) implement [`Stored`].

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::cluster::Cluster;
use crate::deployment::Deployment;
use crate::gateway::Gateway;
use crate::id::{
    DeploymentId, GatewayId, InstanceId, NodeId, ReplicaId, RequestKey, RevisionNumber, ServiceId,
};
use crate::node::{Node, NodeSummary};
use crate::request::{ExecutedRequest, Requests};
use crate::revision::Revision;
use crate::service::{Placement, Service, ServiceHead};
use crate::usage::NodeUsage;

/// Counters of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Number of deployments created so far; the next one gets the next number.
    pub deployments: u64,
    /// Number of times a server became leader; generations of routes and assignments begin with
    /// it.
    pub epoch: u64,
    /// The highest number of attempts of any slot of a removed service.
    #[serde(default)]
    pub attempts: u32,
}

/// Why a stored key or value cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key that no version of this program writes.
    #[error("`{key}` is not a key of the state")]
    Key {
        /// The key.
        key: String,
    },
    /// A value that is not an object of the kind that its key names.
    #[error("the object at `{key}` cannot be read")]
    Value {
        /// The key.
        key: String,
        /// The position and cause in the value.
        #[source]
        source: serde_json::Error,
    },
}

/// A kind of object, and where a [`State`] keeps its objects.
trait Stored: Sized {
    /// The parts of the key.
    type Name;

    /// The object with that name.
    fn get(state: &State, name: &Self::Name) -> Option<Self>;

    /// The names of all objects, in order.
    fn names(state: &State) -> impl Iterator<Item = Self::Name>;

    /// Adds an object while a state is loaded. Kinds are loaded in the order of their list, so an
    /// object that depends on another finds it; without it, the object is dropped.
    fn put(self, state: &mut State, name: Self::Name);
}

/// The part of a key that follows the kind.
trait Name: Sized {
    fn parse(text: &str) -> Option<Self>;
}

impl Name for () {
    fn parse(text: &str) -> Option<Self> {
        text.is_empty().then_some(())
    }
}

impl<A: FromStr> Name for (A,) {
    fn parse(text: &str) -> Option<Self> {
        Some((text.parse().ok()?,))
    }
}

impl<A: FromStr, B: FromStr> Name for (A, B) {
    fn parse(text: &str) -> Option<Self> {
        let (first, second) = text.rsplit_once('@')?;
        Some((first.parse().ok()?, second.parse().ok()?))
    }
}

/// Writes `kind/part@part`. Paths are written without their leading slash.
fn write_key(f: &mut fmt::Formatter<'_>, kind: &str, parts: &[&dyn Display]) -> fmt::Result {
    f.write_str(kind)?;
    let separators = ["/", "@"];
    parts.iter().zip(separators).try_for_each(|(part, separator)| {
        write!(f, "{separator}{}", part.to_string().trim_start_matches('/'))
    })
}

/// Declares [`Key`], [`Object`] and [`State`] from one line for each kind of object.
macro_rules! stored {
    (
        parts { $(
            $(#[$part_doc:meta])*
            $part_kind:literal $part:ident $(($($part_name:ident: $part_id:ty),+))? => $part_type:ty;
        )* }
        tables { $(
            $(#[$table_doc:meta])*
            $table_kind:literal $table:ident($table_id:ty) => $table_type:ty, in $field:ident;
        )* }
    ) => {
        /// The key of an object. Its text is a kind and a name, such as `services/zdd/base` and
        /// `instances/zdd/base~0.1`.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key {
            $($(#[$part_doc])* $part $(($($part_id),+))?,)*
            $($(#[$table_doc])* $table($table_id),)*
        }

        /// A stored object.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        #[expect(missing_docs, reason = "each variant is named after its content")]
        pub enum Object {
            $($part($part_type),)*
            $($table($table_type),)*
        }

        /// The desired state of a cluster.
        ///
        /// Cheap to clone (persistent maps). The usage of nodes and the node index are derived from
        /// the stored objects and updated with them.
        #[derive(Debug, Clone, Default)]
        pub struct State {
            pub(crate) meta: Meta,
            pub(crate) cluster: Option<Arc<Cluster>>,
            pub(crate) nodes: RedBlackTreeMapSync<NodeId, Arc<NodeUsage>>,
            pub(crate) services: RedBlackTreeMapSync<ServiceId, Arc<Service>>,
            pub(crate) node_index: Arc<Vec<NodeSummary>>,
            pub(crate) requests: Requests,
            pub(crate) bundles: RedBlackTreeMapSync<(ServiceId, RevisionNumber), Arc<Bundle>>,
            $(pub(crate) $field: RedBlackTreeMapSync<$table_id, Arc<$table_type>>,)*
        }

        /// The kinds, in the order of loading.
        #[derive(PartialEq, Eq, PartialOrd, Ord)]
        enum Kind {
            $($part,)*
            $($table,)*
        }

        impl Key {
            fn kind(&self) -> Kind {
                match self {
                    $(Key::$part { .. } => Kind::$part,)*
                    $(Key::$table { .. } => Kind::$table,)*
                }
            }
        }

        impl Display for Key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Key::$part $(($($part_name),+))? => {
                        write_key(f, $part_kind, &[$($($part_name),+)?])
                    })*
                    $(Key::$table(id) => write_key(f, $table_kind, &[id]),)*
                }
            }
        }

        impl FromStr for Key {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let (kind, name) = text.split_once('/').unwrap_or((text, ""));
                let key = match kind {
                    $($part_kind => Name::parse(name)
                        .map(|($($($part_name,)+)?)| Key::$part $(($($part_name),+))?),)*
                    $($table_kind => Name::parse(name).map(|(id,)| Key::$table(id)),)*
                    // A group of an earlier version had no revisions.
                    "groups" => Name::parse(name).map(|(path,)| Key::Bundle(path, 1)),
                    _ => None,
                };
                key.ok_or_else(|| Error::Key { key: text.into() })
            }
        }

        impl Object {
            /// Reads the object stored under `key`.
            pub fn read(key: &Key, value: &[u8]) -> Result<Object, Error> {
                let object = match key {
                    $(Key::$part { .. } => serde_json::from_slice(value).map(Object::$part),)*
                    $(Key::$table { .. } => serde_json::from_slice(value).map(Object::$table),)*
                };
                object.map_err(|source| Error::Value { key: key.to_string(), source })
            }
        }

        impl State {
            /// The object stored under `key`; `None` if it has been removed.
            pub fn object(&self, key: &Key) -> Option<Object> {
                match key {
                    $(Key::$part $(($($part_name),+))? => {
                        Stored::get(self, &($($($part_name.clone(),)+)?)).map(Object::$part)
                    })*
                    $(Key::$table(id) => Stored::get(self, &(id.clone(),)).map(Object::$table),)*
                }
            }

            fn keys(&self) -> impl Iterator<Item = Key> {
                std::iter::empty()
                    $(.chain(<$part_type>::names(self).map(
                        |($($($part_name,)+)?)| Key::$part $(($($part_name),+))?,
                    )))*
                    $(.chain(<$table_type>::names(self).map(|(id,)| Key::$table(id))))*
            }

            fn put(&mut self, key: Key, object: Object) {
                match (key, object) {
                    $((Key::$part $(($($part_name),+))?, Object::$part(object)) => {
                        object.put(self, ($($($part_name,)+)?));
                    })*
                    $((Key::$table(id), Object::$table(object)) => object.put(self, (id,)),)*
                    _ => {}
                }
            }
        }

        $(impl Stored for $table_type {
            type Name = ($table_id,);

            fn get(state: &State, (id,): &Self::Name) -> Option<Self> {
                state.$field.get(id).map(|object| Self::clone(object))
            }

            fn names(state: &State) -> impl Iterator<Item = Self::Name> {
                state.$field.keys().map(|id| (id.clone(),))
            }

            fn put(self, state: &mut State, (id,): Self::Name) {
                state.$field.insert_mut(id, Arc::new(self));
            }
        })*
    };
}

stored! {
    parts {
        /// Counters of the cluster.
        "meta" Meta => Meta;
        /// The identity of the cluster and the history of its store.
        "cluster" Cluster => Cluster;
        /// A node.
        "nodes" Node(id: NodeId) => Node;
        /// A service, without its revisions and placements.
        "services" Service(id: ServiceId) => ServiceHead;
        /// A revision of a service.
        "revisions" Revision(id: ServiceId, number: RevisionNumber) => Revision;
        /// The placement of an instance.
        "instances" Instance(id: InstanceId) => Placement;
        /// A revision of a bundle.
        "bundles" Bundle(path: ServiceId, number: RevisionNumber) => Bundle;
        /// A request that was executed.
        "requests" Request(key: RequestKey) => ExecutedRequest;
    }
    tables {
        /// A deployment.
        "deployments" Deployment(DeploymentId) => Deployment, in deployments;
        /// A gateway document.
        "gateways" Gateway(GatewayId) => Gateway, in gateways;
    }
}

impl State {
    /// All stored objects by key.
    pub fn objects(&self) -> impl Iterator<Item = (Key, Object)> {
        self.keys().filter_map(|key| self.object(&key).map(|object| (key, object)))
    }

    /// Rebuilds the state from its objects, given in any order. Objects whose service, revision or
    /// node is missing are dropped: they remain from a state that was not stored in one
    /// transaction.
    pub fn load(objects: impl IntoIterator<Item = (Key, Object)>) -> State {
        let mut state = State::new();
        let mut objects: Vec<_> = objects.into_iter().collect();
        objects.sort_by_key(|(key, _)| key.kind());
        for (key, object) in objects {
            state.put(key, object);
        }
        state.recount_all();
        state.node_index = Arc::new(state.build_node_index());
        state
    }
}

impl Stored for Meta {
    type Name = ();

    fn get(state: &State, (): &()) -> Option<Self> {
        Some(state.meta)
    }

    fn names(_: &State) -> impl Iterator<Item = ()> {
        std::iter::once(())
    }

    fn put(self, state: &mut State, (): ()) {
        state.meta = self;
    }
}

impl Stored for Cluster {
    type Name = ();

    fn get(state: &State, (): &()) -> Option<Self> {
        state.cluster.as_deref().cloned()
    }

    fn names(state: &State) -> impl Iterator<Item = ()> {
        state.cluster.iter().map(|_| ())
    }

    fn put(self, state: &mut State, (): ()) {
        state.cluster = Some(Arc::new(self));
    }
}

impl Stored for Node {
    type Name = (NodeId,);

    fn get(state: &State, (id,): &Self::Name) -> Option<Self> {
        state.nodes.get(id).map(|usage| usage.node.clone())
    }

    fn names(state: &State) -> impl Iterator<Item = Self::Name> {
        state.nodes.keys().map(|id| (id.clone(),))
    }

    fn put(self, state: &mut State, (id,): Self::Name) {
        state.nodes.insert_mut(id, Arc::new(NodeUsage::new(self)));
    }
}

impl Stored for ServiceHead {
    type Name = (ServiceId,);

    fn get(state: &State, (id,): &Self::Name) -> Option<Self> {
        state.services.get(id).map(|service| service.head.clone())
    }

    fn names(state: &State) -> impl Iterator<Item = Self::Name> {
        state.services.keys().map(|id| (id.clone(),))
    }

    fn put(self, state: &mut State, (id,): Self::Name) {
        state.services.insert_mut(id, Arc::new(Service::from(self)));
    }
}

impl Stored for Revision {
    type Name = (ServiceId, RevisionNumber);

    fn get(state: &State, (id, number): &Self::Name) -> Option<Self> {
        state.services.get(id)?.revisions.get(number).map(|revision| Self::clone(revision))
    }

    fn names(state: &State) -> impl Iterator<Item = Self::Name> {
        state.services.values().flat_map(|service| {
            service.revisions.keys().map(|number| (service.id.clone(), *number))
        })
    }

    fn put(self, state: &mut State, (id, number): Self::Name) {
        if let Some(service) = state.services.get_mut(&id) {
            Arc::make_mut(service).revisions.insert(number, Arc::new(self));
        }
    }
}

impl Stored for Placement {
    type Name = (InstanceId,);

    fn get(state: &State, (id,): &Self::Name) -> Option<Self> {
        state.placement(id).cloned()
    }

    fn names(state: &State) -> impl Iterator<Item = Self::Name> {
        state.services.values().flat_map(|service| {
            let name = |replica: &ReplicaId| {
                (InstanceId { service: service.id.clone(), replica: *replica },)
            };
            service.placements.keys().map(name)
        })
    }

    fn put(self, state: &mut State, (id,): Self::Name) {
        state.allocate(id, self);
    }
}

impl Stored for Bundle {
    type Name = (ServiceId, RevisionNumber);

    fn get(state: &State, name: &Self::Name) -> Option<Self> {
        state.bundles.get(name).map(|bundle| Self::clone(bundle))
    }

    fn names(state: &State) -> impl Iterator<Item = Self::Name> {
        state.bundles.keys().cloned()
    }

    fn put(self, state: &mut State, name: Self::Name) {
        state.bundles.insert_mut(name, Arc::new(self));
    }
}

impl Stored for ExecutedRequest {
    type Name = (RequestKey,);

    fn get(state: &State, (key,): &Self::Name) -> Option<Self> {
        state.requests.get(key).cloned()
    }

    fn names(state: &State) -> impl Iterator<Item = Self::Name> {
        state.requests.keys().map(|key| (key.clone(),))
    }

    fn put(self, state: &mut State, (key,): Self::Name) {
        state.requests.insert(key, self);
    }
}
