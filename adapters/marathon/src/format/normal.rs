//! The normal form of an app: current keys instead of deprecated ones, with all defaults filled in.
//!
//! Normalization is idempotent. If a deprecated and a current key contradict each other, the
//! contradiction is reported.

use model::Problem;

use super::app::{App, UpgradeStrategy};
use super::container::{Container, PortDefinition, PortMapping};
use super::fetch::Artifact;
use super::names::{Check, DockerNetwork, Mode};

/// The name of the single port that an app has by default.
const DEFAULT_PORT: &str = "default";

/// Normalizes an app. Returns the contradictions in it.
pub(super) fn normalise(app: &mut App) -> Vec<Problem> {
    let mut problems = Vec::new();
    app.args = app.args.take().filter(|args| !args.is_empty());
    networks(app, &mut problems);
    older_mappings(app, &mut problems);
    match app.is_on_host() {
        true => definitions(app, &mut problems),
        false => mappings(app),
    }
    fetched(app, &mut problems);
    checks(app);
    let single = app.is_single().then_some(UpgradeStrategy::NONE);
    app.upgrade_strategy.get_or_insert_with(|| single.unwrap_or_default());
    let mut known = Vec::new();
    app.dependencies.retain(|id| {
        let is_new = !known.contains(id);
        known.push(id.clone());
        is_new
    });
    problems
}

/// Moves the network from the Docker options to the app.
fn networks(app: &mut App, problems: &mut Vec<Problem>) {
    let docker = app.container.as_mut().and_then(|container| container.docker.as_mut());
    let older = docker.and_then(|docker| docker.network.take());
    let mode = match older {
        Some(DockerNetwork::Host) | None => Mode::Host,
        Some(DockerNetwork::Bridge) => Mode::Bridge,
        Some(DockerNetwork::User | DockerNetwork::None) => {
            let message = "this network is not supported yet: networks are host and bridge";
            return problems.push(Problem::new("container.docker.network", message));
        }
    };
    let agrees = older.is_none() || app.networks.iter().all(|network| network.mode == mode);
    if !agrees {
        let message = "must not specify both container.docker.network and networks";
        problems.push(Problem::new("networks", message));
    }
    if app.networks.is_empty() {
        app.networks.push(mode.into());
    }
}

/// Moves port mappings from the Docker options to the container. An empty list counts as absent.
fn older_mappings(app: &mut App, problems: &mut Vec<Problem>) {
    let Some(container) = &mut app.container else { return };
    let older = container.docker.as_mut().and_then(|docker| docker.port_mappings.take());
    match (&container.port_mappings, older) {
        (_, None) => {}
        (Some(newer), Some(older)) if !newer.is_empty() && !older.is_empty() => {
            let message = "cannot specify both portMappings and docker.portMappings";
            problems.push(Problem::new("container.docker.portMappings", message));
        }
        (Some(newer), Some(_)) if !newer.is_empty() => {}
        (_, Some(older)) => container.port_mappings = Some(older),
    }
}

/// On the host network, ports are `portDefinitions`. As in Marathon, mappings are dropped.
fn definitions(app: &mut App, problems: &mut Vec<Problem>) {
    if let Some(Container { port_mappings, .. }) = &mut app.container {
        *port_mappings = None;
    }
    let default = || PortDefinition { name: Some(DEFAULT_PORT.into()), ..Default::default() };
    match (&app.port_definitions, app.ports.take()) {
        (None, None) => app.port_definitions = Some(vec![default()]),
        (None, Some(ports)) => {
            let definition = |port| PortDefinition { port, ..Default::default() };
            app.port_definitions = Some(ports.into_iter().map(definition).collect());
        }
        (Some(_), None) => {}
        (Some(definitions), Some(ports)) => {
            if !definitions.iter().map(|definition| definition.port).eq(ports) {
                let message = "cannot specify both ports and port definitions";
                problems.push(Problem::new("ports", message));
            }
        }
    }
}

/// On a bridge, ports are `portMappings`, and the deprecated `ports` lists their service ports. As in
/// Marathon, definitions are dropped, but there are at least as many mappings as definitions.
fn mappings(app: &mut App) {
    app.require_ports = false;
    let definitions = app.port_definitions.take().map_or(0, |definitions| definitions.len());
    let ports = app.ports.take().unwrap_or_default();
    let Some(container) = &mut app.container else { return };
    let default = || PortMapping { name: Some(DEFAULT_PORT.into()), ..Default::default() };
    let mappings = container.port_mappings.get_or_insert_with(|| vec![default()]);
    while mappings.len() < ports.len().max(definitions) {
        mappings.push(PortMapping::default());
    }
    for (mapping, port) in mappings.iter_mut().zip(ports) {
        if mapping.service_port == 0 {
            mapping.service_port = port;
        }
    }
    for mapping in mappings {
        mapping.host_port.get_or_insert(0);
    }
}

/// Converts `uris` into `fetch`.
fn fetched(app: &mut App, problems: &mut Vec<Problem>) {
    let uris = app.uris.take().filter(|uris| !uris.is_empty());
    match (uris, app.fetch.is_empty()) {
        (None, _) => {}
        (Some(uris), true) => app.fetch = uris.into_iter().map(Artifact::of).collect(),
        (Some(_), false) => {
            let message = "cannot specify both uris and fetch fields";
            problems.push(Problem::new("uris", message));
        }
    }
}

fn checks(app: &mut App) {
    let mappings = app.container.as_ref().and_then(|container| container.port_mappings.as_ref());
    let ports = match (mappings, &app.port_definitions) {
        (Some(mappings), _) => mappings.len(),
        (None, definitions) => definitions.as_ref().map_or(0, Vec::len),
    };
    for check in &mut app.health_checks {
        if check.protocol.is_http() {
            check.path.get_or_insert_with(|| "/".into());
        }
        if matches!(check.protocol, Check::Http | Check::Https) {
            check.ignore_http_1xx.get_or_insert(false);
        }
        let names_a_port = check.port.is_some() || check.port_index.is_some();
        if check.protocol != Check::Command && ports > 0 && !names_a_port {
            check.port_index = Some(0);
        }
    }
    for check in &mut app.readiness_checks {
        if check.http_status_codes_for_ready.is_empty() {
            check.http_status_codes_for_ready.push(200);
        }
    }
}
