//! The parts of an app about its container, its networks and its ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names::{Access, DockerNetwork, Engine, Mode, Protocol};

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Container {
    #[serde(default, rename = "type")]
    pub(super) engine: Engine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) docker: Option<Docker>,
    #[serde(default)]
    pub(super) volumes: Vec<Volume>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) port_mappings: Option<Vec<PortMapping>>,
}

/// An image and how it is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Docker {
    pub(super) image: String,
    #[serde(default)]
    pub(super) force_pull_image: bool,
    #[serde(default)]
    pub(super) privileged: bool,
    /// None are supported; that there are none is written.
    #[serde(default)]
    pub(super) parameters: [(); 0],
    /// The older form of `networks`.
    #[serde(default, skip_serializing)]
    pub(super) network: Option<DockerNetwork>,
    /// The older form of `container.portMappings`.
    #[serde(default, skip_serializing)]
    pub(super) port_mappings: Option<Vec<PortMapping>>,
}

/// A directory of the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) container_path: String,
    pub(super) host_path: String,
    #[serde(default)]
    pub(super) mode: Access,
}

/// A network of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    #[serde(default)]
    pub(super) mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
}

impl From<Mode> for Network {
    fn from(mode: Mode) -> Network {
        Network { mode, name: None, labels: BTreeMap::new() }
    }
}

/// A port of the node. Its number is the service port, which a load balancer beside Marathon
/// listens on; only if `requirePorts` is set the instance gets it.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PortDefinition {
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// A port of a container on a bridge.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PortMapping {
    pub(super) container_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_port: Option<u16>,
    pub(super) service_port: u16,
    pub(super) protocol: Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
}
