//! The ports of a service, and references to them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;

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

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortRef::Index(index) => index.fmt(f),
            PortRef::Name(name) => f.write_str(name),
        }
    }
}
