//! Validation of a service document by itself.

use std::collections::BTreeSet;

use super::file;
use super::resource::{
    Seen, is_variable, known_ports, not_a_variable, program_problems, resource_problems,
};
use crate::problem::Problem;
use crate::reference::{Own, Ref};
use crate::spec::{CommandLine, INSTANCES_MAX, Process, Program, Resource, Resources, Spec};

impl Spec {
    /// All violations of this spec by itself, in the order of its keys.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.program_problems(&mut problems);
        if self.instances > INSTANCES_MAX {
            problems.push(Problem::new("instances", format!("at most {INSTANCES_MAX} instances")));
        }
        let mut seen = Seen::default();
        if let Some(resource) = self.resources().next().filter(|_| self.stack.is_empty()) {
            resource_problems(&resource, "", &mut seen, &mut problems);
        } else if self.stack.is_empty() {
            // Check the rest also when the program is missing.
            let command = CommandLine::Shell("".into());
            let process = Process { command, workdir: None, user: None };
            let assumed = Spec { process: Some(process), ..self.clone() };
            let resource = assumed.resources().next();
            let resource = resource.expect("a service with a process has a resource");
            resource_problems(&resource, "", &mut seen, &mut problems);
        }
        self.stack_problems(&mut seen, &mut problems);
        let files = self.resources().flat_map(|resource| resource.files);
        if let Err(message) = file::check_total(files) {
            let key = if self.stack.is_empty() { "files" } else { "stack" };
            problems.push(Problem::new(key, message));
        }
        self.reference_problems(&mut problems);
        let mut refuse = |key: &str, message: String| problems.push(Problem::new(key, message));
        if !(self.restart.factor.is_finite() && self.restart.factor >= 1.0) {
            refuse("restart.factor", format!("{} must be at least 1", self.restart.factor));
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

    /// References to ports that no resource of the instance has.
    fn reference_problems(&self, problems: &mut Vec<Problem>) {
        self.visit_values(&mut |at, value| {
            for Ref::Own(own) in value.refs() {
                if let Own::Port(port) | Own::NodePort(port) = own
                    && self.port_index(port).is_none()
                {
                    let known = known_ports("service", self.all_ports());
                    let message = format!("there is no port `{port}`: {known}");
                    problems.push(Problem::new(at.to_string(), message));
                }
            }
        });
    }

    fn program_problems(&self, problems: &mut Vec<Problem>) {
        let mut refuse = |key: &str, message: &str| problems.push(Problem::new(key, message));
        match (&self.container, &self.process, self.stack.is_empty()) {
            (Some(_), Some(_), true) => {
                refuse("process", "give either `container` or `process`, not both");
            }
            (None, None, true) => {
                refuse("service", "give one of `container`, `process` and `stack`: what to run");
            }
            (Some(_), _, false) => {
                refuse("container", "a service with a `stack` has its containers there");
            }
            (None, Some(_), false) => {
                refuse("process", "a service with a `stack` has its processes there");
            }
            (Some(container), None, true) => {
                program_problems(Program::Container(container), "container", problems);
            }
            (None, Some(process), true) => {
                program_problems(Program::Process(process), "process", problems);
            }
            (None, None, false) => {}
        }
    }

    fn stack_problems(&self, seen: &mut Seen, problems: &mut Vec<Problem>) {
        if self.stack.is_empty() {
            return;
        }
        for (key, is_given) in [
            ("resources", self.resources != Resources::default()),
            ("ports", !self.ports.is_empty()),
            ("files", !self.files.is_empty()),
            ("health", !self.health.is_empty()),
            ("readiness", self.readiness.is_some()),
        ] {
            if is_given {
                let message = format!("a service with a `stack` has `{key}` in its resources");
                problems.push(Problem::new(key, message));
            }
        }
        let mut names = BTreeSet::new();
        for (i, resource) in self.stack.iter().enumerate() {
            let key = format!("stack.{i}");
            if !names.insert(&resource.name) {
                let message = format!("two resources are named `{}`", resource.name);
                problems.push(Problem::new(format!("{key}.name"), message));
            }
            if resource.retries > 0 && resource.task.is_none() {
                let message = "only a task has `retries`; others start again as `restart` says";
                problems.push(Problem::new(format!("{key}.retries"), message));
            }
            let is_tag = |tag: &&String| !tag.is_empty() && !tag.contains(char::is_whitespace);
            if let Some(tag) = resource.tags.iter().find(|tag| !is_tag(tag)) {
                let message = format!("`{tag}`: a tag is a word without spaces");
                problems.push(Problem::new(format!("{key}.tags"), message));
            }
            if resource.task.is_some() && !resource.health.is_empty() {
                let message = "a task completes: it has no health checks";
                problems.push(Problem::new(format!("{key}.health"), message));
            }
            if resource.task.is_some() && resource.readiness.is_some() {
                let message = "a task is ready once it has completed";
                problems.push(Problem::new(format!("{key}.readiness"), message));
            }
            if let Some(restart) = &resource.restart
                && !(restart.factor.is_finite() && restart.factor >= 1.0)
            {
                let message = format!("{} must be at least 1", restart.factor);
                problems.push(Problem::new(format!("{key}.restart.factor"), message));
            }
            let Some((program, is_task)) = resource.program() else {
                let message = "give exactly one of `container`, `process` and `task`: what to run";
                problems.push(Problem::new(key, message));
                continue;
            };
            let kind = match program {
                Program::Container(_) => "container",
                Program::Process(_) => "process",
            };
            let within =
                if is_task { format!("{key}.task.{kind}") } else { format!("{key}.{kind}") };
            program_problems(program, &within, problems);
            let alone = Spec { stack: vec![enabled(resource)], ..self.clone() };
            let one = alone.resources().next().expect("an enabled resource with a program");
            resource_problems(&one, &format!("{key}."), seen, problems);
        }
        for name in self.env.keys().filter(|name| !is_variable(name)) {
            problems.push(Problem::new("env", not_a_variable(name)));
        }
        let stays = |resource: &&Resource| resource.task.is_none() && !resource.disabled;
        if !self.stack.iter().any(|resource| stays(&resource)) {
            let message = "at least one resource must be a container or a process, and enabled";
            problems.push(Problem::new("stack", message));
        }
    }
}

fn enabled(resource: &Resource) -> Resource {
    Resource { disabled: false, ..resource.clone() }
}
#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A valid service with the fields of `given`; a field that is null is removed.
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

    fn check_stack(stack: Value, more: Value, expected: &[&str]) {
        let mut given = json!({"process": null, "stack": stack});
        given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        check(given, expected);
    }

    #[test]
    fn a_stack_excludes_a_container_or_process() {
        let web = json!([{"name": "web", "process": {"command": "serve"}}]);
        check_stack(web.clone(), json!({}), &[]);
        check(json!({"stack": web}), &["process"]);
        check_stack(web.clone(), json!({"container": {"image": "web"}}), &["container"]);
        let more = json!({
            "resources": {"cpu": 3}, "ports": [{}], "health": [{"probe": {"tcp": {}}}],
            "readiness": {"probe": {"tcp": {}}}, "env": {"": "x"}, "restart": {"first": "1s"},
        });
        check_stack(web, more, &["resources", "ports", "health", "readiness", "env"]);
    }

    #[test]
    fn each_resource_has_one_program_and_a_unique_name() {
        let run = json!({"command": "x"});
        let stack = json!([
            {"name": "a", "process": run, "task": {"process": run}},
            {"name": "a", "process": run},
            {"name": "b"},
            {"name": "c", "container": {"image": ""}},
            {"name": "d", "task": {"process": {"command": ""}}},
        ]);
        let expected = [
            "stack.0",
            "stack.1.name",
            "stack.2",
            "stack.3.container.image",
            "stack.4.task.process.command",
        ];
        check_stack(stack, json!({}), &expected);
    }

    #[test]
    fn tasks_have_retries_and_no_checks() {
        let run = json!({"command": "x"});
        let health = json!([{"probe": {"command": "x"}}]);
        let stack = json!([
            {"name": "a", "process": run, "retries": 1, "tags": ["a b"]},
            {"name": "b", "task": {"process": run}, "retries": 1, "health": health,
             "readiness": health[0], "restart": {"factor": 0.5}},
        ]);
        let expected = [
            "stack.0.retries",
            "stack.0.tags",
            "stack.1.health",
            "stack.1.readiness",
            "stack.1.restart.factor",
        ];
        check_stack(stack, json!({}), &expected);
    }

    #[test]
    fn a_stack_has_at_least_one_enabled_resource_besides_tasks() {
        let run = json!({"command": "x"});
        let task = json!({"name": "a", "task": {"process": run}});
        let disabled = json!({"name": "b", "process": run, "disabled": true});
        check_stack(json!([task, disabled]), json!({}), &["stack"]);
    }

    #[test]
    fn ports_are_unique_in_a_stack_and_checks_use_those_of_their_resource() {
        let tcp = |port: Value| json!([{"probe": {"tcp": {"port": port}}}]);
        let stack = json!([
            {"name": "a", "process": {"command": "x"}, "ports": [{"name": "http", "port": 80}, {}],
             "health": tcp(json!("http"))},
            {"name": "b", "process": {"command": "x"}, "ports": [{"name": "http", "port": 80}],
             "health": tcp(json!(1))},
            {"name": "c", "container": {"image": "x"}, "ports": [{"container": 80}],
             "health": tcp(json!("http")), "env": {"=": ""}},
        ]);
        let expected = [
            "stack.1.ports.0.name",
            "stack.1.ports.0.port",
            "stack.1.health.0.probe.tcp.port",
            "stack.2.health.0.probe.tcp.port",
            "stack.2.env",
        ];
        check_stack(stack, json!({}), &expected);
    }

    #[test]
    fn references_name_a_port_of_the_instance() {
        let to = |port: &str| json!({"template": format!("${{port.{port}}}")});
        check(json!({"ports": [{"name": "http"}], "env": {"A": to("http"), "B": to("0")}}), &[]);
        check(
            json!({"ports": [{"name": "http"}], "env": {"A": to("web"), "B": to("1")}}),
            &["env.A", "env.B"],
        );
        let stack = json!([
            {"name": "a", "process": {"command": "x"}, "ports": [{"name": "http"}]},
            {"name": "b", "process": {"command": "x"}, "env": {"A": to("http"), "B": to("web")}},
        ]);
        check_stack(stack, json!({"env": {"C": to("http")}}), &["stack.1.env.B"]);
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
    fn volumes_have_absolute_paths_on_both_sides() {
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
    fn the_number_of_instances_is_limited() {
        check(json!({"instances": 0}), &[]);
        check(json!({"instances": INSTANCES_MAX}), &[]);
        check(json!({"instances": INSTANCES_MAX + 1}), &["instances"]);
    }

    #[test]
    fn the_restart_factor_is_finite_and_at_least_one() {
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
    fn names_of_variables_are_valid_in_a_process_environment() {
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
    fn constraints_from_adapters_are_validated_like_native_ones() {
        let mut spec = spec(json!({"constraints": [["rack", "UNIQUE"], ["rack", "MAX_PER", "1"]]}));
        assert_eq!(keys(&spec), [""; 0]);
        spec.constraints[1].value = None;
        assert_eq!(keys(&spec), ["constraints.1"]);
    }

    #[test]
    fn port_names_are_words_and_unique() {
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
    fn intervals_and_timeouts_of_checks_are_positive() {
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
    fn checks_use_a_port_of_the_service() {
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
