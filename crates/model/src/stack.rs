//! The stack of an instance: the ordered resources it consists of.
//!
//! A document has either a `stack`, or a `container` or `process`, which is short for a stack of
//! one resource named `main`. [`Spec::resources`] yields both in the same form, so that other code
//! need not distinguish them. Resources start in the order of the stack and stop in reverse.
//! [`merge`] defines the state of the instance.

mod merge;

use std::collections::BTreeMap;

pub use merge::{Merged, PieceState, merge};

use crate::id::ResourceId;
use crate::spec::{
    FileSpec, HealthCheck, Network, Port, PortRef, Program, ReadinessCheck, Resource, Resources,
    Restart, Spec, Stop, StopSignal, Task,
};
use crate::value::Value;

/// A resource as it takes effect: from a stack, or from a document that is short for one.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceRef<'a> {
    /// Its name.
    pub name: ResourceId,
    /// Its program.
    pub program: Program<'a>,
    /// Whether it runs once, until it completes.
    pub is_task: bool,
    /// How often it is run again when it fails as a task.
    pub retries: u32,
    /// Whether the instance does without it.
    pub optional: bool,
    /// Whether the instance fails once it ends by itself.
    pub monitor: bool,
    /// The subset whose consecutive members start and stop at the same time.
    pub subset: Option<&'a str>,
    /// The resources of the node that it needs.
    pub resources: &'a Resources,
    /// Its ports.
    pub ports: &'a [Port],
    /// The index of its first port among those of the instance, and in
    /// [`Given::ports`](crate::Given::ports).
    pub first_port: usize,
    /// The variables of the service, which those of the resource override.
    pub shared_env: Option<&'a BTreeMap<String, Value>>,
    /// Its own variables.
    pub env: &'a BTreeMap<String, Value>,
    /// Its files.
    pub files: &'a [FileSpec],
    /// Its health checks.
    pub health: &'a [HealthCheck],
    /// Its readiness check.
    pub readiness: Option<&'a ReadinessCheck>,
    /// When it is started again.
    pub restart: &'a Restart,
    /// How it is stopped.
    pub stop: StopSignal,
}

impl ResourceRef<'_> {
    /// Whether it is a container on the bridge network, with ports of its own.
    pub fn is_on_bridge(&self) -> bool {
        match self.program {
            Program::Container(container) => container.network == Network::Bridge,
            Program::Process(_) => false,
        }
    }

    /// The index of the port `port` among the resource's own ports, if it has that port.
    pub fn port_index(&self, port: &PortRef) -> Option<usize> {
        index_of(port, self.ports.iter())
    }

    /// Whether a check decides if it is healthy or ready.
    pub fn has_checks(&self) -> bool {
        !self.health.is_empty() || self.readiness.is_some()
    }
}

/// The index of the port `port`.
fn index_of<'a>(port: &PortRef, mut ports: impl Iterator<Item = &'a Port>) -> Option<usize> {
    match port {
        PortRef::Index(index) => Some(*index as usize).filter(|index| *index < ports.count()),
        PortRef::Name(name) => ports.position(|port| port.name.as_deref() == Some(name)),
    }
}

impl Spec {
    /// The resources of each instance, in the order in which they start. Resources that are
    /// disabled or have no program are skipped.
    pub fn resources(&self) -> impl Iterator<Item = ResourceRef<'_>> {
        let only = || {
            let program = match (&self.container, &self.process) {
                (Some(container), _) => Program::Container(container),
                (None, process) => Program::Process(process.as_ref()?),
            };
            Some(ResourceRef {
                name: ResourceId::main(),
                program,
                is_task: false,
                retries: 0,
                optional: false,
                monitor: false,
                subset: None,
                resources: &self.resources,
                ports: &self.ports,
                first_port: 0,
                shared_env: None,
                env: &self.env,
                files: &self.files,
                health: &self.health,
                readiness: self.readiness.as_ref(),
                restart: &self.restart,
                stop: (&self.stop).into(),
            })
        };
        let only = if self.stack.is_empty() { only() } else { None };
        let mut first_port = 0;
        only.into_iter().chain(self.enabled().filter_map(move |resource| {
            let own_first = first_port;
            first_port += resource.ports.len();
            let (program, is_task) = resource.program()?;
            Some(ResourceRef {
                name: resource.name.clone(),
                program,
                is_task,
                retries: resource.retries,
                optional: resource.optional,
                monitor: resource.monitor,
                subset: resource.subset.as_deref(),
                resources: &resource.resources,
                ports: &resource.ports,
                first_port: own_first,
                shared_env: Some(&self.env),
                env: &resource.env,
                files: &resource.files,
                health: &resource.health,
                readiness: resource.readiness.as_ref(),
                restart: resource.restart.as_ref().unwrap_or(&self.restart),
                stop: resource.stop.unwrap_or_else(|| (&self.stop).into()),
            })
        }))
    }

    fn enabled(&self) -> impl Iterator<Item = &Resource> {
        self.stack.iter().filter(|resource| !resource.disabled)
    }

    /// A resource by its name.
    pub fn resource(&self, name: &ResourceId) -> Option<ResourceRef<'_>> {
        self.resources().find(|resource| resource.name == *name)
    }

    /// This service with `resource` as its only resource: the input of a driver. Its ports are
    /// those from [`ResourceRef::first_port`] of the instance's ports.
    pub fn reduced_to(&self, resource: &ResourceRef<'_>) -> Spec {
        let mut env = resource.shared_env.cloned().unwrap_or_default();
        env.extend(resource.env.clone());
        let (container, process) = match resource.program {
            Program::Container(container) => (Some(container.clone()), None),
            Program::Process(process) => (None, Some(process.clone())),
        };
        let StopSignal { signal, grace } = resource.stop;
        Spec {
            container,
            process,
            stack: Vec::new(),
            resources: *resource.resources,
            ports: resource.ports.to_vec(),
            env,
            files: resource.files.to_vec(),
            health: resource.health.to_vec(),
            readiness: resource.readiness.cloned(),
            restart: resource.restart.clone(),
            stop: Stop { signal, grace, drain: self.stop.drain },
            ..self.clone()
        }
    }

    /// The ports of each instance, in the order of the stack: `PORT0` is the first.
    pub fn all_ports(&self) -> impl Iterator<Item = &Port> {
        let top_level = if self.stack.is_empty() { &self.ports[..] } else { &[] };
        top_level.iter().chain(self.enabled().flat_map(|resource| &resource.ports))
    }

    /// The sum of the resources of the node that each instance needs.
    pub fn total_resources(&self) -> Resources {
        if self.stack.is_empty() {
            return self.resources;
        }
        self.enabled().fold(Resources::NONE, |mut sum, resource| {
            sum.cpu.0 = sum.cpu.0.saturating_add(resource.resources.cpu.0);
            sum.memory.0 = sum.memory.0.saturating_add(resource.resources.memory.0);
            sum
        })
    }

    /// Whether each instance has a container, for which a node must have Docker.
    pub fn has_container(&self) -> bool {
        self.container.is_some()
            || self.enabled().any(|resource| {
                resource.container.is_some() || matches!(resource.task, Some(Task::Container(_)))
            })
    }

    /// Whether a health check counts for the instance: one of a resource that is not optional.
    pub fn has_health_checks(&self) -> bool {
        match self.stack.is_empty() {
            true => !self.health.is_empty(),
            false => self.enabled().any(|resource| counts(resource) && !resource.health.is_empty()),
        }
    }

    /// Whether a health or readiness check decides when an instance counts as ready.
    pub fn has_checks(&self) -> bool {
        let has_readiness = match self.stack.is_empty() {
            true => self.readiness.is_some(),
            false => {
                self.enabled().any(|resource| counts(resource) && resource.readiness.is_some())
            }
        };
        has_readiness || self.has_health_checks()
    }

    /// The index of the port `port` among [`Self::all_ports`], if the service has that port.
    pub fn port_index(&self, port: &PortRef) -> Option<usize> {
        index_of(port, self.all_ports())
    }
}

fn counts(resource: &Resource) -> bool {
    !resource.optional
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::Signal;
    use crate::unit::{Bytes, Cpu, Millis};

    fn spec(fields: serde_json::Value) -> Spec {
        let mut document = json!({"service": "/shop/web"});
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(document).unwrap()
    }

    fn stacked() -> Spec {
        spec(json!({
            "env": {"COLOR": "red", "LEVEL": "info"},
            "stop": {"grace": "3s"},
            "stack": [
                {"name": "migrate", "task": {"process": {"command": "migrate"}}, "retries": 2},
                {"name": "old", "process": {"command": "old"}, "ports": [{}], "disabled": true},
                {"name": "web", "container": {"image": "web"}, "env": {"COLOR": "blue"},
                 "resources": {"cpu": 1, "memory": "1GiB"}, "ports": [{"name": "http"}, {}],
                 "health": [{"probe": {"tcp": {}}}], "stop": {"signal": "SIGINT"}},
                {"name": "log", "process": {"command": "ship"}, "ports": [{"name": "log"}],
                 "resources": {"cpu": 0.5, "memory": "256MiB"}, "optional": true,
                 "restart": {"first": "5s"}, "readiness": {"probe": {"tcp": {}}}},
            ],
        }))
    }

    fn named(name: &str) -> ResourceId {
        name.parse().unwrap()
    }

    #[test]
    fn a_document_without_a_stack_is_a_stack_of_one() {
        let short = spec(json!({
            "container": {"image": "web"}, "ports": [{"name": "http"}], "env": {"A": "b"},
            "health": [{"probe": {"http": {}}}], "stop": {"grace": "1s"},
        }));
        let all: Vec<_> = short.resources().collect();
        let [main] = &all[..] else { panic!("{all:?}") };
        assert!(main.name.is_main() && !main.is_task && main.is_on_bridge());
        assert_eq!((main.ports, main.env), (&short.ports[..], &short.env));
        assert_eq!((main.health, main.stop.grace), (&short.health[..], Millis::secs(1)));
        assert_eq!(short.reduced_to(main), short);
        assert_eq!(spec(json!({})).resources().count(), 0);
    }

    #[test]
    fn resources_keep_the_order_of_the_stack_and_number_ports_over_the_instance() {
        let spec = stacked();
        let all: Vec<_> = spec.resources().map(|r| (r.name.to_string(), r.first_port)).collect();
        assert_eq!(all, [("migrate".into(), 0), ("web".into(), 0), ("log".into(), 2)]);
        let names: Vec<_> = spec.all_ports().map(|port| port.name.as_deref()).collect();
        assert_eq!(names, [Some("http"), None, Some("log")]);
        assert_eq!(spec.port_index(&PortRef::Name("log".into())), Some(2));
        assert_eq!(spec.port_index(&PortRef::Index(3)), None);
        let log = spec.resource(&named("log")).unwrap();
        assert_eq!(log.port_index(&PortRef::Name("log".into())), Some(0));
        assert_eq!(log.port_index(&PortRef::Name("http".into())), None);
    }

    #[test]
    fn an_instance_requires_the_sum_over_its_enabled_resources() {
        let spec = stacked();
        let expected = Resources { cpu: Cpu(1_600), memory: Bytes::mib(1024 + 256 + 128) };
        assert_eq!(spec.total_resources(), expected);
        assert!(spec.has_container() && spec.has_health_checks() && spec.has_checks());
    }

    #[test]
    fn checks_of_optional_resources_do_not_count_for_the_instance() {
        let mut spec = stacked();
        spec.stack[2].optional = true;
        assert!(!spec.has_health_checks() && !spec.has_checks());
    }

    #[test]
    fn a_resource_inherits_unset_keys_from_its_service() {
        let spec = stacked();
        let web = spec.reduced_to(&spec.resource(&named("web")).unwrap());
        let env: Vec<_> = web.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["COLOR=blue", "LEVEL=info"]);
        assert_eq!((web.stop.signal, web.stop.grace), (Signal::Int, Millis::secs(10)));
        assert_eq!(web.restart, Restart::default());
        let log = spec.reduced_to(&spec.resource(&named("log")).unwrap());
        assert_eq!((log.stop.grace, log.restart.first), (Millis::secs(3), Millis::secs(5)));
        assert!(log.stack.is_empty() && log.process.is_some() && log.problems().is_empty());
    }

    #[test]
    fn checks_restarts_and_stops_of_a_resource_take_effect_in_place() {
        let before = stacked();
        let restarts = |change: fn(&mut Resource)| {
            let mut after = before.clone();
            change(&mut after.stack[2]);
            after.needs_restart(&before)
        };
        assert!(!restarts(|_| {}));
        assert!(!restarts(|web| web.health.clear()));
        assert!(!restarts(|web| web.stop = None));
        assert!(!restarts(|web| web.restart = Some(Restart::default())));
        assert!(!restarts(|web| web.optional = true));
        assert!(!restarts(|web| web.monitor = true));
        assert!(!restarts(|web| web.tags = ["noaction".to_string()].into()));
        assert!(restarts(|web| web.disabled = true));
        assert!(restarts(|web| web.env.clear()));
        assert!(restarts(|web| web.subset = Some("front".into())));
        let mut reordered = before.clone();
        reordered.stack.swap(0, 2);
        assert!(reordered.needs_restart(&before));
    }
}
