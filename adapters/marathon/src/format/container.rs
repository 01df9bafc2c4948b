//! Containers, networks and ports in app definitions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names::{Access, DockerNetwork, Engine, Mode, Protocol};

/// The container of an app, with its volumes and, on a bridge, its ports.
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

/// The image of a container, with Docker's options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Docker {
    pub(super) image: String,
    #[serde(default)]
    pub(super) force_pull_image: bool,
    #[serde(default)]
    pub(super) privileged: bool,
    /// Always empty, since parameters are not supported. Serialized for clients that expect the
    /// key.
    #[serde(default)]
    pub(super) parameters: [(); 0],
    /// The deprecated form of `networks`.
    #[serde(default, skip_serializing)]
    pub(super) network: Option<DockerNetwork>,
    /// The deprecated form of `container.portMappings`.
    #[serde(default, skip_serializing)]
    pub(super) port_mappings: Option<Vec<PortMapping>>,
}

/// A host path that is mounted into the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) container_path: String,
    pub(super) host_path: String,
    #[serde(default)]
    pub(super) mode: Access,
}

/// The network mode of an app.
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

/// A port on the host network. `port` is the service port, on which a load balancer of Marathon
/// listens; the instance gets the same number only if `requirePorts` is set.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PortDefinition {
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// A port of a container on a bridge network.
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
