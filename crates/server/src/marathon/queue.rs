//! What waits, as Marathon's queue: each app with instances that have no place or wait for their
//! next start, and why, node by node.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{NodeId, Phase, Reason, Service, ServiceId, Timestamp, Wait};
use serde_json::{Value, json};

use super::app::{Look, Versioned};

/// Marathon's reasons for turning an offer down, in the order in which it tells them.
const REASONS: [&str; 10] = [
    "UnfulfilledRole",
    "UnfulfilledConstraint",
    "NoCorrespondingReservationFound",
    "AgentMaintenance",
    "InsufficientCpus",
    "InsufficientMemory",
    "InsufficientDisk",
    "InsufficientGpus",
    "InsufficientPorts",
    "DeclinedScarceResources",
];

/// Our reason in Marathon's words.
fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::Role { .. } => "UnfulfilledRole",
        Reason::Constraint { .. } | Reason::Capability { .. } => "UnfulfilledConstraint",
        Reason::NoAgent | Reason::Silent | Reason::Cordoned | Reason::Draining => {
            "AgentMaintenance"
        }
        Reason::Cpu { .. } => "InsufficientCpus",
        Reason::Memory { .. } => "InsufficientMemory",
        Reason::Port { .. } | Reason::Ports => "InsufficientPorts",
    }
}

/// An app that waits.
struct Waiting {
    count: u32,
    /// Until when a delay lasts after failures.
    until: Option<Timestamp>,
    /// Why no node can take it.
    nodes: Arc<[(NodeId, Reason)]>,
}

fn waiting(look: &Look<'_>, service: &Service) -> Option<Waiting> {
    let placed = service.placements.values().filter(|placement| placement.is_wanted()).count();
    let missing = service.wanted().saturating_sub(u32::try_from(placed).unwrap_or(u32::MAX));
    let waits = look.snapshot.waits.get(&service.id).map(Vec::as_slice).unwrap_or_default();
    let until = waits.iter().find_map(|wait| match wait {
        Wait::BackOff { until } => Some(*until),
        _ => None,
    });
    let nodes = waits.iter().find_map(|wait| match wait {
        Wait::NoNode { nodes } => Some(Arc::clone(nodes)),
        _ => None,
    });
    // Those that wait on their node for their next start have failed there.
    let statuses = look.snapshot.observed.instances.get(&service.id);
    let restarting = statuses.into_iter().flat_map(|statuses| statuses.values());
    let restarting = restarting.filter(|s| s.phase == Phase::Starting && s.failures > 0).count();
    let count = missing + u32::try_from(restarting).unwrap_or(u32::MAX);
    let none = || Arc::from(Vec::new());
    (count > 0).then(|| Waiting { count, until, nodes: nodes.unwrap_or_else(none) })
}

/// The queue.
pub(crate) fn queue(look: &Look<'_>, with_offers: bool) -> Vec<Value> {
    let services = look.snapshot.state.services().filter(|service| !service.removing);
    let item = |service: &Arc<Service>| {
        let waiting = waiting(look, service)?;
        Some(item(look, service, &waiting, with_offers))
    };
    services.filter_map(item).collect()
}

/// Whether an app is in the queue.
pub(crate) fn has(look: &Look<'_>, id: &ServiceId) -> bool {
    let service = look.snapshot.state.service(id);
    service.is_some_and(|service| waiting(look, service).is_some())
}

fn item(look: &Look<'_>, service: &Arc<Service>, waiting: &Waiting, with_offers: bool) -> Value {
    let Waiting { count, until, nodes } = waiting;
    let left = until.map_or(0, |until| until.since(look.now).0.div_ceil(1000));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, reason) in nodes.iter() {
        *counts.entry(word(reason)).or_default() += 1;
    }
    let summary: Vec<Value> = REASONS
        .iter()
        .map(|reason| {
            let declined = counts.get(reason).copied().unwrap_or(0);
            json!({ "reason": reason, "declined": declined, "processed": nodes.len() })
        })
        .collect();
    let target = service.target();
    let app = look.apps.target(service);
    let mut item = json!({
        "app": Versioned::new(&app, service, target),
        "count": count,
        "delay": { "timeLeftSeconds": left, "overdue": left == 0 },
        "since": target.created_at,
        "processedOffersSummary": {
            "processedOffersCount": nodes.len(),
            "unusedOffersCount": nodes.len(),
            "lastUnusedOfferAt": (!nodes.is_empty()).then_some(look.now),
            "lastUsedOfferAt": null,
            "rejectSummaryLastOffers": summary,
            "rejectSummaryLaunchAttempt": summary,
        },
    });
    if with_offers {
        item["lastUnusedOffers"] = nodes.iter().map(|node| offer(look, node)).collect();
    }
    item
}

/// A node that an app was not put on, as the offer that was not used.
fn offer(look: &Look<'_>, (id, reason): &(NodeId, Reason)) -> Value {
    let node = look.snapshot.state.node(id);
    let free = node.and_then(|node| {
        let capacity = node.node.capacity?;
        let cpus = capacity.cpu.0.saturating_sub(node.used.cpu.0);
        let mem = capacity.memory.0.saturating_sub(node.used.memory.0);
        Some((f64::from(cpus) / 1000.0, mem as f64 / f64::from(1 << 20)))
    });
    let (cpus, mem) = free.unwrap_or_default();
    let scalar = |name: &str, value: f64| json!({ "name": name, "scalar": value, "role": "*" });
    let labels = node.into_iter().flat_map(|node| &node.node.labels);
    let attribute = |(name, text): (&String, &String)| json!({ "name": name, "text": text });
    json!({
        "offer": {
            "id": id,
            "hostname": node.map(|node| node.node.address.clone()).unwrap_or_default(),
            "agentId": id,
            "resources": [scalar("cpus", cpus), scalar("mem", mem)],
            "attributes": labels.map(attribute).collect::<Vec<_>>(),
        },
        "timestamp": look.now,
        "reason": [word(reason)],
        "details": reason.to_string(),
    })
}
