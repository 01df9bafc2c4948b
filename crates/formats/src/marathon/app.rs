//! A Marathon app as it is written: the keys that Muster understands, with Marathon's defaults.
//!
//! Keys of Marathon's that are missing here are refused by name in `refused`.

use std::collections::{BTreeMap, BTreeSet};

use model::{Constraint, Millis};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct App {
    pub(super) id: String,
    pub(super) cmd: Option<String>,
    pub(super) args: Option<Vec<String>>,
    pub(super) instances: u32,
    pub(super) cpus: f64,
    /// In MiB.
    pub(super) mem: f64,
    pub(super) user: Option<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) constraints: Vec<Constraint>,
    pub(super) dependencies: Vec<String>,
    pub(super) container: Option<Container>,
    pub(super) networks: Option<Vec<Network>>,
    pub(super) port_definitions: Option<Vec<PortDefinition>>,
    /// The older form of `portDefinitions`.
    pub(super) ports: Option<Vec<u16>>,
    pub(super) require_ports: bool,
    pub(super) health_checks: Vec<HealthCheck>,
    pub(super) readiness_checks: Vec<ReadinessCheck>,
    pub(super) upgrade_strategy: Option<UpgradeStrategy>,
    pub(super) backoff_seconds: Option<Seconds>,
    pub(super) backoff_factor: f64,
    pub(super) max_launch_delay_seconds: Seconds,
    pub(super) task_kill_grace_period_seconds: Seconds,
    pub(super) accepted_resource_roles: BTreeSet<String>,
    pub(super) kill_selection: KillSelection,
    pub(super) unreachable_strategy: UnreachableStrategy,
}

impl Default for App {
    fn default() -> Self {
        Self {
            id: String::new(),
            cmd: None,
            args: None,
            instances: 1,
            cpus: 1.0,
            mem: 128.0,
            user: None,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            constraints: Vec::new(),
            dependencies: Vec::new(),
            container: None,
            networks: None,
            port_definitions: None,
            ports: None,
            require_ports: false,
            health_checks: Vec::new(),
            readiness_checks: Vec::new(),
            upgrade_strategy: None,
            backoff_seconds: None,
            backoff_factor: 1.15,
            max_launch_delay_seconds: Seconds::whole(300),
            // Marathon leaves it to Mesos, whose agents wait this long.
            task_kill_grace_period_seconds: Seconds::whole(3),
            accepted_resource_roles: BTreeSet::new(),
            kill_selection: KillSelection::default(),
            unreachable_strategy: UnreachableStrategy::default(),
        }
    }
}

/// A number of seconds, which may be a fraction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) Millis);

impl Seconds {
    const fn whole(count: u64) -> Self {
        Seconds(Millis::secs(count))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Longer than any cluster runs, and far from where milliseconds overflow.
        const MAX: f64 = 1e12;
        let seconds = f64::deserialize(deserializer)?;
        if (0.0..=MAX).contains(&seconds) {
            Ok(Seconds(Millis((seconds * 1000.0).round() as u64)))
        } else {
            Err(D::Error::custom(format!("expected seconds, 0 or more, found {seconds}")))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Container {
    /// Either kind may run an image; only MESOS may do without.
    #[serde(default, rename = "type")]
    pub(super) kind: ContainerKind,
    #[serde(default)]
    pub(super) docker: Option<Docker>,
    #[serde(default)]
    pub(super) volumes: Vec<Volume>,
    #[serde(default)]
    pub(super) port_mappings: Option<Vec<PortMapping>>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum ContainerKind {
    #[default]
    Docker,
    Mesos,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Docker {
    pub(super) image: String,
    /// The older form of `networks`.
    #[serde(default)]
    pub(super) network: Option<DockerNetwork>,
    /// The older form of `container.portMappings`.
    #[serde(default)]
    pub(super) port_mappings: Option<Vec<PortMapping>>,
    #[serde(default)]
    pub(super) force_pull_image: bool,
    #[serde(default)]
    pub(super) privileged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum DockerNetwork {
    Host,
    Bridge,
    None,
    User,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) container_path: String,
    /// Left out where the volume is of another kind, which is refused by name.
    #[serde(default)]
    pub(super) host_path: Option<String>,
    #[serde(default)]
    pub(super) mode: VolumeMode,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum VolumeMode {
    Ro,
    #[default]
    Rw,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    pub(super) mode: NetworkMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum NetworkMode {
    #[serde(rename = "host")]
    Host,
    #[serde(rename = "container/bridge")]
    Bridge,
    #[serde(rename = "container")]
    Container,
}

/// The port that a definition or mapping asks for is the service port of a load balancer beside
/// Marathon unless `requirePorts` is set; Muster's gateways are documents of their own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PortDefinition {
    pub(super) port: u16,
    pub(super) name: Option<String>,
    pub(super) protocol: Protocol,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PortMapping {
    pub(super) container_port: u16,
    pub(super) host_port: Option<u16>,
    #[serde(rename = "servicePort")]
    _service_port: u16,
    pub(super) name: Option<String>,
    pub(super) protocol: Protocol,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Protocol {
    #[default]
    #[serde(rename = "tcp")]
    Tcp,
    #[serde(rename = "udp")]
    Udp,
    #[serde(rename = "udp,tcp", alias = "tcp,udp")]
    Both,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct HealthCheck {
    pub(super) protocol: CheckProtocol,
    pub(super) path: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) port_index: Option<u32>,
    pub(super) command: Option<CheckCommand>,
    pub(super) grace_period_seconds: Seconds,
    pub(super) interval_seconds: Seconds,
    pub(super) timeout_seconds: Seconds,
    pub(super) max_consecutive_failures: u32,
    /// Either way an answer of 1xx is never the last one, so that it cannot decide a check.
    #[serde(rename = "ignoreHttp1xx")]
    _ignore_http_1xx: bool,
    pub(super) delay_seconds: Option<Seconds>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            protocol: CheckProtocol::Http,
            path: None,
            port: None,
            port_index: None,
            command: None,
            grace_period_seconds: Seconds::whole(300),
            interval_seconds: Seconds::whole(60),
            timeout_seconds: Seconds::whole(20),
            max_consecutive_failures: 3,
            _ignore_http_1xx: false,
            delay_seconds: None,
        }
    }
}

/// Marathon checks from its master, or (`MESOS_…`) from the agent; Muster always does so from
/// the node of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum CheckProtocol {
    #[serde(rename = "HTTP", alias = "MESOS_HTTP")]
    Http,
    #[serde(rename = "HTTPS", alias = "MESOS_HTTPS")]
    Https,
    #[serde(rename = "TCP", alias = "MESOS_TCP")]
    Tcp,
    #[serde(rename = "COMMAND")]
    Command,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckCommand {
    pub(super) value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ReadinessCheck {
    /// Only for people: an app has at most one.
    #[serde(rename = "name")]
    _name: String,
    pub(super) protocol: CheckProtocol,
    pub(super) path: String,
    pub(super) port_name: String,
    pub(super) interval_seconds: Seconds,
    pub(super) timeout_seconds: Seconds,
    pub(super) http_status_codes_for_ready: Vec<u16>,
}

impl Default for ReadinessCheck {
    fn default() -> Self {
        Self {
            _name: String::new(),
            protocol: CheckProtocol::Http,
            path: "/".into(),
            port_name: "http-api".into(),
            interval_seconds: Seconds::whole(30),
            timeout_seconds: Seconds::whole(10),
            http_status_codes_for_ready: vec![200],
        }
    }
}

/// Which instances leave first when there are too many.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum KillSelection {
    #[default]
    YoungestFirst,
    OldestFirst,
}

/// When instances on a node that is not heard of are replaced: a text that says never, or times.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected \"disabled\", or an object of seconds")]
pub(super) enum UnreachableStrategy {
    Never(Disabled),
    After(Unreachable),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Disabled {
    Disabled,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Unreachable {
    pub(super) inactive_after_seconds: Seconds,
    pub(super) expunge_after_seconds: Seconds,
}

impl Default for Unreachable {
    fn default() -> Self {
        let none = Seconds::whole(0);
        Self { inactive_after_seconds: none, expunge_after_seconds: none }
    }
}

impl Default for UnreachableStrategy {
    fn default() -> Self {
        Self::After(Unreachable::default())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct UpgradeStrategy {
    pub(super) minimum_health_capacity: f64,
    pub(super) maximum_over_capacity: f64,
}

impl Default for UpgradeStrategy {
    fn default() -> Self {
        Self { minimum_health_capacity: 1.0, maximum_over_capacity: 1.0 }
    }
}
