//! Service documents. A [`Spec`] is the document itself: the stored form, the displayed form and
//! the applied form are the same. Parsers produce it; [`Spec::problems`] (in `validate`) validates
//! it, and `stack` yields the resources that each instance consists of.

mod capacity;
mod check;
mod file;
mod lifecycle;
mod port;
mod program;
mod resource;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::capacity::Resources;
pub use self::check::{HealthCheck, HttpProbe, Probe, ReadinessCheck, TcpProbe};
pub use self::file::{Base64, FileSource, FileSpec, Mode, OnChange, Sha256};
pub use self::lifecycle::{Restart, Signal, Stop, StopSignal};
pub use self::port::{Port, PortRef, Protocol};
pub use self::program::{CommandLine, Container, Network, Process, Program, Pull, Volume};
pub use self::resource::{Resource, Task};
pub use self::rollout::{Lost, OnFailure, Rollout, ScaleDown, Unhealthy};
use crate::constraint::Constraint;
use crate::id::ServiceId;
use crate::run::Run;
use crate::value::Value;

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A service: its program, its number of instances, their resources, checks and rollouts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Spec {
    /// The path of the service, such as `/shop/web`.
    pub service: ServiceId,
    /// How many instances should run.
    #[serde(default = "one")]
    pub instances: u32,
    /// Whether the instances run, are suspended, or do not exist. Left out, unchanged: a change of it
    /// is no new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// Whether nothing is done to the service automatically, such as restarting or replacing its
    /// instances. Left out, unchanged: a change of it is no new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
    /// Run a container. Exactly one of `container`, `process` and `stack` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Run a plain process. Exactly one of `container`, `process` and `stack` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Run several resources in each instance: they start in this order and stop in reverse.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stack: Vec<Resource>,
    /// The resources that each instance needs on its node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// The ports each instance listens on, in order: `PORT0` is the first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<Port>,
    /// Environment variables. `${node.name}` and the like stand for facts of the instance.
    #[serde(default, skip_serializing_if = "is_default")]
    pub env: BTreeMap<String, Value>,
    /// Files that are written before each start.
    #[serde(default, skip_serializing_if = "is_default")]
    pub files: Vec<FileSpec>,
    /// Health checks: an instance that fails one is replaced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Vec<HealthCheck>,
    /// The readiness check: a new instance gets traffic, and a rollout goes on, once it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<ReadinessCheck>,
    /// How one revision is replaced by the next.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollout: Rollout,
    /// When an instance that ended is started again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart: Restart,
    /// How an instance is stopped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stop: Stop,
    /// Where instances may run, as `[attribute, OPERATOR, value]`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub constraints: Vec<Constraint>,
    /// Capabilities the node must have.
    #[serde(default, skip_serializing_if = "is_default")]
    pub requires: BTreeSet<String>,
    /// Roles of which the node must have one: its label `role`, or `*` for nodes without that
    /// label. Left out, any node will do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub roles: BTreeSet<String>,
    /// Whether and when instances on unreachable nodes are replaced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lost: Lost,
    /// Which instances leave when there are too many.
    #[serde(default, skip_serializing_if = "is_default", alias = "surplus")]
    pub scale_down: ScaleDown,
    /// Services that must be ready before this one starts, and stop after it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub depends_on: BTreeSet<ServiceId>,
    /// Free labels, for people and tools.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
}

/// The maximum number of instances of one service: a typing error must not overload a cluster.
pub(crate) const INSTANCES_MAX: u32 = 100_000;

fn one() -> u32 {
    1
}

impl Spec {
    /// Whether a move from `before` to this spec restarts instances. The number of instances,
    /// checks, rollout, labels and the like take effect in place.
    pub fn needs_restart(&self, before: &Spec) -> bool {
        self.container != before.container
            || self.process != before.process
            || templates(&self.stack).ne(templates(&before.stack))
            || self.resources != before.resources
            || self.ports != before.ports
            || self.env != before.env
            || file_templates(&self.files).ne(file_templates(&before.files))
            || self.requires != before.requires
            || self.roles != before.roles
            || self.constraints != before.constraints
    }
}

fn file_templates(files: &[FileSpec]) -> impl Iterator<Item = FileSpec> {
    files.iter().map(FileSpec::template)
}

fn templates(stack: &[Resource]) -> impl Iterator<Item = Resource> {
    stack.iter().map(Resource::template)
}
