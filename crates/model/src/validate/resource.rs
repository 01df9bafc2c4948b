//! Validation of one resource of a service: its program, ports, files, checks and variables.

use std::collections::BTreeSet;

use super::file;
use crate::problem::Problem;
use crate::reference::{Own, Ref};
use crate::spec::{Port, Probe, Program, Protocol, Volume};
use crate::stack::ResourceRef;
use crate::value::Value;

pub(super) fn program_problems(program: Program<'_>, key: &str, problems: &mut Vec<Problem>) {
    let mut refuse = |key: String, message: String| problems.push(Problem { key, message });
    match program {
        Program::Container(container) => {
            if container.image.trim().is_empty() {
                refuse(format!("{key}.image"), "name an image, such as nginx:1.29".into());
            }
            for (i, volume) in container.volumes.iter().enumerate() {
                let Volume { source, target, .. } = volume;
                for (end, path, is_absolute) in [
                    ("source", source.text(), is_absolute(source)),
                    ("target", target.as_str().into(), target.starts_with('/')),
                ] {
                    if !is_absolute {
                        let message = format!("`{path}` must be an absolute path");
                        refuse(format!("{key}.volumes.{i}.{end}"), message);
                    }
                }
            }
        }
        Program::Process(process) => {
            if process.command.is_empty() {
                refuse(format!("{key}.command"), "is empty: give a program to run".into());
            }
        }
    }
}

/// Whether a path is absolute; the directory of the instance is.
fn is_absolute(path: &Value) -> bool {
    path.prefix().starts_with('/')
        || (path.prefix().is_empty() && path.refs().first() == Some(&&Ref::Own(Own::Dir)))
}

/// The values of the resources so far that must be unique within an instance.
#[derive(Default)]
pub(super) struct Seen {
    port_names: BTreeSet<String>,
    fixed_ports: BTreeSet<(u16, Protocol)>,
    /// Paths in the directory of the instance.
    paths: BTreeSet<String>,
}

/// The violations in the ports, files, checks and variables of one resource, whose keys begin with
/// `prefix`.
pub(super) fn resource_problems(
    resource: &ResourceRef<'_>,
    prefix: &str,
    seen: &mut Seen,
    problems: &mut Vec<Problem>,
) {
    port_problems(resource, prefix, seen, problems);
    file_problems(resource, prefix, seen, problems);
    check_problems(resource, prefix, problems);
    for name in resource.env.keys().filter(|name| !is_variable(name)) {
        problems.push(Problem::new(format!("{prefix}env"), not_a_variable(name)));
    }
}

pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

pub(super) fn not_a_variable(name: &str) -> String {
    format!("`{name}` cannot be the name of a variable")
}

fn port_problems(
    resource: &ResourceRef<'_>,
    prefix: &str,
    seen: &mut Seen,
    problems: &mut Vec<Problem>,
) {
    for (i, port) in resource.ports.iter().enumerate() {
        if let Some(name) = &port.name {
            let good = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !good {
                let message = format!("`{name}`: use letters, digits, `-` and `_`");
                problems.push(Problem::new(format!("{prefix}ports.{i}.name"), message));
            } else if !seen.port_names.insert(name.clone()) {
                let message = format!("two ports are named `{name}`");
                problems.push(Problem::new(format!("{prefix}ports.{i}.name"), message));
            }
        }
        if port.port != 0 && !seen.fixed_ports.insert((port.port, port.protocol)) {
            let message = format!("port {} is listed twice", port.port);
            problems.push(Problem::new(format!("{prefix}ports.{i}.port"), message));
        }
        if port.container != 0 && !resource.is_on_bridge() {
            let message = "only a container on the bridge network has ports of its own";
            problems.push(Problem::new(format!("{prefix}ports.{i}.container"), message));
        }
    }
}

fn file_problems(
    resource: &ResourceRef<'_>,
    prefix: &str,
    seen: &mut Seen,
    problems: &mut Vec<Problem>,
) {
    let volumes: Vec<_> = match resource.program {
        Program::Container(container) => {
            container.volumes.iter().map(|volume| volume.target.as_str()).collect()
        }
        Program::Process(_) => Vec::new(),
    };
    let owner = match resource.program {
        Program::Container(_) => file::Owner::Container { volumes: &volumes },
        Program::Process(_) => file::Owner::Process,
    };
    for (key, message) in file::violations(resource.files, owner, &mut seen.paths) {
        let key = format!("{prefix}files.{key}");
        problems.push(Problem::new(key.trim_end_matches('.'), message));
    }
}

fn check_problems(resource: &ResourceRef<'_>, prefix: &str, problems: &mut Vec<Problem>) {
    let health = resource.health.iter().enumerate().map(|(i, check)| {
        (format!("{prefix}health.{i}"), &check.probe, check.interval, check.timeout)
    });
    let readiness = resource
        .readiness
        .iter()
        .map(|check| (format!("{prefix}readiness"), &check.probe, check.interval, check.timeout));
    for (key, probe, interval, timeout) in health.chain(readiness) {
        if interval.0 == 0 {
            problems.push(Problem::new(format!("{key}.interval"), "must be more than 0"));
        }
        if timeout.0 == 0 {
            problems.push(Problem::new(format!("{key}.timeout"), "must be more than 0"));
        }
        let (kind, port) = match probe {
            Probe::Http(http) => {
                if !http.path.prefix().starts_with('/') {
                    let message = format!("`{}` must begin with /", http.path);
                    problems.push(Problem::new(format!("{key}.probe.http.path"), message));
                }
                ("http", &http.port)
            }
            Probe::Tcp(tcp) => ("tcp", &tcp.port),
            Probe::Command(command) => {
                if command.is_empty() {
                    problems.push(Problem::new(format!("{key}.probe.command"), "is empty"));
                }
                continue;
            }
        };
        if resource.port_index(port).is_none() {
            let owner = if prefix.is_empty() { "service" } else { "resource" };
            let message = format!(
                "the {owner} has no port `{port}`: {}",
                known_ports(owner, resource.ports.iter())
            );
            problems.push(Problem::new(format!("{key}.probe.{kind}.port"), message));
        }
    }
}

pub(super) fn known_ports<'a>(owner: &str, ports: impl Iterator<Item = &'a Port>) -> String {
    let names: Vec<_> = ports.map(|port| port.name.as_deref()).collect();
    let count = names.len();
    let names: Vec<_> = names.into_iter().flatten().collect();
    match (count, names.is_empty()) {
        (0, _) => format!("the {owner} lists no ports"),
        (count, true) => format!("it has {count}, counted from 0"),
        (_, false) => format!("it has {}", names.join(", ")),
    }
}
