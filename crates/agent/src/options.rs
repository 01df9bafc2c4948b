//! The options of an agent, set by the command line and used by the shell.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use model::{ClusterId, NodeId, Resources};

/// How to run an agent.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server to follow, such as `http://127.0.0.1:4040`.
    pub server: String,
    /// The name of this node.
    pub node: NodeId,
    /// The directory of the last assignments, the keeper and the directories of instances. Only one
    /// agent at a time may use it.
    pub data_dir: PathBuf,
    /// The address at which instances on this node are reached and probed.
    pub address: String,
    /// The socket address of the API for logs; port 0 selects a free port.
    pub listen: SocketAddr,
    /// The resources available to instances; `None` means all cores and memory of the machine.
    pub capacity: Option<Resources>,
    /// Attributes that constraints refer to.
    pub labels: BTreeMap<String, String>,
    /// Capabilities in addition to those that the agent detects (`process`, `docker`).
    pub capabilities: BTreeSet<String>,
    /// The ports that may be allocated to instances: first and last, inclusive.
    pub ports: (u16, u16),
    /// How to reach the Docker daemon; `None` means that the node runs no containers.
    pub docker: Option<DockerOptions>,
    /// Whether the files of instances may be fetched from addresses that only this node can reach:
    /// loopback, link-local and metadata addresses.
    pub fetch_local: bool,
    /// The cluster to follow from now on, whichever the agent belonged to before.
    pub adopt_cluster: Option<ClusterId>,
    /// Stop and remove everything when the agent ends, however it ends.
    pub ephemeral: bool,
    /// The program to run as `<keeper_exe> keeper --dir DIR [--ephemeral]`: muster itself.
    pub keeper_exe: PathBuf,
}

/// How to reach the Docker daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerOptions {
    /// Its address as in `DOCKER_HOST`; `None` means the default socket.
    pub host: Option<String>,
    /// The directory of `config.json`, which holds registry credentials; `None` means no
    /// credentials.
    pub config_dir: Option<PathBuf>,
}
