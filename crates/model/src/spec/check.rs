//! Health and readiness checks, and the probes that they repeat.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;
use super::port::PortRef;
use super::program::CommandLine;
use crate::unit::Millis;
use crate::value::Value;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HttpProbe {
    /// The path to get.
    #[serde(default = "root_path")]
    pub path: Value,
    /// The port to connect to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port: PortRef,
    /// The status codes that pass; by default any from 200 to 399.
    #[serde(default, skip_serializing_if = "is_default")]
    pub statuses: BTreeSet<u16>,
}

impl Default for HttpProbe {
    fn default() -> Self {
        HttpProbe { path: root_path(), port: PortRef::default(), statuses: BTreeSet::new() }
    }
}

fn root_path() -> Value {
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
