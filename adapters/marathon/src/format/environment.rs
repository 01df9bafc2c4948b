//! The variables that Marathon sets in every task of an app. Those whose values differ between
//! tasks have references.
//!
//! By default, agents set `HOST`, and the port variables of apps on the host network. `PORT_` with
//! the number of a port that the app leaves open (`"containerPort": 0`) is omitted: only the task
//! would know the name.

use std::collections::BTreeMap;

use model::{Own, PortRef, Ref, Value};

use super::app::App;
use super::fetch;

/// Limit in bytes on the name and on the value of a label's variable. As in Marathon, a label that
/// reaches it is omitted.
const VARIABLE_LEN_MAX: usize = 512;
const LABEL: &str = "MARATHON_APP_LABEL_";

/// The variable with the path of the app.
const ID: &str = "MARATHON_APP_ID";

/// The variable with the requested disk in MiB.
pub(super) const DISK: &str = "MARATHON_APP_RESOURCE_DISK";

/// The environment of the tasks of an app. The app's own variables override Marathon's.
pub(super) fn environment(app: &App) -> BTreeMap<String, Value> {
    let labels: BTreeMap<String, &String> = app
        .labels
        .iter()
        .filter(|(name, value)| {
            name.len() < VARIABLE_LEN_MAX - LABEL.len() && value.len() < VARIABLE_LEN_MAX
        })
        .map(|(name, value)| (variable(name), value))
        .collect();
    let names: Vec<&str> = labels.keys().map(String::as_str).collect();
    let mut env = BTreeMap::from([
        (ID.to_string(), Value::from(app.id.as_str())),
        ("MARATHON_APP_LABELS".to_string(), names.join(" ").into()),
        // In the format of the JVM for floating-point numbers: 32 is 32.0.
        ("MARATHON_APP_RESOURCE_CPUS".to_string(), format!("{:?}", app.cpus.0).into()),
        ("MARATHON_APP_RESOURCE_MEM".to_string(), format!("{:?}", app.mem.0).into()),
        (DISK.to_string(), format!("{:?}", app.disk.0).into()),
        ("MARATHON_APP_RESOURCE_GPUS".to_string(), app.gpus.to_string().into()),
    ]);
    match app.container.as_ref().and_then(|container| container.docker.as_ref()) {
        Some(docker) => {
            env.insert("MARATHON_APP_DOCKER_IMAGE".into(), docker.image.as_str().into());
            if !app.fetch.is_empty() {
                env.insert("MESOS_SANDBOX".into(), fetch::SANDBOX.into());
            }
        }
        None => {
            env.insert("MESOS_SANDBOX".into(), reference("${dir}"));
        }
    }
    env.insert("MARATHON_APP_VERSION".into(), reference("${revision.created_at}"));
    env.insert("MESOS_TASK_ID".into(), reference(&task_id(app)));
    env.extend(ports(app));
    let label =
        |(name, value): (String, &String)| (format!("{LABEL}{name}"), Value::from(value.as_str()));
    env.extend(labels.into_iter().map(label));
    env.extend(app.env.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    env
}

impl App {
    /// The environment of the tasks.
    pub fn environment(&self) -> BTreeMap<String, Value> {
        environment(self)
    }

    /// Adds the variables that an earlier version did not store with an app. A native service that
    /// a client of Marathon has changed has none of them.
    pub fn complete_environment(&self, env: &mut BTreeMap<String, Value>) {
        if env.contains_key(ID) {
            for (name, value) in environment(self) {
                env.entry(name).or_insert(value);
            }
        }
    }
}

/// The service port of a port on the host network, by its index. A service has it in the name of a
/// variable only.
pub(super) fn service_port(env: &BTreeMap<String, Value>, index: usize) -> Option<u16> {
    let is_port = Value::Ref(Ref::Own(Own::NodePort(PortRef::Index(index as u32))));
    let names = env.iter().filter(|(_, value)| **value == is_port).map(|(name, _)| name);
    let mut numbers = names.filter_map(|name| name.strip_prefix("PORT_")?.parse().ok());
    numbers.find(|number| *number != 0)
}

/// The id of a task, which contains its app, slot, attempt and run; see `view::name`.
fn task_id(app: &App) -> String {
    let app = app.id.as_str().trim_start_matches('/').replace('/', "_");
    format!("{app}.instance-${{slot:08x}}-0000-4000-8000-${{attempt:012x}}._app.${{run}}")
}

/// `PORT_` with the requested numbers. On a bridge, the other variables too: by default, a container
/// gets its own ports. Marathon sets the ports of the node, since an app knows its own ports, and
/// has to announce those under which it is reachable.
fn ports(app: &App) -> BTreeMap<String, Value> {
    let mut env = BTreeMap::new();
    let node_port = |index: usize| format!("${{node.port.{index}}}");
    for (index, requested) in app.requested_ports().into_iter().enumerate() {
        if requested != 0 {
            env.insert(format!("PORT_{requested}"), reference(&node_port(index)));
        }
    }
    if app.is_on_host() {
        return env;
    }
    let listed = app.listed_ports();
    for (index, port) in listed.iter().enumerate() {
        env.insert(format!("PORT{index}"), reference(&node_port(index)));
        if let Some(name) = port.name {
            let name = name.to_ascii_uppercase().replace('-', "_");
            env.insert(format!("PORT_{name}"), reference(&node_port(index)));
        }
    }
    if !listed.is_empty() {
        env.insert("PORT".into(), reference(&node_port(0)));
        let all: Vec<_> = (0..listed.len()).map(node_port).collect();
        env.insert("PORTS".into(), reference(&all.join(",")));
    }
    env
}

fn reference(text: &str) -> Value {
    Value::parse(text).expect("the references are known, and an id has none")
}

/// A label's name as part of the name of a variable: each run of other characters becomes one `_`.
fn variable(label: &str) -> String {
    let mut name = String::with_capacity(label.len());
    for c in label.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            name.push(c.to_ascii_uppercase());
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Facts, Given, InstanceId, ResourceId, Timestamp};
    use serde_json::json;

    use super::*;
    use crate::format::read_app;
    use crate::view::name;

    /// The variables of a task of the app that depend on the task.
    fn check(app: &serde_json::Value, expected: &[(&str, &str)]) {
        let spec = read_app(app.to_string().as_bytes(), None).unwrap().spec().unwrap();
        let instance: InstanceId = "/shop/web~2.5".parse().unwrap();
        let spec = Arc::new(spec);
        let facts = Facts {
            node: &"n1".parse().unwrap(),
            address: "10.0.0.1",
            instance: &instance,
            resource: &ResourceId::main(),
            revision: 1,
            revision_created_at: Timestamp(1_000),
            run: Some(3),
            dir: Some("/data/x"),
            spec: &spec,
            given: &Given { ports: vec![31000, 31001] },
        };
        let env = spec.env.iter().filter(|(_, value)| value.has_references());
        let env: Vec<_> = env.map(|(name, value)| (name.as_str(), facts.resolve(value))).collect();
        let task = name::task(&instance, 3);
        assert_eq!(task, "shop_web.instance-00000002-0000-4000-8000-000000000005._app.3");
        let common =
            [("MARATHON_APP_VERSION", "1970-01-01T00:00:01.000Z"), ("MESOS_TASK_ID", &task)];
        let mut expected: Vec<_> = expected.iter().chain(&common).copied().collect();
        expected.sort_unstable();
        assert_eq!(
            env.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(spec.features(), [""; 0], "agents of the first version can run it");
    }

    #[test]
    fn a_process_gets_variables_for_its_requested_ports() {
        let app = json!({
            "id": "/shop/web", "cmd": "run", "env": { "PORT_80": "own" },
            "portDefinitions": [{ "port": 10080, "name": "http" }, { "port": 80 }],
        });
        check(&app, &[("MESOS_SANDBOX", "/data/x"), ("PORT_10080", "31000")]);
    }

    #[test]
    fn a_container_on_the_bridge_gets_the_ports_of_its_node() {
        let app = json!({
            "id": "/shop/web",
            "container": {
                "type": "DOCKER",
                "docker": { "image": "web" },
                "portMappings": [{ "containerPort": 80, "name": "http-api" }, { "containerPort": 0 }],
            },
            "networks": [{ "mode": "container/bridge" }],
        });
        let expected = [
            ("PORT", "31000"),
            ("PORT0", "31000"),
            ("PORT1", "31001"),
            ("PORTS", "31000,31001"),
            ("PORT_80", "31000"),
            ("PORT_HTTP_API", "31000"),
        ];
        check(&app, &expected);
    }

    #[test]
    fn a_stored_app_gets_the_variables_that_it_lacks() {
        let app = json!({
            "id": "/a", "cmd": "run", "env": { "MESOS_SANDBOX": "own" },
            "portDefinitions": [{ "port": 10080 }],
        });
        let app = read_app(app.to_string().as_bytes(), None).unwrap();
        let mut stored = app.environment();
        stored.retain(|_, value| !value.has_references());
        assert!(!stored.contains_key("MESOS_TASK_ID") && !stored.contains_key("PORT_10080"));
        app.complete_environment(&mut stored);
        assert_eq!(stored, app.environment());
        let mut of_native = BTreeMap::from([("A".to_string(), Value::from("b"))]);
        app.complete_environment(&mut of_native);
        assert_eq!(of_native.len(), 1, "a client of Marathon has changed a native service");
    }
}
