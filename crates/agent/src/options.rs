//! What an agent is told when it is started. Read by the command line, used by the shell.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use model::{NodeId, Resources};

/// How to run an agent.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server to follow, such as `http://127.0.0.1:4040`.
    pub server: String,
    /// The name of this node.
    pub node: NodeId,
    /// Where the agent keeps its last assignments, the keeper and the directories of instances.
    /// One agent at a time may use it.
    pub data_dir: PathBuf,
    /// The address by which instances on this node are reached, and are probed.
    pub address: String,
    /// Where the API for logs listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What the node can give to instances; left out, all cores and memory of the machine.
    pub capacity: Option<Resources>,
    /// Attributes that constraints look at.
    pub labels: BTreeMap<String, String>,
    /// Capabilities beyond those that the agent finds out by itself (`process`, `docker`).
    pub capabilities: BTreeSet<String>,
    /// The ports that may be assigned to instances, first and last.
    pub ports: (u16, u16),
    /// How to reach the Docker daemon; left out, the node runs no containers.
    pub docker: Option<DockerOptions>,
    /// Stop and remove everything when the agent ends, however it ends.
    pub ephemeral: bool,
    /// The program to run as `<keeper_exe> keeper --dir DIR [--ephemeral]`: muster itself.
    pub keeper_exe: PathBuf,
}

/// How to reach the Docker daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerOptions {
    /// Its address as in `DOCKER_HOST`; left out, the usual socket.
    pub host: Option<String>,
    /// The directory with `config.json`, which holds the logins of registries; left out, none.
    pub config_dir: Option<PathBuf>,
}
