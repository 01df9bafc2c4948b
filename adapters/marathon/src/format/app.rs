//! The definition of a Marathon app: every key that Muster supports, with Marathon's defaults.
//!
//! `read` decodes a document into an [`App`] and rewrites deprecated keys into their current form.
//! The deprecated keys are fields here, but are never serialized. Marathon's other keys request
//! features that Muster does not have; `unsupported` lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::{Constraint, ServiceId, Source};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ADAPTER;
use super::check::{HealthCheck, ReadinessCheck};
use super::container::{Container, Network, PortDefinition};
use super::fetch::Artifact;
use super::names::{KillSelection, Mode};
use super::number::{Number, Seconds};

/// The label of apps of which at most one instance may run at any time.
pub(super) const SINGLE: &str = "MARATHON_SINGLE_INSTANCE_APP";

/// The label that selects Muster's replacement of unhealthy tasks, which keep running until their
/// replacements are ready. By default, as in Marathon, the unhealthy task is killed first.
pub(super) const REPLACE_FIRST: &str = "MUSTER_REPLACE_FIRST";

/// A complete, valid app in its normal form: current keys only, with all defaults filled in. It is
/// serialized as Marathon's API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct App {
    pub(super) id: ServiceId,
    // Serialized even if unset, because some clients read these keys unconditionally.
    #[serde(default)]
    pub(super) cmd: Option<String>,
    #[serde(default)]
    pub(super) args: Option<Vec<String>>,
    #[serde(default)]
    pub(super) container: Option<Container>,
    #[serde(default)]
    pub(super) health_checks: Vec<HealthCheck>,
    #[serde(default = "App::default_instances")]
    pub(super) instances: u32,
    #[serde(default = "App::default_cpus")]
    pub(super) cpus: Number,
    /// In MiB.
    #[serde(default = "App::default_mem")]
    pub(super) mem: Number,
    /// In MiB. Reported to clients and tasks only; it does not affect placement.
    #[serde(default = "App::default_disk")]
    pub(super) disk: Number,
    #[serde(default)]
    pub(super) gpus: u32,
    #[serde(default)]
    pub(super) executor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(default = "App::default_role")]
    pub(super) role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) accepted_resource_roles: Option<BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) constraints: Vec<Constraint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) dependencies: Vec<ServiceId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) networks: Vec<Network>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) port_definitions: Option<Vec<PortDefinition>>,
    /// The deprecated form of `portDefinitions`.
    #[serde(default, skip_serializing)]
    pub(super) ports: Option<Vec<u16>>,
    #[serde(default)]
    pub(super) require_ports: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) fetch: Vec<Artifact>,
    /// The deprecated form of `fetch`.
    #[serde(default, skip_serializing)]
    pub(super) uris: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) readiness_checks: Vec<ReadinessCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upgrade_strategy: Option<UpgradeStrategy>,
    #[serde(default = "App::default_backoff_seconds")]
    pub(super) backoff_seconds: Seconds,
    #[serde(default = "App::default_backoff_factor")]
    pub(super) backoff_factor: Number,
    #[serde(default = "App::default_max_launch_delay_seconds")]
    pub(super) max_launch_delay_seconds: Seconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) task_kill_grace_period_seconds: Option<Seconds>,
    #[serde(default)]
    pub(super) kill_selection: KillSelection,
    #[serde(default)]
    pub(super) unreachable_strategy: UnreachableStrategy,
}

impl App {
    fn default_instances() -> u32 {
        1
    }
    fn default_cpus() -> Number {
        Number(1.0)
    }
    fn default_mem() -> Number {
        Number(128.0)
    }
    fn default_disk() -> Number {
        Number(0.0)
    }
    pub(super) fn default_role() -> String {
        "*".into()
    }
    pub(super) fn default_backoff_seconds() -> Seconds {
        Seconds::whole(1)
    }
    fn default_backoff_factor() -> Number {
        Number(1.15)
    }
    fn default_max_launch_delay_seconds() -> Seconds {
        Seconds::whole(300)
    }

    /// The id, which is the path of the app.
    pub fn id(&self) -> &ServiceId {
        &self.id
    }

    /// The labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The desired number of instances.
    pub fn instances(&self) -> u32 {
        self.instances
    }

    /// Returns the app with a different number of instances.
    pub fn scaled(mut self, instances: u32) -> App {
        self.instances = instances;
        self
    }

    /// The shell command, if the app has one.
    pub fn cmd(&self) -> Option<&str> {
        self.cmd.as_deref()
    }

    /// The health checks, in the form that the API shows.
    pub fn health_checks(&self) -> &[HealthCheck] {
        &self.health_checks
    }

    /// The name of the readiness check, if there is one.
    pub fn readiness_check(&self) -> Option<&str> {
        self.readiness_checks.first().map(|check| check.name.as_str())
    }

    /// Whether at most one instance may run at any time, even during an upgrade (see [`SINGLE`]).
    pub(super) fn is_single(&self) -> bool {
        self.is_labelled(SINGLE)
    }

    /// Whether a label has the value `true`, ignoring case.
    pub(super) fn is_labelled(&self, label: &str) -> bool {
        let label = self.labels.get(label);
        label.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether the app uses host networking, which is the default if it lists no network.
    pub(super) fn is_on_host(&self) -> bool {
        self.networks.iter().all(|network| network.mode == Mode::Host)
    }

    /// The app as JSON, as it is stored and as [`App::from_source`] reads it.
    pub fn to_source(&self) -> String {
        serde_json::to_string(self).expect("an app consists of nothing but JSON")
    }

    /// The app as the source of a revision.
    pub fn source(&self) -> Source {
        Source { adapter: ADAPTER.into(), text: self.to_source() }
    }

    /// Reads a stored app. Returns `None` if the text is not in the form of [`App::to_source`].
    pub fn from_source(text: &str) -> Option<App> {
        serde_json::from_str(text).ok()
    }
}

/// Limits on the number of instances during an upgrade, as fractions of `instances`: the minimum of
/// healthy instances, and the maximum of additional ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct UpgradeStrategy {
    pub(super) minimum_health_capacity: Number,
    pub(super) maximum_over_capacity: Number,
}

impl UpgradeStrategy {
    /// All instances may stop at once, and no additional ones may start.
    pub(super) const NONE: UpgradeStrategy = UpgradeStrategy {
        minimum_health_capacity: Number(0.0),
        maximum_over_capacity: Number(0.0),
    };
}

impl Default for UpgradeStrategy {
    fn default() -> Self {
        Self { minimum_health_capacity: Number(1.0), maximum_over_capacity: Number(1.0) }
    }
}

/// The handling of instances on an unreachable node: the string `disabled`, or an object of times.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum UnreachableStrategy {
    Disabled,
    After(Unreachable),
}

/// The times after which instances on an unreachable node are replaced, and removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Unreachable {
    pub(super) inactive_after_seconds: Seconds,
    pub(super) expunge_after_seconds: Seconds,
}

impl Default for Unreachable {
    fn default() -> Self {
        Self { inactive_after_seconds: Seconds::whole(0), expunge_after_seconds: Seconds::whole(0) }
    }
}

impl Default for UnreachableStrategy {
    fn default() -> Self {
        Self::After(Unreachable::default())
    }
}

const DISABLED: &str = "disabled";

impl Serialize for UnreachableStrategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            UnreachableStrategy::Disabled => serializer.serialize_str(DISABLED),
            UnreachableStrategy::After(times) => times.serialize(serializer),
        }
    }
}

/// Implemented by hand, because the errors of an untagged enum lack the position and the cause.
impl<'de> Deserialize<'de> for UnreachableStrategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strategy;
        impl<'de> Visitor<'de> for Strategy {
            type Value = UnreachableStrategy;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`disabled`, or times in seconds")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<UnreachableStrategy, E> {
                match text.eq_ignore_ascii_case(DISABLED) {
                    true => Ok(UnreachableStrategy::Disabled),
                    false => Err(E::unknown_variant(text, &[DISABLED])),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UnreachableStrategy, A::Error> {
                let times = Unreachable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(UnreachableStrategy::After(times))
            }
        }
        deserializer.deserialize_any(Strategy)
    }
}
