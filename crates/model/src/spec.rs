//! Service documents. A [`Spec`] is the document itself: the stored form, the displayed form and
//! the applied form are the same. Parsers produce it; [`Spec::problems`] (in `problem`) validates
//! it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;
use crate::id::ServiceId;
use crate::stack::Resource;
use crate::unit::{Bytes, Cpu, Millis, Share};
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

/// A command: a string for `/bin/sh -c`, or a list of words that is run directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CommandLine {
    /// Run by `/bin/sh -c`.
    Shell(String),
    /// Run as it is; the first word is the program.
    Words(Vec<String>),
}

/// Implemented by hand, because an untagged enum loses the index of an invalid list item.
impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CommandVisitor;
        impl<'de> Visitor<'de> for CommandVisitor {
            type Value = CommandLine;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a command: a text for the shell, or a list of words")
            }
            fn visit_str<E: de::Error>(self, line: &str) -> Result<CommandLine, E> {
                Ok(CommandLine::Shell(line.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CommandLine, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = seq.next_element()? {
                    words.push(word);
                }
                Ok(CommandLine::Words(words))
            }
        }
        deserializer.deserialize_any(CommandVisitor)
    }
}

impl CommandLine {
    /// The words to execute.
    pub fn words(&self) -> Vec<String> {
        match self {
            CommandLine::Shell(line) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
            CommandLine::Words(words) => words.clone(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            CommandLine::Shell(line) => line.trim().is_empty(),
            CommandLine::Words(words) => words.first().is_none_or(String::is_empty),
        }
    }
}

/// A container of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Container {
    /// The image, as `docker pull` takes it.
    pub image: String,
    /// Replaces the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandLine>,
    /// Replaces the image's entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// When the image is pulled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pull: Pull,
    /// Which network the container joins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// Directories of the node that the container sees.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volumes: Vec<Volume>,
    /// The user to run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Give the container all devices and rights of its node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub privileged: bool,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// If the node does not have it.
    #[default]
    Missing,
    /// Before every start.
    Always,
    /// Never: the node must have it.
    Never,
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network of its own behind the node's bridge; its ports are mapped.
    #[default]
    Bridge,
    /// The node's network; the instance listens on the port it is given in `PORT0`.
    Host,
}

/// A directory of the node, seen in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Volume {
    /// An absolute path on the node.
    pub source: String,
    /// An absolute path in the container.
    pub target: String,
    /// Whether the container may not write to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A plain process in its own session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Process {
    /// The command to run.
    pub command: CommandLine,
    /// The working directory; by default the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The user to run as; by default the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// The resources that an instance needs, or that a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Resources {
    /// Cores: a share under contention, not a ceiling.
    #[serde(default = "Resources::default_cpu")]
    pub cpu: Cpu,
    /// Memory: a hard limit.
    #[serde(default = "Resources::default_memory")]
    pub memory: Bytes,
}

impl Resources {
    /// Nothing at all.
    pub const NONE: Resources = Resources { cpu: Cpu(0), memory: Bytes(0) };

    fn default_cpu() -> Cpu {
        Cpu(100)
    }

    fn default_memory() -> Bytes {
        Bytes::mib(128)
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpu: Self::default_cpu(), memory: Self::default_memory() }
    }
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Port {
    /// Its name, by which checks and routes refer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port on the node; left out or 0, a free one is assigned.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port: u16,
    /// The port inside a container on the bridge; left out or 0, the same as on the node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub container: u16,
    /// Its protocol.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
}

/// The protocol of a port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// Which port a check or route means: by name, or by index from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected the name of a port, or its index from 0")]
pub enum PortRef {
    /// The nth port of the spec, from 0.
    Index(u32),
    /// The port of that name.
    Name(String),
}

impl Default for PortRef {
    fn default() -> Self {
        PortRef::Index(0)
    }
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PortRef::Index(index) => index.fmt(f),
            PortRef::Name(name) => f.write_str(name),
        }
    }
}

/// The probe of a check. Exactly one is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(deny_unknown_fields)]
pub enum Probe {
    /// A GET request.
    Http(HttpProbe),
    /// A connection that is accepted.
    Tcp(TcpProbe),
    /// A command in the instance that ends with 0.
    Command(CommandLine),
}

/// A GET request to the instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HttpProbe {
    /// The path to get.
    #[serde(default = "root_path")]
    pub path: String,
    /// The port to connect to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port: PortRef,
    /// The status codes that pass; by default any from 200 to 399.
    #[serde(default, skip_serializing_if = "is_default")]
    pub statuses: BTreeSet<u16>,
}

fn root_path() -> String {
    "/".into()
}

/// A connection to the instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TcpProbe {
    /// The port to connect to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port: PortRef,
}

/// A check repeated for as long as the instance runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HealthCheck {
    /// The probe.
    pub probe: Probe,
    /// From the end of one probe to the start of the next.
    #[serde(default = "HealthCheck::default_interval")]
    pub interval: Millis,
    /// A probe that takes longer has failed.
    #[serde(default = "HealthCheck::default_timeout")]
    pub timeout: Millis,
    /// The number of consecutive failures that make an instance unhealthy; 0: failures are only
    /// reported.
    #[serde(default = "HealthCheck::default_failures")]
    pub failures: u32,
    /// Failures in this time after a start do not count, unless a probe has passed.
    #[serde(default = "HealthCheck::default_grace")]
    pub grace: Millis,
}

impl HealthCheck {
    fn default_interval() -> Millis {
        Millis::secs(5)
    }
    fn default_timeout() -> Millis {
        Millis::secs(5)
    }
    fn default_failures() -> u32 {
        3
    }
    fn default_grace() -> Millis {
        Millis::secs(30)
    }
}

/// A check repeated until it passes once after each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ReadinessCheck {
    /// The probe.
    pub probe: Probe,
    /// From the end of one probe to the start of the next.
    #[serde(default = "ReadinessCheck::default_interval")]
    pub interval: Millis,
    /// A probe that takes longer has failed.
    #[serde(default = "HealthCheck::default_timeout")]
    pub timeout: Millis,
}

impl ReadinessCheck {
    fn default_interval() -> Millis {
        Millis::secs(1)
    }
}

/// How one revision is replaced by the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Rollout {
    /// The minimum of healthy instances, as a share of `instances` (rounded up) or a count.
    pub min_healthy: Share,
    /// The maximum of instances above `instances`, as a share of it (rounded down) or a count.
    #[serde(alias = "max_over")]
    pub max_surge: Share,
    /// A rollout without progress for this long has failed. Progress is one more ready instance.
    pub deadline: Millis,
    /// The action after a failed rollout.
    pub on_failure: OnFailure,
    /// A new instance without checks counts as ready after running for this long.
    #[serde(alias = "settle")]
    pub min_ready: Millis,
    /// Whether an unhealthy instance is replaced or stopped first.
    pub unhealthy: Unhealthy,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            min_healthy: Share::ALL,
            max_surge: Share::ALL,
            deadline: Millis::secs(600),
            on_failure: OnFailure::Rollback,
            min_ready: Millis::secs(1),
            unhealthy: Unhealthy::ReplaceFirst,
        }
    }
}

/// Whether an unhealthy instance is replaced or stopped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unhealthy {
    /// The replacement is ready before the instance is stopped, where the budget and the nodes have
    /// room for both.
    #[default]
    ReplaceFirst,
    /// The instance is stopped at once, regardless of the budget, and has ended before its
    /// replacement is placed.
    KillFirst,
}

/// The action after a failed rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Roll back to the previous revision.
    #[default]
    Rollback,
    /// Hold the rollout for the decision of a user.
    Hold,
}

/// When an instance that ended is started again. The first restart waits `first`; each further
/// consecutive one waits `backoff`, then `factor` times more, up to `max`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Restart {
    /// Before the first restart.
    pub first: Millis,
    /// Before the second consecutive restart.
    pub backoff: Millis,
    /// By how much each further wait grows.
    pub factor: f64,
    /// The longest wait.
    pub max: Millis,
    /// A run of this length resets the count of failures.
    pub reset_after: Millis,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            first: Millis(0),
            backoff: Millis::secs(1),
            factor: 1.15,
            max: Millis::secs(300),
            reset_after: Millis::secs(30),
        }
    }
}

impl Restart {
    /// The wait before the next start after `failures` consecutive failures (from 1).
    pub fn delay(&self, failures: u32) -> Millis {
        match failures {
            0 | 1 => self.first,
            _ => {
                let exponent = i32::try_from(failures - 2).unwrap_or(i32::MAX);
                // Not infinite: a wait of 0 must remain 0 however often it grows.
                let growth = self.factor.powi(exponent).min(f64::MAX);
                let delay = self.backoff.0 as f64 * growth;
                Millis((delay.min(self.max.0 as f64)) as u64)
            }
        }
    }
}

/// Whether and when instances on unreachable nodes are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Lost {
    /// Whether they are replaced elsewhere.
    pub replace: bool,
    /// The additional wait before they are replaced.
    pub after: Millis,
}

impl Default for Lost {
    fn default() -> Self {
        Self { replace: true, after: Millis(0) }
    }
}

/// Which instances are terminated first when there are too many. Instances that are not ready
/// always precede the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScaleDown {
    /// The youngest.
    #[default]
    Youngest,
    /// The oldest.
    Oldest,
}

/// How an instance is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Stop {
    /// The signal it is sent.
    pub signal: Signal,
    /// It is killed when it has not ended after this long.
    pub grace: Millis,
    /// The maximum time for gateways to finish its requests before it is stopped.
    pub drain: Millis,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: Signal::Term, grace: Millis::secs(10), drain: Millis::secs(30) }
    }
}

/// A signal that asks a process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Signal {
    /// SIGTERM.
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// SIGINT.
    #[serde(rename = "SIGINT")]
    Int,
    /// SIGQUIT.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// SIGHUP.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// SIGUSR1.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// SIGUSR2.
    #[serde(rename = "SIGUSR2")]
    Usr2,
}

impl Spec {
    /// Whether a move from `before` to this spec restarts instances. The number of instances,
    /// checks, rollout, labels and the like take effect in place.
    pub fn needs_restart(&self, before: &Spec) -> bool {
        self.container != before.container
            || self.process != before.process
            || self.stack_needs_restart(before)
            || self.resources != before.resources
            || self.ports != before.ports
            || self.env != before.env
            || self.requires != before.requires
            || self.roles != before.roles
            || self.constraints != before.constraints
    }
}
