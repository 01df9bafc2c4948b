//! Networks and ports of an app, in today's form or the older ones.

use model::{Network, Port, Problem};

use super::app::{App, DockerNetwork, NetworkMode, PortMapping, Protocol};

/// The network of the app: its node's, unless it asks for a bridge.
pub(super) fn network(app: &App, problems: &mut Vec<Problem>) -> Network {
    let docker = app.container.as_ref().and_then(|container| container.docker.as_ref());
    let is_container = docker.is_some();
    let older = docker.and_then(|docker| docker.network);
    let newer = app.networks.as_deref().unwrap_or_default();
    if let ([_, ..], Some(_)) = (newer, older) {
        let message = "give either `networks` or `container.docker.network`, not both";
        problems.push(Problem::new("networks", message));
    }
    if newer.len() > 1 {
        problems.push(Problem::new("networks.1", "more than one network is not supported yet"));
    }
    const UNSUPPORTED: &str = "is not supported yet: networks are host and bridge";
    let network = match (newer.first().map(|network| network.mode), older) {
        (Some(NetworkMode::Host), _) | (None, Some(DockerNetwork::Host) | None) => Network::Host,
        (Some(NetworkMode::Bridge), _) | (None, Some(DockerNetwork::Bridge)) => Network::Bridge,
        (Some(NetworkMode::Container), _) => {
            let message = format!("`container` {UNSUPPORTED}");
            problems.push(Problem::new("networks.0.mode", message));
            Network::Bridge
        }
        (None, Some(DockerNetwork::None | DockerNetwork::User)) => {
            let message = format!("this network {UNSUPPORTED}");
            problems.push(Problem::new("container.docker.network", message));
            Network::Bridge
        }
    };
    if network == Network::Bridge && !is_container {
        let message = "a bridge is not supported yet for an app without an image";
        problems.push(Problem::new("networks", message));
    }
    network
}

/// The ports of the app.
pub(super) fn ports(app: &App, network: Network, problems: &mut Vec<Problem>) -> Vec<Port> {
    match network {
        Network::Host => host_ports(app, problems),
        Network::Bridge => mapped_ports(app, problems),
    }
}

/// The one port of an app that lists none.
fn default_port() -> Port {
    Port { name: Some("default".into()), ..Port::default() }
}

/// The given mappings and their key; today's key wins.
fn mappings(app: &App) -> Option<(&'static str, &Vec<PortMapping>)> {
    let container = app.container.as_ref()?;
    let newer = container.port_mappings.as_ref();
    let older = container.docker.as_ref().and_then(|docker| docker.port_mappings.as_ref());
    newer
        .map(|mappings| ("container.portMappings", mappings))
        .or(older.map(|mappings| ("container.docker.portMappings", mappings)))
}

fn host_ports(app: &App, problems: &mut Vec<Problem>) -> Vec<Port> {
    if let Some((key, [_, ..])) = mappings(app).map(|(key, mappings)| (key, mappings.as_slice())) {
        let message = "port mappings need a bridge: with host networking use `portDefinitions`";
        problems.push(Problem::new(key, message));
    }
    // Without `requirePorts` the number is a wish that a load balancer reads, not the node.
    let fixed = |port| if app.require_ports { port } else { 0 };
    match (&app.port_definitions, &app.ports) {
        (None, None) => vec![default_port()],
        (Some(definitions), older) => {
            let same = |ports: &Vec<u16>| {
                ports.iter().copied().eq(definitions.iter().map(|definition| definition.port))
            };
            if older.as_ref().is_some_and(|ports| !same(ports)) {
                let message = "give either `portDefinitions` or `ports`, not both";
                problems.push(Problem::new("ports", message));
            }
            let ports = definitions.iter().enumerate().map(|(index, definition)| Port {
                name: definition.name.clone(),
                port: fixed(definition.port),
                container: 0,
                protocol: protocol(
                    definition.protocol,
                    || format!("portDefinitions.{index}.protocol"),
                    problems,
                ),
            });
            ports.collect()
        }
        (None, Some(ports)) => {
            ports.iter().map(|port| Port { port: fixed(*port), ..Port::default() }).collect()
        }
    }
}

fn mapped_ports(app: &App, problems: &mut Vec<Problem>) -> Vec<Port> {
    let lists = [
        ("portDefinitions", app.port_definitions.as_ref().is_some_and(|list| !list.is_empty())),
        ("ports", app.ports.as_ref().is_some_and(|list| !list.is_empty())),
    ];
    for (key, is_given) in lists {
        if is_given {
            let message = format!("`{key}` needs host networking: on a bridge use `portMappings`");
            problems.push(Problem::new(key, message));
        }
    }
    let Some((key, mappings)) = mappings(app) else { return vec![default_port()] };
    let ports = mappings.iter().enumerate().map(|(index, mapping)| Port {
        name: mapping.name.clone(),
        port: mapping.host_port.unwrap_or(0),
        container: mapping.container_port,
        protocol: protocol(mapping.protocol, || format!("{key}.{index}.protocol"), problems),
    });
    ports.collect()
}

fn protocol(
    protocol: Protocol,
    key: impl FnOnce() -> String,
    problems: &mut Vec<Problem>,
) -> model::Protocol {
    match protocol {
        Protocol::Tcp => model::Protocol::Tcp,
        Protocol::Udp => model::Protocol::Udp,
        Protocol::Both => {
            let message = "one port for udp and tcp is not supported yet: give two ports";
            problems.push(Problem::new(key(), message));
            model::Protocol::Tcp
        }
    }
}
