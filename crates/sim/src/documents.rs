//! Random documents of users.

use fastrand::Rng;
use model::{Document, Millis, ScaleDown, ServiceId, Share, Spec};
use serde_json::{Map, Value, json};

use crate::bug::InjectedBug;
use crate::machine::DEFECT;

/// The labels in which a service repeats the budget that its user asked for. Invariants read them
/// instead of the budget, which an injected bug may change.
pub(crate) const MIN_HEALTHY: &str = "asked-min-healthy";
/// See [`MIN_HEALTHY`].
pub(crate) const MAX_SURGE: &str = "asked-max-surge";
/// The label in which a service repeats the service that it depends on, see [`MIN_HEALTHY`].
pub(crate) const DEPENDS_ON: &str = "asked-depends-on";

/// The label in which a service repeats which instances leave first, see [`MIN_HEALTHY`].
pub(crate) const SCALE_DOWN: &str = "asked-scale-down";

/// The services that users change, as many of them as the settings say.
pub(crate) const SERVICES: [&str; 6] =
    ["/db", "/shop/web", "/shop/api", "/batch", "/cache", "/edge"];

/// A gateway on one of three ports with one route.
pub(crate) fn gateway(rng: &mut Rng, service: &ServiceId) -> Document {
    let port = rng.u16(8000..8003);
    let document = json!({
        "gateway": format!("on-{port}"), "listen": port, "routes": [{ "to": service.to_string() }],
    });
    Document::Gateway(serde_json::from_value(document).expect("a gateway"))
}

/// A service in which everything that matters to placement, health and rollouts is drawn.
pub(crate) fn service(rng: &mut Rng, service: &ServiceId, bug: Option<InjectedBug>) -> Document {
    let mut pick = |choice: &[&'static str]| choice[rng.usize(0..choice.len())];
    let min_healthy = pick(&["0", "1", "50%", "75%", "100%"]);
    let max_surge = pick(&["0", "1", "1", "25%", "100%"]);
    let defect = pick(&["", "", "", "", "", "", "never-healthy", "exits", "task-fails"]);
    let constraint = pick(&["", "", "", "hostname", "rack"]);
    let drain = pick(&["0s", "2s", "20s"]);
    let lost = pick(&["replace", "replace", "later", "never"]);
    let scale_down = pick(&["youngest", "oldest"]);
    let mut document = json!({
        "service": service,
        "instances": rng.u32(0..6),
        "env": { "VERSION": rng.u32(0..1000).to_string(), DEFECT: defect },
        "rollout": {
            "min_healthy": min_healthy, "max_surge": max_surge,
            "deadline": format!("{}s", rng.u32(20..90)),
            "on_failure": if rng.u8(0..4) == 0 { "hold" } else { "rollback" },
            "min_ready": format!("{}s", rng.u32(0..3)),
        },
        "restart": { "max": "10s" },
        "stop": { "grace": format!("{}s", rng.u32(1..10)), "drain": drain },
        "scale_down": scale_down,
        "labels": { MIN_HEALTHY: min_healthy, MAX_SURGE: max_surge, SCALE_DOWN: scale_down },
    });
    let mut put = |key: &str, value: Value| document[key] = value;
    let main = main_resource(rng);
    match rng.u8(0..3) {
        0 => put("stack", stack(rng, main)),
        _ => main.into_iter().for_each(|(key, value)| put(&key, value)),
    }
    match constraint {
        "" => {}
        "hostname" => put("constraints", json!([["hostname", "MAX_PER", "2"]])),
        _ => put("constraints", json!([["rack", "GROUP_BY"]])),
    }
    match lost {
        "replace" => {}
        "later" => put("lost", json!({ "after": "20s" })),
        _ => put("lost", json!({ "replace": false })),
    }
    if service.as_str() == "/shop/web" && rng.bool() {
        put("depends_on", json!(["/db"]));
        document["labels"][DEPENDS_ON] = "/db".into();
    }
    let mut spec: Spec = serde_json::from_value(document).expect("a service");
    inject(bug, &mut spec);
    Document::service(spec)
}

/// A container or a process that serves.
fn main_resource(rng: &mut Rng) -> Map<String, Value> {
    let mut main = program(rng);
    let mut put = |key: &str, value: Value| drop(main.insert(key.into(), value));
    put("resources", json!({ "cpu": f64::from(rng.u32(0..4)) / 2.0, "memory": "64MiB" }));
    put("ports", json!([{ "port": if rng.u8(0..5) == 0 { 9000 + rng.u32(0..3) } else { 0 } }]));
    if rng.u8(0..4) > 0 {
        let (interval, failures) = (rng.u32(1..5), rng.u32(1..4));
        let check = json!([{
            "probe": { "http": {} }, "interval": format!("{interval}s"), "timeout": "2s",
            "failures": failures, "grace": "20s",
        }]);
        put("health", check);
    }
    if rng.bool() {
        put("readiness", json!({ "probe": { "http": {} }, "interval": "1s" }));
    }
    main
}

fn program(rng: &mut Rng) -> Map<String, Value> {
    let program = match rng.u8(0..3) {
        0 => json!({ "container": { "image": "shop:1" } }),
        _ => json!({ "process": { "command": "serve" } }),
    };
    program.as_object().expect("an object").clone()
}

/// A stack around a main resource: perhaps a task before it, two sidecars that start together after
/// it, and a resource that the instance does without.
fn stack(rng: &mut Rng, main: Map<String, Value>) -> Value {
    let limits = json!({ "cpu": 0.5, "memory": "64MiB" });
    let named = |name: &str, mut resource: Map<String, Value>| {
        resource.insert("name".into(), name.into());
        Value::from(resource)
    };
    let mut stack = Vec::new();
    if rng.bool() {
        let task = json!({ "task": program(rng), "retries": rng.u32(0..3), "resources": limits });
        stack.push(named("prepare", task.as_object().expect("an object").clone()));
    }
    stack.push(named("serve", main));
    if rng.bool() {
        for name in ["cache", "log"] {
            let mut sidecar = program(rng);
            sidecar.insert("subset".into(), "beside".into());
            sidecar.insert("resources".into(), limits.clone());
            if rng.bool() {
                let readiness = json!({ "probe": { "command": "ready" }, "interval": "1s" });
                sidecar.insert("readiness".into(), readiness);
            }
            stack.push(named(name, sidecar));
        }
    }
    if rng.bool() {
        let mut extra = program(rng);
        extra.insert("optional".into(), true.into());
        extra.insert("resources".into(), limits);
        stack.push(named("trace", extra));
    }
    Value::from(stack)
}

/// Changes a document as the injected bug demands.
fn inject(bug: Option<InjectedBug>, spec: &mut Spec) {
    match bug {
        Some(InjectedBug::Ceiling) => {
            let surge = spec.rollout.max_surge.added_to(spec.instances) - spec.instances;
            spec.rollout.max_surge = Share::Count(surge + 1);
        }
        Some(InjectedBug::Floor) => {
            let floor = spec.rollout.min_healthy.ceil_of(spec.instances);
            spec.rollout.min_healthy = Share::Count(floor.saturating_sub(1));
        }
        Some(InjectedBug::Deadline) => spec.rollout.deadline = Millis::secs(24 * 60 * 60),
        Some(InjectedBug::Dependencies) => spec.depends_on.clear(),
        Some(InjectedBug::ScaleDown) => {
            spec.scale_down = match spec.scale_down {
                ScaleDown::Youngest => ScaleDown::Oldest,
                ScaleDown::Oldest => ScaleDown::Youngest,
            };
        }
        _ => {}
    }
}
