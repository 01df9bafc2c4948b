//! The one form of an app that is shown and stored: today's keys, every default written out.
//!
//! Working on the JSON itself keeps what people wrote as they wrote it. Normalising again changes
//! nothing. What the form cannot hold stays as it was written, for the translation to refuse.

use model::ServiceId;
use serde_json::{Map, Value, json};

use super::service::resolve;

/// What is told of apps and is not part of them: dropped where it is sent back.
const REPORTED: [&str; 12] = [
    "version",
    "versionInfo",
    "tasks",
    "tasksStaged",
    "tasksRunning",
    "tasksHealthy",
    "tasksUnhealthy",
    "deployments",
    "lastTaskFailure",
    "readinessCheckResults",
    "taskStats",
    "tasksStats",
];

/// Defaults of keys that are always shown.
fn defaults() -> [(&'static str, Value); 17] {
    [
        ("cmd", Value::Null),
        ("args", Value::Null),
        ("container", Value::Null),
        ("healthChecks", json!([])),
        ("instances", json!(1)),
        ("cpus", json!(1)),
        ("mem", json!(128)),
        ("disk", json!(0)),
        ("gpus", json!(0)),
        ("executor", json!("")),
        ("labels", json!({})),
        ("backoffSeconds", json!(1)),
        ("backoffFactor", json!(1.15)),
        ("maxLaunchDelaySeconds", json!(300)),
        ("killSelection", json!("YOUNGEST_FIRST")),
        ("requirePorts", json!(false)),
        ("role", json!("*")),
    ]
}

/// Keys that are only shown when they hold something.
const OPTIONAL: [&str; 8] = [
    "constraints",
    "dependencies",
    "env",
    "fetch",
    "readinessChecks",
    "secrets",
    "args",
    "acceptedResourceRoles",
];

/// Drops every null, at any depth: it is as good as nothing.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(drop_nulls);
        }
        Value::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            entries.values_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}

/// Drops what is told of apps; gives the version, if one was among it.
pub(super) fn drop_reported(app: &mut Map<String, Value>) -> Option<Value> {
    let version = app.remove("version");
    REPORTED.iter().for_each(|key| drop(app.remove(*key)));
    version
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::String(text) => text.is_empty(),
        other => other.is_null(),
    }
}

/// Brings an app without nulls into its form.
pub(super) fn normalise(app: &mut Map<String, Value>, id: &ServiceId) {
    app.insert("id".into(), id.as_str().into());
    OPTIONAL.iter().for_each(|key| {
        if app.get(*key).is_some_and(is_empty) {
            app.remove(*key);
        }
    });
    for key in ["uris", "storeUrls", "ipAddress", "residency", "check"] {
        if app.get(key).is_some_and(is_empty) {
            app.remove(key);
        }
    }
    networks(app);
    container(app);
    ports(app);
    let has_ports = ["portDefinitions"].iter().any(|key| app.contains_key(*key))
        || app.get("container").is_some_and(|container| container.get("portMappings").is_some());
    for check in items(app.get_mut("healthChecks")) {
        health(check, has_ports);
    }
    for check in items(app.get_mut("readinessChecks")) {
        readiness(check);
    }
    strategies(app);
    if let Some(Value::Array(dependencies)) = app.get_mut("dependencies") {
        for dependency in dependencies {
            if let Some(path) = dependency.as_str() {
                *dependency = resolve(id.as_str(), path).into();
            }
        }
    }
    for (key, default) in defaults() {
        app.entry(key).or_insert(default);
    }
}

fn items(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let items = list.and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut)
}

/// The network is said once, outside the container.
fn networks(app: &mut Map<String, Value>) {
    let docker = app.get_mut("container").and_then(|container| container.get_mut("docker"));
    let older = docker.and_then(Value::as_object_mut).and_then(|docker| {
        let mode = match docker.get("network").and_then(Value::as_str) {
            Some("HOST") => "host",
            Some("BRIDGE") => "container/bridge",
            _ => return None,
        };
        docker.remove("network");
        Some(mode)
    });
    let is_given = app.get("networks").is_some_and(|networks| !is_empty(networks));
    if !is_given {
        app.insert("networks".into(), json!([{ "mode": older.unwrap_or("host") }]));
    }
}

fn is_host(app: &Map<String, Value>) -> bool {
    let networks = app.get("networks").and_then(Value::as_array);
    networks.into_iter().flatten().all(|network| network.get("mode") == Some(&json!("host")))
}

fn container(app: &mut Map<String, Value>) {
    let is_host = is_host(app);
    let Some(Value::Object(container)) = app.get_mut("container") else { return };
    container.entry("type").or_insert(json!("DOCKER"));
    container.entry("volumes").or_insert(json!([]));
    if let Some(Value::Object(docker)) = container.get_mut("docker") {
        let older = docker.remove("portMappings");
        docker.entry("forcePullImage").or_insert(json!(false));
        docker.entry("privileged").or_insert(json!(false));
        docker.entry("parameters").or_insert(json!([]));
        if let Some(mappings) = older {
            container.entry("portMappings").or_insert(mappings);
        }
    }
    if is_host {
        if container.get("portMappings").is_some_and(is_empty) {
            container.remove("portMappings");
        }
        return;
    }
    let default = json!([{ "containerPort": 0, "name": "default" }]);
    let mappings = container.entry("portMappings").or_insert(default);
    for mapping in items(Some(mappings)) {
        let defaults = [
            ("containerPort", json!(0)),
            ("hostPort", json!(0)),
            ("servicePort", json!(0)),
            ("protocol", json!("tcp")),
            ("labels", json!({})),
        ];
        for (key, default) in defaults {
            mapping.entry(key).or_insert(default);
        }
    }
}

/// Ports of the node are definitions; on a bridge there are none, but mappings.
fn ports(app: &mut Map<String, Value>) {
    if !is_host(app) {
        for key in ["ports", "portDefinitions"] {
            if app.get(key).is_some_and(is_empty) {
                app.remove(key);
            }
        }
        return;
    }
    let number = |definition: &Value| definition.get("port").cloned().unwrap_or(json!(0));
    if let Some(Value::Array(ports)) = app.remove("ports") {
        match app.get("portDefinitions").and_then(Value::as_array) {
            None => {
                let definition = |port| json!({ "port": port });
                let definitions: Vec<_> = ports.into_iter().map(definition).collect();
                app.insert("portDefinitions".into(), definitions.into());
            }
            Some(definitions) if definitions.iter().map(number).eq(ports.iter().cloned()) => {}
            // They contradict each other, which is told.
            Some(_) => drop(app.insert("ports".into(), ports.into())),
        }
    }
    let default = json!([{ "port": 0, "name": "default" }]);
    let definitions = app.entry("portDefinitions").or_insert(default);
    for definition in items(Some(definitions)) {
        let defaults = [("port", json!(0)), ("protocol", json!("tcp")), ("labels", json!({}))];
        for (key, default) in defaults {
            definition.entry(key).or_insert(default);
        }
    }
}

fn health(check: &mut Map<String, Value>, has_ports: bool) {
    check.entry("protocol").or_insert(json!("HTTP"));
    let protocol = check.get("protocol").and_then(Value::as_str).unwrap_or_default().to_string();
    let defaults = [
        ("gracePeriodSeconds", json!(300)),
        ("intervalSeconds", json!(60)),
        ("timeoutSeconds", json!(20)),
        ("maxConsecutiveFailures", json!(3)),
    ];
    for (key, default) in defaults {
        check.entry(key).or_insert(default);
    }
    if protocol.ends_with("HTTP") || protocol.ends_with("HTTPS") {
        check.entry("ignoreHttp1xx").or_insert(json!(false));
        check.entry("path").or_insert(json!("/"));
    }
    if protocol.starts_with("MESOS_") || protocol == "COMMAND" {
        check.entry("delaySeconds").or_insert(json!(15));
    }
    let names_a_port = check.contains_key("port") || check.contains_key("portIndex");
    if protocol != "COMMAND" && has_ports && !names_a_port {
        check.insert("portIndex".into(), json!(0));
    }
}

fn readiness(check: &mut Map<String, Value>) {
    let defaults = [
        ("name", json!("readinessCheck")),
        ("protocol", json!("HTTP")),
        ("path", json!("/")),
        ("portName", json!("http-api")),
        ("intervalSeconds", json!(30)),
        ("timeoutSeconds", json!(10)),
        ("httpStatusCodesForReady", json!([200])),
        ("preserveLastResponse", json!(false)),
    ];
    for (key, default) in defaults {
        check.entry(key).or_insert(default);
    }
}

fn strategies(app: &mut Map<String, Value>) {
    let labels = app.get("labels").and_then(|labels| labels.get("MARATHON_SINGLE_INSTANCE_APP"));
    let is_single = labels.and_then(Value::as_str).is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let share = if is_single { 0 } else { 1 };
    let upgrade = app.entry("upgradeStrategy").or_insert(json!({}));
    if let Some(upgrade) = upgrade.as_object_mut() {
        upgrade.entry("minimumHealthCapacity").or_insert(json!(share));
        upgrade.entry("maximumOverCapacity").or_insert(json!(share));
    }
    let unreachable = app.entry("unreachableStrategy").or_insert(json!({}));
    if let Some(unreachable) = unreachable.as_object_mut() {
        unreachable.entry("inactiveAfterSeconds").or_insert(json!(0));
        unreachable.entry("expungeAfterSeconds").or_insert(json!(0));
    }
}
