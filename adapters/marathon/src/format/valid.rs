//! Marathon's validation of apps beyond types, with Marathon's messages, and the limitations of
//! Muster that depend on more than one key.

use std::collections::BTreeSet;

use model::Problem;

use super::app::{App, UnreachableStrategy};
use super::check::{HealthCheck, ReadinessCheck};
use super::container::{Container, Network};
use super::names::{Check, Engine, Mode, Protocol};
use super::number::Number;
use super::service_ports::AppPort;

/// Who reads the messages about an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// A client of the API, which may know Marathon's own messages.
    Client,
    /// The author of a file.
    Author,
}

/// Collects the problems of an app.
struct Rules {
    problems: Vec<Problem>,
    audience: Audience,
}

impl Rules {
    fn must(&mut self, holds: bool, key: &str, message: impl Into<String>) {
        if !holds {
            self.problems.push(Problem::new(key, message));
        }
    }
}

/// The problems of an app in its normal form.
pub(super) fn problems(app: &App, audience: Audience) -> Vec<Problem> {
    let mut rules = Rules { problems: Vec::new(), audience };
    let rules_of_parts: [fn(&App, &mut Rules); 9] =
        [path, run, amounts, networks, ports, fetch, health, readiness, strategies];
    rules_of_parts.iter().for_each(|of_part| of_part(app, &mut rules));
    rules.problems
}

const EMPTY: &str = "must not be empty";
/// Segments that cannot end the path of an app or a group: they are verbs of the API.
const RESERVED: [&str; 3] = ["restart", "tasks", "versions"];

/// Why the last segment of a path is rejected, if it is.
pub fn reserved(path: &str) -> Option<String> {
    let last = path.rsplit('/').next().filter(|last| RESERVED.contains(last))?;
    Some(format!("`{last}` is reserved and cannot end a service path"))
}

fn path(app: &App, rules: &mut Rules) {
    let reserved = reserved(app.id.as_str());
    rules.must(reserved.is_none(), "id", reserved.unwrap_or_default());
}

fn run(app: &App, rules: &mut Rules) {
    let has_image = app.container.as_ref().is_some_and(|container| container.docker.is_some());
    let says_once = app.cmd.is_some() != app.args.is_some();
    let (key, message) = match rules.audience {
        Audience::Client => {
            ("", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.")
        }
        Audience::Author if app.cmd.is_some() && app.args.is_some() => {
            ("args", "an app has `cmd` or `args`, not both: leave one of them out")
        }
        Audience::Author => ("", "an app needs `cmd`, `args`, or a `container` with an image"),
    };
    rules.must(says_once || (app.cmd.is_none() && has_image), key, message);
    let line = app.cmd.as_deref().unwrap_or("..");
    let message = match rules.audience {
        Audience::Author if !line.is_empty() => "must have 2 characters or more",
        _ => "must not be an empty string",
    };
    rules.must(line.len() > 1, "cmd", message);
    let Some(container) = &app.container else { return };
    let needs_image = container.engine == Engine::Docker;
    rules.must(!needs_image || has_image, "container.docker", "not defined");
    if let Some(docker) = &container.docker {
        rules.must(!docker.image.is_empty(), "container.docker.image", EMPTY);
    } else {
        let message = "volumes are not supported yet for an app without an image";
        rules.must(container.volumes.is_empty(), "container.volumes", message);
    }
    for (index, volume) in container.volumes.iter().enumerate() {
        let key = |key| format!("container.volumes.{index}.{key}");
        rules.must(!volume.container_path.is_empty(), &key("containerPath"), EMPTY);
        rules.must(!volume.host_path.is_empty(), &key("hostPath"), EMPTY);
    }
}

fn amounts(app: &App, rules: &mut Rules) {
    for (key, amount, max) in [
        ("cpus", app.cpus, f64::from(u32::MAX) / 1000.0),
        ("mem", app.mem, (1u64 << 33) as f64),
        ("disk", app.disk, f64::MAX),
    ] {
        let Number(amount) = amount;
        rules.must(amount >= 0.0, key, format!("got {amount}, expected 0 or more"));
        rules.must(amount <= max, key, format!("got {amount}, expected {max} or less"));
    }
    let Number(cpus) = app.cpus;
    let is_counted = cpus <= 0.0 || cpus >= 0.001;
    rules.must(is_counted, "cpus", format!("got {cpus}, expected 0.001 or more"));
    let executor = matches!(app.executor.as_str(), "" | "//cmd");
    rules.must(executor, "executor", "`executor` is not supported: Muster has no executors");
    let roles = app.accepted_resource_roles.as_ref();
    rules.must(roles.is_none_or(|roles| !roles.is_empty()), "acceptedResourceRoles", EMPTY);
}

fn networks(app: &App, rules: &mut Rules) {
    let mut seen: Vec<&Network> = Vec::new();
    for (index, network) in app.networks.iter().enumerate() {
        let key = format!("networks.{index}");
        let (is_named, is_labelled) = (network.name.is_some(), !network.labels.is_empty());
        match network.mode {
            Mode::Host => {
                let message = "Host networks may not have names or labels";
                rules.must(!is_named && !is_labelled, &key, message);
            }
            Mode::Bridge => {
                rules.must(!is_named, &key, "Bridge networks may not have names");
                let message = "`labels` of networks are not supported yet";
                rules.must(!is_labelled, &format!("{key}.labels"), message);
            }
            Mode::Container => {
                let message = "`container` is not supported yet: networks are host and bridge";
                rules.must(false, &format!("{key}.mode"), message);
            }
        }
        let is_new = !seen.contains(&network);
        rules.must(is_new, "networks", "Duplicate networks are not allowed");
        seen.push(network);
    }
    let all_containers = app.networks.iter().all(|network| network.mode == Mode::Container);
    rules.must(
        app.networks.len() <= 1 || all_containers,
        "networks",
        "May specify a single host network, single bridge network, or else 1-to-n container \
         networks",
    );
    let on_bridge = app.networks.iter().any(|network| network.mode == Mode::Bridge);
    let has_image = app.container.as_ref().is_some_and(|container| container.docker.is_some());
    let message = "a bridge is not supported yet for an app without an image";
    rules.must(!on_bridge || has_image, "networks", message);
}

fn ports(app: &App, rules: &mut Rules) {
    let key = if app.is_on_host() { "portDefinitions" } else { "container.portMappings" };
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in app.listed_ports().iter().enumerate() {
        let AppPort { name, number, protocol, labels } = port;
        let within = |inner: &str| format!("{key}.{index}.{inner}");
        if let Some(name) = name {
            let message = "must fully match regular expression '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'";
            rules.must(is_name(name), &within("name"), message);
            rules.must(names.insert(*name), key, "Port names must be unique.");
        }
        let is_free = *number == 0 || numbers.insert((*number, protocol.word()));
        rules.must(is_free, key, "Ports must be unique.");
        let message = "one port for udp and tcp is not supported yet: give two ports";
        rules.must(*protocol != Protocol::Both, &within("protocol"), message);
        for label in labels.keys().filter(|label| label.starts_with("VIP_")) {
            let message = "virtual IPs are not supported: a gateway serves an app at one address";
            rules.must(false, &within(&format!("labels.{label}")), message);
        }
    }
}

fn fetch(app: &App, rules: &mut Rules) {
    let has_image = app.container.as_ref().is_some_and(|container| container.docker.is_some());
    for (index, artifact) in app.fetch.iter().enumerate() {
        for (key, message) in artifact.problems(has_image) {
            rules.must(false, &format!("fetch.{index}.{key}"), message);
        }
    }
}

/// Letters, digits, and hyphens inside.
pub(super) fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(is_plain)
        && name.ends_with(is_plain)
        && name.chars().all(|c| is_plain(c) || c == '-')
}

fn health(app: &App, rules: &mut Rules) {
    let of_mesos = app.health_checks.iter().filter(|check| check.protocol.is_of_mesos());
    let message = "AppDefinition can contain at most one Mesos health check";
    rules.must(of_mesos.count() <= 1, "healthChecks", message);
    for (index, check) in app.health_checks.iter().enumerate() {
        health_check(app, check, &format!("healthChecks.{index}"), rules);
    }
}

const HTTPS: &str = "HTTPS checks are not supported yet: use HTTP, TCP or COMMAND";

fn health_check(app: &App, check: &HealthCheck, key: &str, rules: &mut Rules) {
    let is_command = check.protocol == Check::Command;
    if is_command {
        rules.must(check.command.is_some(), &format!("{key}.command"), "not defined");
    } else {
        let message = "`command` is only for checks of protocol COMMAND";
        rules.must(check.command.is_none(), &format!("{key}.command"), message);
    }
    let speaks_tls = matches!(check.protocol, Check::Https | Check::MesosHttps);
    rules.must(!speaks_tls, &format!("{key}.protocol"), HTTPS);
    let has_path = check.path.is_some();
    let message = "`path` is only for checks of protocol HTTP";
    rules.must(!has_path || check.protocol.is_http(), &format!("{key}.path"), message);
    if is_command {
        return;
    }
    let both = check.port.is_some() && check.port_index.is_some();
    let message = "give either `port` or `portIndex`, not both";
    rules.must(!both, &format!("{key}.port"), message);
    match check.port {
        Some(number) => {
            let message = format!("no port of the app is fixed to {number}: use `portIndex`");
            rules.must(app.fixed_port(check).is_some(), &format!("{key}.port"), message);
        }
        None => {
            let index = check.port_index.unwrap_or(0);
            let message = "Health check port indices must address an element of the ports array \
                           or container port mappings.";
            rules.must((index as usize) < app.listed_ports().len(), key, message);
        }
    }
}

fn readiness(app: &App, rules: &mut Rules) {
    let count = app.readiness_checks.len();
    rules.must(count <= 1, "readinessChecks", format!("got {count}, expected 1 or less"));
    for (index, check) in app.readiness_checks.iter().enumerate() {
        let ReadinessCheck { port_name, interval_seconds, timeout_seconds, protocol, .. } = check;
        let within = |key: &str| format!("readinessChecks.{index}.{key}");
        rules.must(!check.name.is_empty(), &within("name"), EMPTY);
        let is_spoken = matches!(protocol, Check::Http | Check::Https);
        rules.must(is_spoken, &within("protocol"), "must be HTTP or HTTPS");
        rules.must(*protocol != Check::Https, &within("protocol"), HTTPS);
        let is_known = app.listed_ports().iter().any(|port| port.name == Some(port_name));
        let message = format!("No port definition reference for portName {port_name}");
        rules.must(is_known, &within("portName"), message);
        let seconds = |seconds: &super::number::Seconds| seconds.0.0 as f64 / 1000.0;
        let (timeout, interval) = (seconds(timeout_seconds), seconds(interval_seconds));
        let message = format!("got {timeout}, expected less than {interval}");
        rules.must(timeout < interval, &within("timeoutSeconds"), message);
    }
}

fn strategies(app: &App, rules: &mut Rules) {
    let Number(factor) = app.backoff_factor;
    rules.must(factor >= 1.0, "backoffFactor", format!("got {factor}, expected 1 or more"));
    if let UnreachableStrategy::After(times) = &app.unreachable_strategy {
        let in_order = times.inactive_after_seconds <= times.expunge_after_seconds;
        let message = "inactiveAfterSeconds must be at most expungeAfterSeconds";
        rules.must(in_order, "unreachableStrategy", message);
    }
    let is_single = app.is_single();
    let message = "Single instance app may only have one instance";
    rules.must(!is_single || app.instances <= 1, "instances", message);
    let Some(upgrade) = &app.upgrade_strategy else { return };
    for (key, Number(share)) in [
        ("upgradeStrategy.minimumHealthCapacity", upgrade.minimum_health_capacity),
        ("upgradeStrategy.maximumOverCapacity", upgrade.maximum_over_capacity),
    ] {
        let message = format!("got {share}, expected between 0.0 and 1.0");
        rules.must((0.0..=1.0).contains(&share), key, message);
        let message = format!("got {share}, expected 0 for an app of a single instance");
        rules.must(!is_single || share == 0.0, key, message);
    }
}

impl Container {
    /// The port mappings of the container; empty if there are none.
    pub(super) fn mappings(&self) -> &[super::container::PortMapping] {
        self.port_mappings.as_deref().unwrap_or_default()
    }
}
