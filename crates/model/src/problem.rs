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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A service that is right but for `given`; what is given as null is left out.
    fn spec(given: Value) -> Spec {
        let mut document = json!({"service": "/a", "process": {"command": "serve"}});
        let fields = document.as_object_mut().unwrap();
        fields.extend(given.as_object().unwrap().clone());
        fields.retain(|_, value| !value.is_null());
        serde_json::from_value(document).unwrap()
    }

    fn keys(spec: &Spec) -> Vec<String> {
        spec.problems().into_iter().map(|problem| problem.key).collect()
    }

    fn check(given: Value, expected: &[&str]) {
        assert_eq!(keys(&spec(given.clone())), expected, "{given}");
    }

    #[test]
    fn a_service_runs_either_a_container_or_a_process() {
        check(json!({}), &[]);
        check(json!({"process": null}), &["service"]);
        check(json!({"container": {"image": "nginx"}}), &["process"]);
        check(json!({"process": null, "container": {"image": "nginx"}}), &[]);
        check(json!({"process": null, "container": {"image": " "}}), &["container.image"]);
    }

    #[test]
    fn a_command_names_a_program() {
        for command in [json!("serve"), json!(["serve"]), json!(["serve", ""])] {
            check(json!({"process": {"command": command}}), &[]);
        }
        for command in [json!(""), json!("  "), json!([]), json!(["", "serve"])] {
            check(json!({"process": {"command": command}}), &["process.command"]);
            check(
                json!({"readiness": {"probe": {"command": command}}}),
                &["readiness.probe.command"],
            );
        }
    }

    #[test]
    fn volumes_go_from_an_absolute_path_to_one() {
        let volumes = json!([
            {"source": "data", "target": "/data"},
            {"source": "/data", "target": "data"},
            {"source": "/data", "target": "/data"},
        ]);
        check(
            json!({"process": null, "container": {"image": "nginx", "volumes": volumes}}),
            &["container.volumes.0.source", "container.volumes.1.target"],
        );
    }

    #[test]
    fn there_is_a_limit_to_instances() {
        check(json!({"instances": 0}), &[]);
        check(json!({"instances": INSTANCES_MAX}), &[]);
        check(json!({"instances": INSTANCES_MAX + 1}), &["instances"]);
    }

    #[test]
    fn waits_never_shrink_and_stay_finite() {
        for (factor, expected) in [
            (1.0, &[][..]),
            (1.5, &[]),
            (0.99, &["restart.factor"]),
            (-2.0, &["restart.factor"]),
            (f64::INFINITY, &["restart.factor"]),
            (f64::NAN, &["restart.factor"]),
        ] {
            let mut spec = spec(json!({}));
            spec.restart.factor = factor;
            assert_eq!(keys(&spec), expected, "{factor}");
        }
    }

    #[test]
    fn variables_have_names_that_a_process_can_be_given() {
        check(json!({"env": {"A": "", "a.b-c": "=", "\u{e9}": "x"}}), &[]);
        for name in ["", "A=B", "A\0"] {
            check(json!({"env": {name: "x"}}), &["env"]);
        }
    }

    #[test]
    fn a_service_does_not_depend_on_itself() {
        check(json!({"depends_on": ["/a/b", "/b"]}), &[]);
        check(json!({"depends_on": ["/a", "/b"]}), &["depends_on"]);
    }

    #[test]
    fn constraints_of_other_systems_are_checked_like_ours() {
        let mut spec = spec(json!({"constraints": [["rack", "UNIQUE"], ["rack", "MAX_PER", "1"]]}));
        assert_eq!(keys(&spec), [""; 0]);
        spec.constraints[1].value = None;
        assert_eq!(keys(&spec), ["constraints.1"]);
    }

    #[test]
    fn port_names_are_words_of_their_own() {
        let named = |names: &[&str]| json!({"ports": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()});
        check(named(&["http", "a-b_C9", "80"]), &[]);
        check(named(&["", "a b", "a.b"]), &["ports.0.name", "ports.1.name", "ports.2.name"]);
        check(named(&["http", "admin", "http"]), &["ports.2.name"]);
        check(json!({"ports": [{}, {}]}), &[]);
    }

    #[test]
    fn a_port_of_the_node_is_listed_once_for_each_protocol() {
        check(json!({"ports": [{"port": 53}, {"port": 53, "protocol": "udp"}, {"port": 54}]}), &[]);
        check(json!({"ports": [{"port": 53}, {"port": 53}]}), &["ports.1.port"]);
        check(json!({"ports": [{"port": 0}, {"port": 0}]}), &[]);
    }

    #[test]
    fn only_a_container_on_the_bridge_has_ports_of_its_own() {
        let inside = json!([{"container": 80}, {}]);
        check(json!({"ports": inside}), &["ports.0.container"]);
        for (network, expected) in [("bridge", &[][..]), ("host", &["ports.0.container"])] {
            let container = json!({"image": "nginx", "network": network});
            check(json!({"process": null, "container": container, "ports": inside}), expected);
        }
    }

    #[test]
    fn checks_take_and_leave_some_time() {
        let check_of = |interval, timeout| {
            let probe = json!({"command": "true"});
            json!({"probe": probe, "interval": interval, "timeout": timeout})
        };
        check(
            json!({"health": [check_of("1ms", "1ms")], "readiness": check_of("1ms", "1ms")}),
            &[],
        );
        check(
            json!({
                "health": [check_of("0s", "1s"), check_of("1s", "0s")],
                "readiness": check_of("0s", "0s"),
            }),
            &["health.0.interval", "health.1.timeout", "readiness.interval", "readiness.timeout"],
        );
    }

    #[test]
    fn checks_ask_a_port_that_the_service_has() {
        let checks = json!([
            {"probe": {"http": {}}},
            {"probe": {"tcp": {"port": 1}}},
            {"probe": {"http": {"port": "web"}}},
        ]);
        check(json!({"health": checks, "ports": [{"name": "web"}, {}]}), &[]);
        check(
            json!({"health": checks, "ports": [{"name": "admin"}]}),
            &["health.1.probe.tcp.port", "health.2.probe.http.port"],
        );
        check(
            json!({"readiness": {"probe": {"http": {"path": "ready"}}}}),
            &["readiness.probe.http.path", "readiness.probe.http.port"],
        );
    }
}
