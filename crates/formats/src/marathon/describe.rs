//! Services that were not described by an app, as the app that describes them best.

use model::{
    CommandLine, HealthCheck, Lost, Millis, Network, Port, PortRef, Probe, Protocol, Pull,
    ReadinessCheck, Share, Spec, Surplus,
};
use serde_json::{Map, Value, json};

use super::normal;

/// The app in its normal form.
pub(super) fn body(spec: &Spec) -> Map<String, Value> {
    let mut app = Map::new();
    let mut set = |key: &str, value: Value| drop(app.insert(key.into(), value));
    set("instances", json!(spec.instances));
    set("cpus", json!(f64::from(spec.resources.cpu.0) / 1000.0));
    set("mem", json!(spec.resources.memory.0 as f64 / f64::from(1 << 20)));
    set("labels", json!(spec.labels));
    set("env", json!(spec.env));
    set("constraints", json!(spec.constraints));
    set("dependencies", json!(spec.depends_on));
    if !spec.roles.is_empty() {
        set("acceptedResourceRoles", json!(spec.roles));
    }
    set(
        "killSelection",
        json!(match spec.surplus {
            Surplus::Youngest => "YOUNGEST_FIRST",
            Surplus::Oldest => "OLDEST_FIRST",
        }),
    );
    set(
        "unreachableStrategy",
        match &spec.lost {
            Lost { replace: false, .. } => json!("disabled"),
            Lost { after, .. } => {
                let after = seconds(*after);
                json!({ "inactiveAfterSeconds": after, "expungeAfterSeconds": after })
            }
        },
    );
    let share = |share: Share| match share {
        Share::Millionths(millionths) => f64::from(millionths) / 1e6,
        Share::Count(count) => {
            f64::from(count.min(spec.instances)) / f64::from(spec.instances.max(1))
        }
    };
    set(
        "upgradeStrategy",
        json!({
            "minimumHealthCapacity": share(spec.rollout.min_healthy),
            "maximumOverCapacity": share(spec.rollout.max_over),
        }),
    );
    set("backoffSeconds", seconds(spec.restart.backoff));
    set("backoffFactor", json!(spec.restart.factor));
    set("maxLaunchDelaySeconds", seconds(spec.restart.max));
    set("taskKillGracePeriodSeconds", seconds(spec.stop.grace));
    set("healthChecks", spec.health.iter().map(|check| health(check, &spec.ports)).collect());
    if let Some(check) = &spec.readiness {
        set("readinessChecks", json!([readiness(check, &spec.ports)]));
    }
    run(spec, &mut app);
    let mut app = Value::Object(app);
    normal::drop_nulls(&mut app);
    let mut app = match app {
        Value::Object(app) => app,
        _ => Map::new(),
    };
    normal::normalise(&mut app, &spec.service);
    app
}

/// Whole seconds are written without a fraction.
fn seconds(time: Millis) -> Value {
    match time.0 % 1000 {
        0 => json!(time.0 / 1000),
        _ => json!(time.0 as f64 / 1000.0),
    }
}

fn protocol(port: &Port) -> &'static str {
    match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// What is run, and its ports.
fn run(spec: &Spec, app: &mut Map<String, Value>) {
    let command = match (&spec.container, &spec.process) {
        (Some(container), _) => container.command.as_ref(),
        (None, process) => process.as_ref().map(|process| &process.command),
    };
    match command {
        Some(CommandLine::Shell(line)) => drop(app.insert("cmd".into(), json!(line))),
        Some(CommandLine::Words(words)) => drop(app.insert("args".into(), json!(words))),
        None => {}
    }
    let bridge = spec.container.as_ref().is_some_and(|c| c.network == Network::Bridge);
    let mode = if bridge { "container/bridge" } else { "host" };
    app.insert("networks".into(), json!([{ "mode": mode }]));
    let mapping = |port: &Port| {
        json!({
            "containerPort": port.container,
            "hostPort": port.port,
            "name": port.name,
            "protocol": protocol(port),
        })
    };
    let definition =
        |port: &Port| json!({ "port": port.port, "name": port.name, "protocol": protocol(port) });
    if !bridge {
        let ports: Vec<Value> = spec.ports.iter().map(definition).collect();
        app.insert("portDefinitions".into(), ports.into());
        app.insert("requirePorts".into(), spec.ports.iter().any(|port| port.port != 0).into());
    }
    let user = match (&spec.container, &spec.process) {
        (Some(container), _) => &container.user,
        (None, Some(process)) => &process.user,
        (None, None) => &None,
    };
    app.insert("user".into(), json!(user));
    let Some(container) = &spec.container else { return };
    let volume = |volume: &model::Volume| {
        let mode = if volume.read_only { "RO" } else { "RW" };
        json!({ "containerPath": volume.target, "hostPath": volume.source, "mode": mode })
    };
    let mut shown = json!({
        "type": "DOCKER",
        "docker": {
            "image": container.image,
            "forcePullImage": container.pull == Pull::Always,
            "privileged": container.privileged,
        },
        "volumes": container.volumes.iter().map(volume).collect::<Vec<_>>(),
    });
    if bridge {
        shown["portMappings"] = spec.ports.iter().map(mapping).collect();
    }
    app.insert("container".into(), shown);
}

fn index(port: &PortRef, ports: &[Port]) -> u32 {
    match port {
        PortRef::Index(index) => *index,
        PortRef::Name(name) => {
            let named = ports.iter().position(|port| port.name.as_ref() == Some(name));
            named.and_then(|index| u32::try_from(index).ok()).unwrap_or(0)
        }
    }
}

fn health(check: &HealthCheck, ports: &[Port]) -> Value {
    let mut shown = json!({
        "gracePeriodSeconds": seconds(check.grace),
        "intervalSeconds": seconds(check.interval),
        "timeoutSeconds": seconds(check.timeout),
        "maxConsecutiveFailures": check.failures.saturating_sub(1),
    });
    match &check.probe {
        Probe::Http(http) => {
            shown["protocol"] = json!("HTTP");
            shown["path"] = json!(http.path);
            shown["portIndex"] = json!(index(&http.port, ports));
        }
        Probe::Tcp(tcp) => {
            shown["protocol"] = json!("TCP");
            shown["portIndex"] = json!(index(&tcp.port, ports));
        }
        Probe::Command(command) => {
            shown["protocol"] = json!("COMMAND");
            let line = match command {
                CommandLine::Shell(line) => line.clone(),
                CommandLine::Words(words) => words.join(" "),
            };
            shown["command"] = json!({ "value": line });
        }
    }
    shown
}

fn readiness(check: &ReadinessCheck, ports: &[Port]) -> Option<Value> {
    let Probe::Http(http) = &check.probe else { return None };
    let name = match &http.port {
        PortRef::Name(name) => Some(name.clone()),
        PortRef::Index(index) => ports.get(*index as usize).and_then(|port| port.name.clone()),
    };
    let statuses: Vec<u16> = match http.statuses.is_empty() {
        true => (200..400).collect(),
        false => http.statuses.iter().copied().collect(),
    };
    Some(json!({
        "path": http.path,
        "portName": name?,
        "intervalSeconds": seconds(check.interval),
        // Marathon wants a check to be over before the next one begins.
        "timeoutSeconds": seconds(check.timeout.min(Millis(check.interval.0 / 2))),
        "httpStatusCodesForReady": statuses,
    }))
}
