//! Random documents of users.

use fastrand::Rng;
use model::{Document, ServiceId, Share, Spec};
use serde_json::{Value, json};

use crate::bug::InjectedBug;
use crate::machine::SICKNESS;

/// The labels in which a service repeats the budget that its user asked for. Invariants read them
/// instead of the budget, which an injected bug may change.
pub(crate) const MIN_HEALTHY: &str = "asked-min-healthy";
/// See [`MIN_HEALTHY`].
pub(crate) const MAX_SURGE: &str = "asked-max-surge";
/// The label in which a service repeats the service that it depends on, see [`MIN_HEALTHY`].
pub(crate) const DEPENDS_ON: &str = "asked-depends-on";

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
    let sickness = pick(&["", "", "", "", "", "", "never-healthy", "exits"]);
    let constraint = pick(&["", "", "", "hostname", "rack"]);
    let drain = pick(&["0s", "2s", "20s"]);
    let lost = pick(&["replace", "replace", "later", "never"]);
    let (checked, gated, contained) = (rng.u8(0..4) > 0, rng.bool(), rng.u8(0..3) == 0);
    let mut document = json!({
        "service": service,
        "instances": rng.u32(0..6),
        "resources": { "cpu": f64::from(rng.u32(0..4)) / 2.0, "memory": "64MiB" },
        "ports": [{ "port": if rng.u8(0..5) == 0 { 9000 + rng.u32(0..3) } else { 0 } }],
        "env": { "VERSION": rng.u32(0..1000).to_string(), SICKNESS: sickness },
        "rollout": {
            "min_healthy": min_healthy, "max_surge": max_surge,
            "deadline": format!("{}s", rng.u32(20..90)),
            "on_failure": if rng.u8(0..4) == 0 { "hold" } else { "rollback" },
            "min_ready": format!("{}s", rng.u32(0..3)),
        },
        "restart": { "max": "10s" },
        "stop": { "grace": format!("{}s", rng.u32(1..10)), "drain": drain },
        "labels": { MIN_HEALTHY: min_healthy, MAX_SURGE: max_surge },
    });
    let mut put = |key: &str, value: Value| document[key] = value;
    match contained {
        true => put("container", json!({ "image": "shop:1" })),
        false => put("process", json!({ "command": "serve" })),
    }
    if checked {
        let (interval, failures) = (rng.u32(1..5), rng.u32(1..4));
        let check = json!([{
            "probe": { "http": {} }, "interval": format!("{interval}s"), "timeout": "2s",
            "failures": failures, "grace": "20s",
        }]);
        put("health", check);
    }
    if gated {
        put("readiness", json!({ "probe": { "http": {} }, "interval": "1s" }));
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
    match bug {
        Some(InjectedBug::Ceiling) => {
            let surge = spec.rollout.max_surge.added_to(spec.instances) - spec.instances;
            spec.rollout.max_surge = Share::Count(surge + 1);
        }
        Some(InjectedBug::Floor) => {
            let floor = spec.rollout.min_healthy.ceil_of(spec.instances);
            spec.rollout.min_healthy = Share::Count(floor.saturating_sub(1));
        }
        Some(InjectedBug::Dependencies) => spec.depends_on.clear(),
        _ => {}
    }
    Document::Service(Box::new(spec))
}
