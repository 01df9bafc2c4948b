//! Marathon's queue: the apps with instances that are not placed, or that wait for a restart, and
//! the reasons.
//!
//! Marathon's keys contain nodes that rejected an app, and delays after failures. There is no key
//! for an app that waits for dependencies or is held. `embed=waits` lists all reasons as text.

use std::sync::Arc;

use model::{Availability, NodeId, Phase, Reason, Service, ServiceId, Status, Timestamp, Wait};
use serde::Serialize;
use serde_json::{Value, json};

use super::app::{Presenter, Versioned};

/// Marathon's reasons for rejecting an offer, in the order in which it checks them.
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

/// Marathon's word for a reason.
fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::Role { .. } => "UnfulfilledRole",
        Reason::Constraint { .. } | Reason::Capability { .. } | Reason::AgentTooOld { .. } => {
            "UnfulfilledConstraint"
        }
        Reason::NoAgent
        | Reason::Silent
        | Reason::Unreported
        | Reason::UnknownInstances { .. }
        | Reason::Cordoned
        | Reason::Draining => "AgentMaintenance",
        Reason::Cpu { .. } => "InsufficientCpus",
        Reason::Memory { .. } => "InsufficientMemory",
        Reason::Port { .. } | Reason::Ports => "InsufficientPorts",
    }
}

/// Optional parts of the queue.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Embed {
    /// The nodes that rejected an app.
    pub(crate) last_unused_offers: bool,
    /// The reasons for waiting, as text. An extension of Muster.
    pub(crate) waits: bool,
}

/// An app in the queue.
struct Waiting<'a> {
    /// The number of instances to start.
    count: u32,
    since: Timestamp,
    /// The time of the next start, if only a delay prevents it.
    until: Option<Timestamp>,
    /// The reason for each node, if no node can run an instance.
    nodes: Option<&'a Arc<[(NodeId, Reason)]>>,
    waits: Vec<String>,
}

/// Why a service waits before more of its instances are started. Returns `None` for a service whose
/// instances only wait for their turn in a rollout, since Marathon does not queue them yet.
fn waiting<'a>(presenter: &Presenter<'a>, service: &Service) -> Option<Waiting<'a>> {
    let mut waiting =
        Waiting { count: 0, since: presenter.now, until: None, nodes: None, waits: Vec::new() };
    let waits = presenter.snapshot.waits.get(&service.id).map(Vec::as_slice).unwrap_or_default();
    for wait in waits {
        match wait {
            Wait::NoNode { nodes } => waiting.nodes = Some(nodes),
            Wait::BackOff { until } => waiting.until = Some(*until),
            Wait::Dependencies { .. } | Wait::Still { .. } => {}
            _ => continue,
        }
        waiting.waits.push(wait.to_string());
    }
    let mut stay = 0;
    let mut restarting = Vec::new();
    for (replica, placement) in &service.placements {
        let status = presenter.snapshot.observed.status(&service.id, *replica);
        let node = presenter.snapshot.state.node(&placement.node);
        let leaves = !placement.is_wanted()
            || !service.is_current(placement.revision)
            || presenter.snapshot.observed.is_lost(&placement.node, presenter.now)
            || node.is_none_or(|node| node.node.availability == Availability::Draining);
        let spec = service.running_spec(placement.revision);
        if leaves || status.is_some_and(|status| status.is_unhealthy(spec)) {
            continue;
        }
        stay += 1;
        let is_restarting = |status: &&Status| {
            status.phase == Phase::Starting && status.failures > 0 && status.started_at.is_none()
        };
        if let Some(status) = status.filter(is_restarting) {
            let until = status.since.after(spec.restart.delay(status.failures));
            waiting.until = Some(waiting.until.map_or(until, |known| known.min(until)));
            restarting.push(status);
        }
    }
    let missing = service.wanted().saturating_sub(stay);
    if missing > 0 && !waiting.waits.is_empty() {
        waiting.count = missing;
        waiting.since = missing_since(presenter, service);
    }
    for status in restarting {
        waiting.count += 1;
        waiting.since = waiting.since.min(status.since);
        waiting.waits.extend(status.explanation());
    }
    (waiting.count > 0).then_some(waiting)
}

/// The time since which instances are missing: that of the request or, if later, of the last
/// failure or loss, as far as it is known.
fn missing_since(presenter: &Presenter<'_>, service: &Service) -> Timestamp {
    let deployment = presenter.snapshot.state.deployment_of(service);
    let requested_at = deployment.map_or(service.target().created_at, |d| d.created_at);
    let failed = service.slots.iter().filter(|slot| slot.failures > 0).map(|slot| slot.failed_at);
    let observed = &presenter.snapshot.observed;
    let nodes = service.placements.values().map(|placement| &placement.node);
    let lost = nodes.filter(|node| observed.is_lost(node, presenter.now));
    let lost = lost.filter_map(|node| observed.agents.get(node).map(|agent| agent.seen_at));
    failed.chain(lost).fold(requested_at, Timestamp::max)
}

/// An app in the queue, with the keys that clients expect.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    app: Value,
    count: u32,
    delay: Delay,
    since: Timestamp,
    processed_offers_summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_unused_offers: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<Vec<String>>,
}

/// The time until the next attempt to start an instance. `overdue` is set if it waits for a node.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Delay {
    time_left_seconds: u64,
    overdue: bool,
}

/// A summary of rejected offers, which correspond to nodes at their last evaluation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    processed_offers_count: usize,
    unused_offers_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_unused_offer_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_offer_at: Option<Timestamp>,
    reject_summary_last_offers: Vec<Declined>,
    reject_summary_launch_attempt: Vec<Declined>,
}

/// The number of nodes that were rejected for a reason, of those that earlier reasons left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Declined {
    reason: &'static str,
    declined: usize,
    processed: usize,
}

/// Counts nodes by reason. Each node counts only for the first reason that applies to it.
fn funnel(nodes: &[(NodeId, Reason)]) -> Vec<Declined> {
    let mut processed = nodes.len();
    let step = |reason: &&'static str| {
        let declined = nodes.iter().filter(|(_, known)| word(known) == *reason).count();
        let step = Declined { reason, declined, processed };
        processed -= declined;
        step
    };
    REASONS.iter().map(step).collect()
}

/// The apps in the queue.
pub(crate) fn queue(presenter: &Presenter<'_>, embed: Embed) -> Vec<Item> {
    let services = presenter.snapshot.state.services().filter(|service| !service.removing);
    let item = |service: &Arc<Service>| {
        Some(item(presenter, service, waiting(presenter, service)?, embed))
    };
    services.filter_map(item).collect()
}

/// Whether an app is in the queue.
pub(crate) fn has(presenter: &Presenter<'_>, id: &ServiceId) -> bool {
    let service = presenter.snapshot.state.service(id).filter(|service| !service.removing);
    service.is_some_and(|service| waiting(presenter, service).is_some())
}

fn item(presenter: &Presenter<'_>, service: &Service, waiting: Waiting<'_>, embed: Embed) -> Item {
    let (app, target) = (presenter.apps.target(service), service.target());
    // Machines without an agent, such as those of gateways, make no offers.
    let nodes = waiting.nodes.into_iter().flat_map(|nodes| nodes.iter());
    let nodes = nodes.filter(|(_, reason)| !matches!(reason, Reason::NoAgent));
    let nodes: Vec<(NodeId, Reason)> = nodes.cloned().collect();
    let overdue = waiting.nodes.is_some();
    let until = waiting.until.filter(|_| !overdue);
    let declined = funnel(&nodes);
    let offers = || nodes.iter().map(|(id, reason)| offer(presenter, id, reason)).collect();
    Item {
        app: json!(Versioned::new(&app, target)),
        count: waiting.count,
        delay: Delay {
            time_left_seconds: until.map_or(0, |until| until.since(presenter.now).0.div_ceil(1000)),
            overdue,
        },
        since: waiting.since,
        processed_offers_summary: Summary {
            processed_offers_count: nodes.len(),
            unused_offers_count: nodes.len(),
            last_unused_offer_at: (!nodes.is_empty()).then_some(presenter.now),
            last_used_offer_at: service.placements.values().map(|p| p.placed_at).max(),
            reject_summary_last_offers: declined.clone(),
            reject_summary_launch_attempt: declined,
        },
        last_unused_offers: embed.last_unused_offers.then(offers),
        waits: embed.waits.then_some(waiting.waits),
    }
}

/// A node that rejected an app, as an unused offer: its free resources, and the reason in
/// Marathon's word and in Muster's words.
fn offer(presenter: &Presenter<'_>, id: &NodeId, reason: &Reason) -> Value {
    let node = presenter.snapshot.state.node(id);
    let capacity = node.and_then(|node| Some((node, node.node.capacity?)));
    let (cpus, mem) = capacity.map_or((0, 0), |(node, capacity)| {
        let cpus = capacity.cpu.0.saturating_sub(node.used.cpu.0);
        (cpus, capacity.memory.0.saturating_sub(node.used.memory.0))
    });
    let (cpus, mem) = (f64::from(cpus) / 1000.0, mem as f64 / f64::from(1 << 20));
    let scalar = |name: &str, value: f64| json!({ "name": name, "role": "*", "scalar": value });
    let ports = node.map(|node| node.node.ports).map(|(begin, end)| {
        let ranges = [json!({ "begin": begin, "end": end })];
        json!({ "name": "ports", "role": "*", "ranges": ranges })
    });
    let resources = [scalar("cpus", cpus), scalar("mem", mem)].into_iter().chain(ports);
    let labels = node.into_iter().flat_map(|node| &node.node.labels);
    let attribute = |(name, text): (&String, &String)| json!({ "name": name, "text": text });
    json!({
        "offer": {
            "id": id,
            "hostname": node.map(|node| node.node.address.clone()).unwrap_or_default(),
            "agentId": id,
            "resources": resources.collect::<Vec<_>>(),
            "attributes": labels.map(attribute).collect::<Vec<_>>(),
        },
        "timestamp": presenter.now,
        "reason": [word(reason).to_string(), reason.to_string()],
    })
}

#[cfg(test)]
mod tests {
    use super::super::cluster::TestCluster;
    use super::*;

    const ALL: Embed = Embed { last_unused_offers: true, waits: true };

    fn shown(cluster: &TestCluster, embed: Embed) -> Value {
        cluster.present(|presenter| json!(queue(presenter, embed)))
    }

    /// App, count, seconds left, overdue, since, and the reasons as text.
    fn short(cluster: &TestCluster) -> Vec<String> {
        let line = |item: &Value| {
            let delay = &item["delay"];
            let (left, overdue) = (&delay["timeLeftSeconds"], &delay["overdue"]);
            let waits: Vec<_> =
                item["waits"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let (id, since) = (item["app"]["id"].as_str(), item["since"].as_str());
            let (id, since) = (id.unwrap(), &since.unwrap()[14..19]);
            format!("{id} {} {left}s {overdue} {since} {}", item["count"], waits.join("|"))
        };
        shown(cluster, ALL).as_array().unwrap().iter().map(line).collect()
    }

    fn running(_: &mut Status) {}

    #[test]
    fn an_unplaceable_app_is_shown_with_the_reason_of_every_node() {
        let mut cluster = TestCluster::new(&["n1", "n2", "n3"]);
        let constraints = json!([["hostname", "LIKE", "n[12]"]]);
        cluster.app(&json!({"id": "/a", "cmd": "run", "cpus": 9, "instances": 2,
            "constraints": constraints}));
        cluster.now.0 += 5_000;
        let items = shown(&cluster, Embed::default());
        let item = &items[0];
        let keys =
            |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        let sorted = |keys: &str| -> Vec<String> {
            let mut keys: Vec<_> = keys.split(' ').map(String::from).collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(item), sorted("app count delay since processedOffersSummary"));
        assert_eq!(item["count"], 2);
        assert_eq!(item["delay"], json!({"timeLeftSeconds": 0, "overdue": true}));
        assert_eq!(item["since"], "1970-01-01T00:01:40.000Z");
        assert_eq!(item["app"]["versionInfo"]["lastScalingAt"], item["since"]);
        let summary = &item["processedOffersSummary"];
        let expected = sorted(
            "processedOffersCount unusedOffersCount lastUnusedOfferAt rejectSummaryLastOffers \
             rejectSummaryLaunchAttempt",
        );
        assert_eq!(keys(summary), expected);
        assert_eq!(summary["processedOffersCount"], 3);
        let steps = summary["rejectSummaryLastOffers"].as_array().unwrap();
        let steps: Vec<_> = steps
            .iter()
            .map(|step| (step["reason"].as_str().unwrap(), &step["declined"], &step["processed"]))
            .collect();
        let reasons: Vec<_> = steps.iter().map(|(reason, ..)| *reason).collect();
        assert_eq!(reasons, REASONS);
        let (zero, one, two, three) = (json!(0), json!(1), json!(2), json!(3));
        assert_eq!(steps[0], ("UnfulfilledRole", &zero, &three));
        assert_eq!(steps[1], ("UnfulfilledConstraint", &one, &three));
        assert_eq!(steps[4], ("InsufficientCpus", &two, &two));
        assert_eq!(steps[5], ("InsufficientMemory", &zero, &zero));

        let embedded = shown(&cluster, ALL);
        let offers = embedded[0]["lastUnusedOffers"].as_array().unwrap();
        let reasons: Vec<_> = offers.iter().map(|offer| offer["reason"].clone()).collect();
        assert_eq!(reasons[0], json!(["InsufficientCpus", "cpu: 9 needed, 8 free"]));
        assert_eq!(reasons[2][0], "UnfulfilledConstraint");
        assert_eq!(offers[0]["offer"]["hostname"], "10.0.0.1");
        assert_eq!(offers[0]["offer"]["attributes"], json!([{"name": "rack", "text": "r1"}]));
        assert_eq!(offers[0]["offer"]["resources"][0]["scalar"], 8.0);
        assert_eq!(offers[0]["timestamp"], "1970-01-01T00:01:45.000Z");
    }

    #[test]
    fn a_cluster_without_nodes_has_no_offers() {
        let mut cluster = TestCluster::new(&[]);
        cluster.app(&json!({"id": "/a", "cmd": "run"}));
        let line = "/a 1 0s true 01:40 the cluster has no nodes: start one with `muster agent`";
        assert_eq!(short(&cluster), [line]);
    }

    #[test]
    fn an_app_that_waits_for_dependencies_is_not_overdue() {
        let mut cluster = TestCluster::new(&["n1"]);
        cluster.app(&json!({"id": "/db", "cmd": "run"}));
        cluster.now.0 += 5_000;
        cluster.app(&json!({"id": "/web", "cmd": "run", "instances": 3, "dependencies": ["/db"]}));
        assert_eq!(short(&cluster), ["/web 3 0s false 01:45 waits for /db"]);
        assert!(!cluster.present(|presenter| has(presenter, &"/db".parse().unwrap())));
        cluster.report("/db~0.1", Phase::Running, running);
        cluster.now.0 += 60_000;
        cluster.plan();
        assert_eq!(short(&cluster), [""; 0]);
    }

    #[test]
    fn an_instance_in_backoff_shows_its_remaining_delay() {
        let mut cluster = TestCluster::new(&["n1"]);
        cluster.app(&json!({"id": "/a", "cmd": "run", "instances": 2, "backoffSeconds": 10,
            "backoffFactor": 2}));
        cluster.report("/a~0.1", Phase::Running, running);
        cluster.report("/a~1.1", Phase::Starting, |status| {
            (status.run, status.failures) = (2, 1);
            status.message = Some("exit code 1".into());
            status.retry_after = Some(model::Millis::secs(10));
        });
        cluster.now.0 += 2_500;
        let line = "/a 1 8s false 01:40 exit code 1; waits 10s before it is started again";
        assert_eq!(short(&cluster), [line]);
        assert!(cluster.present(|presenter| has(presenter, &"/a".parse().unwrap())));
    }

    #[test]
    fn a_rollout_that_makes_progress_is_not_in_the_queue() {
        let mut cluster = TestCluster::new(&["n1"]);
        let app = |cmd: &str, cpus: f64| {
            json!({"id": "/a", "cmd": cmd, "instances": 2, "cpus": cpus,
                "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 0.5}})
        };
        cluster.app(&app("run", 0.1));
        for instance in ["/a~0.1", "/a~1.1"] {
            cluster.report(instance, Phase::Running, running);
        }
        cluster.now.0 += 60_000;
        cluster.plan();
        cluster.app(&app("walk", 9.0));
        assert_eq!(
            short(&cluster),
            ["/a 2 0s true 02:40 no node of 1 can take it; n1: cpu: 9 needed, 7.8 free"]
        );
        cluster.app(&app("walk", 0.1));
        assert!(cluster.state.placement(&"/a~0.2".parse().unwrap()).is_some());
        assert_eq!(short(&cluster), [""; 0]);
    }
}
