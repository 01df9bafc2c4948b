//! Health and readiness checks in app definitions.

use serde::{Deserialize, Serialize};

use super::names::{Check, IpProtocol};
use super::number::Seconds;

/// A health check, in the form that the API accepts and shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthCheck {
    pub(super) protocol: Check,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<Command>,
    pub(super) grace_period_seconds: Seconds,
    pub(super) interval_seconds: Seconds,
    pub(super) timeout_seconds: Seconds,
    pub(super) max_consecutive_failures: u32,
    /// Accepted, but without effect: a response of 1xx is never final, so that it cannot decide a
    /// check.
    #[serde(rename = "ignoreHttp1xx", skip_serializing_if = "Option::is_none")]
    pub(super) ignore_http_1xx: Option<bool>,
    /// Only for checks that Mesos would perform.
    pub(super) delay_seconds: Seconds,
    pub(super) ip_protocol: IpProtocol,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            protocol: Check::default(),
            path: None,
            port: None,
            port_index: None,
            command: None,
            grace_period_seconds: Seconds::whole(300),
            interval_seconds: Seconds::whole(60),
            timeout_seconds: Seconds::whole(20),
            max_consecutive_failures: 3,
            ignore_http_1xx: None,
            delay_seconds: Seconds::whole(15),
            ip_protocol: IpProtocol::default(),
        }
    }
}

/// The shell command of a check with the protocol COMMAND.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    pub(super) value: String,
}

/// A readiness check, in the form that the API accepts and shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ReadinessCheck {
    pub(super) name: String,
    pub(super) protocol: Check,
    pub(super) path: String,
    pub(super) port_name: String,
    pub(super) interval_seconds: Seconds,
    pub(super) timeout_seconds: Seconds,
    pub(super) http_status_codes_for_ready: Vec<u16>,
    /// Whether Marathon shows the last response. Nothing else depends on it.
    pub(super) preserve_last_response: bool,
}

impl Default for ReadinessCheck {
    fn default() -> Self {
        Self {
            name: "readinessCheck".into(),
            protocol: Check::default(),
            path: "/".into(),
            port_name: "http-api".into(),
            interval_seconds: Seconds::whole(30),
            timeout_seconds: Seconds::whole(10),
            http_status_codes_for_ready: vec![200],
            preserve_last_response: false,
        }
    }
}
