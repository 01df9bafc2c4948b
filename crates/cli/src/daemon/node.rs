//! The options that describe a node: its name, its address, its resources.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;

use agent::DockerOptions;
use model::{Bytes, ClusterId, Cpu, NodeId, PORTS, Resources};

use crate::exit::Exit;
use crate::output::Failure;

/// Which node it is.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Node")]
pub(crate) struct Identity {
    /// The name of this node; by default the host name
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeId>,
    /// The address by which others reach the instances here; by default the one from which the
    /// server is reached
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,
}

/// Which cluster a daemon belongs to.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Adoption {
    /// Follow this cluster from now on. A daemon joins the cluster of the first server that it
    /// reaches, and follows no server of another one; `muster cluster` shows the id of a server's
    /// cluster. Instances of the former cluster keep running until `muster cluster stop-unknown`
    #[arg(long, value_name = "CLUSTER")]
    pub(crate) adopt_cluster: Option<ClusterId>,
}

/// The resources that the node offers to instances.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Node")]
pub(crate) struct Supply {
    /// Cores to give out; by default all
    #[arg(long, value_name = "CORES")]
    pub(crate) cpu: Option<Cpu>,
    /// Memory to give out, such as 8GiB; by default all
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,
    /// An attribute that constraints look at; may be given often
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Something this node can do that services may require; may be given often
    #[arg(long = "capability", value_name = "NAME")]
    pub(crate) capabilities: Vec<String>,
    /// The ports to give to instances
    #[arg(long, value_name = "FIRST-LAST", value_parser = ports)]
    pub(crate) ports: Option<(u16, u16)>,
    /// Allow services to fetch files from addresses that only this node can reach, such as loopback
    /// and cloud metadata
    #[arg(long)]
    pub(crate) fetch_local: bool,
    /// Run no containers
    #[arg(long)]
    pub(crate) no_docker: bool,
    /// The Docker daemon's address; by default the usual socket
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "DOCKER_HOST",
        hide_env_values = true,
        conflicts_with = "no_docker"
    )]
    pub(crate) docker_host: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected a key and a value such as rack=r1".into()),
    }
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let parse = || {
        let (first, last) = text.split_once('-')?;
        let range: (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        (0 < range.0 && range.0 <= range.1).then_some(range)
    };
    parse().ok_or_else(|| "expected the first and the last port, such as 20000-31999".into())
}

impl Identity {
    /// The name of the node.
    pub(crate) fn name(&self) -> Result<NodeId, Failure> {
        self.node.clone().map_or_else(host_name, Ok)
    }

    /// The address of the node, as others reach it.
    pub(crate) fn address(&self, server: &str) -> IpAddr {
        self.address.or_else(|| address_towards(server)).unwrap_or(Ipv4Addr::LOCALHOST.into())
    }
}

impl Supply {
    /// The options of an agent on this node.
    pub(crate) fn options(
        self,
        identity: &Identity,
        server: &str,
        data_dir: PathBuf,
        ephemeral: bool,
    ) -> Result<agent::Options, Failure> {
        let address = identity.address(server);
        let keeper_exe = std::env::current_exe().map_err(|error| {
            Failure::new(Exit::Failure, "this program cannot find itself").because(&error)
        })?;
        Ok(agent::Options {
            server: server.into(),
            node: identity.name()?,
            data_dir,
            address: address.to_string(),
            listen: SocketAddr::new(address, 0),
            capacity: self.capacity(),
            labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
            capabilities: self.capabilities.into_iter().collect::<BTreeSet<_>>(),
            ports: self.ports.unwrap_or(PORTS),
            docker: (!self.no_docker)
                .then(|| DockerOptions { host: self.docker_host, config_dir: docker_config_dir() }),
            fetch_local: self.fetch_local,
            adopt_cluster: None,
            ephemeral,
            keeper_exe,
        })
    }

    /// The capacity from the options; a missing value is the machine's.
    fn capacity(&self) -> Option<Resources> {
        if self.cpu.is_none() && self.memory.is_none() {
            return None;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all = Cpu(u32::try_from(cores).unwrap_or(1).saturating_mul(1000));
        let cpu = self.cpu.unwrap_or(all);
        Some(Resources { cpu, memory: self.memory.unwrap_or_else(machine_memory) })
    }
}

fn machine_memory() -> Bytes {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    Bytes(kib.unwrap_or(0u64) << 10)
}

fn docker_config_dir() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home)
}

/// The name of this machine, converted to a valid node name.
fn host_name() -> Result<NodeId, Failure> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_ascii_lowercase().replace('_', "-");
    host.parse().map_err(|error: model::id::Error| {
        Failure::new(Exit::Usage, format!("the host name `{host}` cannot name a node"))
            .because(&error)
            .hint("give one with --node")
    })
}

/// The local address of the route to the server. No packet is sent: the kernel only selects the
/// route.
fn address_towards(server: &str) -> Option<IpAddr> {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split('/').next()?;
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_string(),
        _ => format!("{authority}:80"),
    };
    let server = with_port.to_socket_addrs().ok()?.next()?;
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(server).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_server_is_reached_from_the_loopback_address() {
        for server in ["http://127.0.0.1:4040", "http://127.0.0.1"] {
            assert_eq!(address_towards(server), Some(Ipv4Addr::LOCALHOST.into()));
        }
        assert_eq!(address_towards("http://no such host"), None);
    }

    #[test]
    fn labels_and_ports_are_read() {
        assert_eq!(label("rack=r=1"), Ok(("rack".into(), "r=1".into())));
        assert!(label("=x").is_err() && label("rack").is_err());
        assert_eq!(ports("20000-20010"), Ok((20000, 20010)));
        assert!(ports("5-4").is_err() && ports("0-4").is_err() && ports("7").is_err());
    }
}
