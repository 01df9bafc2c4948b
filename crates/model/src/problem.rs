//! What is wrong with documents.

use std::collections::BTreeSet;

use crate::spec::{INSTANCES_MAX, Network, Probe, Spec};

/// One thing wrong with a document: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path of keys to the value, such as `health.0.probe.http.port`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem of the value at `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

impl Spec {
    /// Everything wrong with this spec taken by itself, in the order of its keys.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |key: String, message: String| problems.push(Problem { key, message });
        match (&self.container, &self.process) {
            (Some(_), Some(_)) => {
                refuse("process".into(), "give either `container` or `process`, not both".into());
            }
            (None, None) => {
                refuse(
                    "service".into(),
                    "give one of `container` and `process`: what to run".into(),
                );
            }
            (Some(container), None) => {
                if container.image.trim().is_empty() {
                    refuse("container.image".into(), "name an image, such as nginx:1.29".into());
                }
                for (i, volume) in container.volumes.iter().enumerate() {
                    for (key, path) in [("source", &volume.source), ("target", &volume.target)] {
                        if !path.starts_with('/') {
                            let message = format!("`{path}` must be an absolute path");
                            refuse(format!("container.volumes.{i}.{key}"), message);
                        }
                    }
                }
            }
            (None, Some(process)) => {
                if process.command.is_empty() {
                    refuse("process.command".into(), "is empty: give a program to run".into());
                }
            }
        }
        if self.instances > INSTANCES_MAX {
            refuse("instances".into(), format!("at most {INSTANCES_MAX} instances"));
        }
        self.port_problems(&mut problems);
        self.check_problems(&mut problems);
        let mut refuse = |key: &str, message: String| problems.push(Problem::new(key, message));
        if !(self.restart.factor.is_finite() && self.restart.factor >= 1.0) {
            refuse("restart.factor", format!("{} must be at least 1", self.restart.factor));
        }
        for name in self.env.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                refuse("env", format!("`{name}` cannot be the name of a variable"));
            }
        }
        for (i, constraint) in self.constraints.iter().enumerate() {
            if let Err(error) = constraint.check() {
                refuse(&format!("constraints.{i}"), error.to_string());
            }
        }
        if self.depends_on.contains(&self.service) {
            refuse("depends_on", format!("{} depends on itself", self.service));
        }
        problems
    }

    fn port_problems(&self, problems: &mut Vec<Problem>) {
        let mut names = BTreeSet::new();
        let mut fixed = BTreeSet::new();
        for (i, port) in self.ports.iter().enumerate() {
            if let Some(name) = &port.name {
                let good = !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                if !good {
                    let message = format!("`{name}`: use letters, digits, `-` and `_`");
                    problems.push(Problem::new(format!("ports.{i}.name"), message));
                } else if !names.insert(name) {
                    let message = format!("two ports are named `{name}`");
                    problems.push(Problem::new(format!("ports.{i}.name"), message));
                }
            }
            if port.port != 0 && !fixed.insert((port.port, port.protocol)) {
                let message = format!("port {} is listed twice", port.port);
                problems.push(Problem::new(format!("ports.{i}.port"), message));
            }
            let on_bridge = self.container.as_ref().is_some_and(|c| c.network == Network::Bridge);
            if port.container != 0 && !on_bridge {
                let message = "only a container on the bridge network has ports of its own";
                problems.push(Problem::new(format!("ports.{i}.container"), message));
            }
        }
    }

    fn check_problems(&self, problems: &mut Vec<Problem>) {
        let health =
            self.health.iter().enumerate().map(|(i, check)| {
                (format!("health.{i}"), &check.probe, check.interval, check.timeout)
            });
        let readiness = self
            .readiness
            .iter()
            .map(|check| ("readiness".to_string(), &check.probe, check.interval, check.timeout));
        for (key, probe, interval, timeout) in health.chain(readiness) {
            if interval.0 == 0 {
                problems.push(Problem::new(format!("{key}.interval"), "must be more than 0"));
            }
            if timeout.0 == 0 {
                problems.push(Problem::new(format!("{key}.timeout"), "must be more than 0"));
            }
            let (kind, port) = match probe {
                Probe::Http(http) => {
                    if !http.path.starts_with('/') {
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
            if self.port_index(port).is_none() {
                let names: Vec<_> = self.ports.iter().filter_map(|p| p.name.as_deref()).collect();
                let known = match (self.ports.len(), names.is_empty()) {
                    (0, _) => "the service lists no ports".to_string(),
                    (count, true) => format!("it has {count}, counted from 0"),
                    (_, false) => format!("it has {}", names.join(", ")),
                };
                let message = format!("the service has no port `{port}`: {known}");
                problems.push(Problem::new(format!("{key}.probe.{kind}.port"), message));
            }
        }
    }
}
