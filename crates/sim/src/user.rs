//! Users: what they ask for, at bad moments, and what they have been promised.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Availability, Change, Command, DeploymentId, Document, NodeId, RevisionNumber, ServiceId,
    Share, Spec, Steer, Verdict,
};
use serde_json::{Value, json};

use crate::machine::SICK;
use crate::network::Place;
use crate::tamper::Tamper;
use crate::world::{Asker, Call, Happening, Reply, World};

/// The label in which a service repeats the budget that its user has asked for.
pub(crate) const MIN_HEALTHY: &str = "asked-min-healthy";
pub(crate) const MAX_OVER: &str = "asked-max-over";

const SERVICES: [&str; 6] = ["/db", "/shop/web", "/shop/api", "/batch", "/cache", "/edge"];

/// What users have asked for and been told.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// What is under way: what is asked, and of which service it may change anything.
    asking: BTreeMap<u64, Asked>,
    pub(crate) promised: Promised,
    pub(crate) acknowledged: u64,
}

#[derive(Debug, Clone, Default)]
struct Asked {
    removes: Vec<ServiceId>,
    /// A node and what may happen there.
    steers: Option<(NodeId, Availability)>,
    /// Somebody else has asked for the same node, or for a service to go, before this was answered:
    /// which of the two was carried out last nobody is told.
    doubtful: BTreeSet<String>,
}

/// What users have been told is so, until they ask for something else.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    /// The newest revision of each service that has been acknowledged.
    pub(crate) revisions: BTreeMap<ServiceId, RevisionNumber>,
    pub(crate) availability: BTreeMap<NodeId, Availability>,
}

impl Users {
    /// What is under way about something may be carried out before or after what is asked now.
    fn doubt(&mut self, name: impl std::fmt::Display) {
        for other in self.asking.values_mut() {
            other.doubtful.insert(name.to_string());
        }
    }
}

impl World {
    pub(crate) fn user_acts(&mut self) {
        if self.calm {
            return;
        }
        let span = self.rng.u64(500..9_000);
        self.queue.after(span, Happening::UserActs);
        let command = self.wish();
        let mut asked = Asked::default();
        match &command {
            Command::RemoveServices(services) => {
                asked.removes = services.clone();
                // From now on nobody can say whether it is still there.
                for service in services {
                    self.users.promised.revisions.remove(service);
                    self.users.doubt(service);
                }
            }
            Command::SetAvailability { node, availability } => {
                asked.steers = Some((node.clone(), *availability));
                self.users.promised.availability.remove(node);
                let others = self.users.asking.values().filter_map(|other| other.steers.as_ref());
                if others.clone().any(|(other, _)| other == node) {
                    asked.doubtful.insert(node.to_string());
                }
                self.users.doubt(node);
            }
            _ => {}
        }
        let ask = self.number();
        self.history.note(self.now(), format_args!("user asks: {}", said(&command)));
        self.users.asking.insert(ask, asked);
        self.call(Place::Server, Asker::User(ask), Call::Command(Box::new(command)));
    }

    pub(crate) fn user_is_answered(&mut self, ask: u64, reply: Reply) {
        let Some(asked) = self.users.asking.get(&ask).cloned() else { return };
        let Reply::Changeset(Ok(applied)) = reply else {
            // What was not answered may be carried out later, or never: it is remembered, and
            // nothing is promised of what it speaks of.
            if !matches!(reply, Reply::Failed) {
                self.users.asking.remove(&ask);
            }
            return;
        };
        self.users.asking.remove(&ask);
        self.users.acknowledged += 1;
        for Change { name, verdict, revision, .. } in applied.changes {
            let (Ok(service), Some(revision)) = (name.parse::<ServiceId>(), revision) else {
                continue;
            };
            let removed = self.users.asking.values().any(|other| other.removes.contains(&service));
            let removed = removed || asked.doubtful.contains(service.as_str());
            if verdict != Verdict::Removed && !removed && !asked.removes.contains(&service) {
                let known = self.users.promised.revisions.entry(service).or_insert(revision);
                *known = revision.max(*known);
            }
        }
        if let Some((node, availability)) = asked.steers
            && !asked.doubtful.contains(node.as_str())
        {
            self.users.promised.availability.insert(node, availability);
        }
    }

    fn service(&mut self) -> ServiceId {
        let name = self.rng.choice(SERVICES).unwrap_or(SERVICES[0]);
        name.parse().expect("a path")
    }

    fn some_node(&mut self) -> NodeId {
        let nodes: Vec<_> = self.hosts.keys().cloned().collect();
        self.rng.choice(nodes).expect("there are nodes")
    }

    fn wish(&mut self) -> Command {
        let deployments: Vec<DeploymentId> = match &self.server.running {
            Some(server) => server.snapshot.state.deployments().map(|d| d.id).collect(),
            None => Vec::new(),
        };
        match self.rng.u32(0..31) {
            30 => Command::Lead,
            0..14 => Command::Apply(vec![self.service_document()]),
            14..17 => {
                let documents = (0..self.rng.usize(2..4)).map(|_| self.service_document());
                let mut documents: Vec<_> = documents.collect();
                documents.sort_by_key(|document| document.spec().map(|s| s.service.clone()));
                documents.dedup_by_key(|document| document.spec().map(|s| s.service.clone()));
                Command::Apply(documents)
            }
            17..20 => Command::Scale { service: self.service(), instances: self.rng.u32(0..6) },
            20 | 21 => Command::Restart { service: self.service() },
            22 => Command::Undo { service: self.service(), to: None },
            23 => Command::RemoveServices(vec![self.service()]),
            24 => Command::Apply(vec![self.gateway_document()]),
            25 | 26 => {
                let choice = [
                    Availability::Active,
                    Availability::Active,
                    Availability::Cordoned,
                    Availability::Draining,
                ];
                let availability = self.rng.choice(choice).unwrap_or(Availability::Active);
                Command::SetAvailability { node: self.some_node(), availability }
            }
            _ => match deployments.last() {
                Some(deployment) => {
                    let hows = [Steer::Pause, Steer::Resume, Steer::Resume, Steer::Abort];
                    let how = self.rng.choice(hows).unwrap_or(Steer::Resume);
                    Command::Steer { deployment: *deployment, how }
                }
                None => Command::Apply(vec![self.gateway_document()]),
            },
        }
    }

    fn gateway_document(&mut self) -> Document {
        let port = self.rng.u16(8000..8003);
        let service = self.service();
        let document = json!({
            "gateway": format!("on-{port}"), "listen": port, "routes": [{ "to": service.to_string() }],
        });
        Document::Gateway(serde_json::from_value(document).expect("a gateway"))
    }

    fn service_document(&mut self) -> Document {
        let rng = &mut self.rng;
        let name = rng.choice(SERVICES).unwrap_or(SERVICES[0]);
        let mut pick = |choice: &[&'static str]| choice[rng.usize(0..choice.len())];
        let (min_healthy, max_surge) =
            (pick(&["0", "1", "50%", "75%", "100%"]), pick(&["0", "1", "1", "25%", "100%"]));
        let sickness = pick(&["", "", "", "", "", "", "never-healthy", "exits"]);
        let constraint = pick(&["", "", "", "hostname", "rack"]);
        let drain = pick(&["0s", "2s", "20s"]);
        let lost = pick(&["replace", "replace", "later", "never"]);
        let (checked, gated, contained) = (rng.u8(0..4) > 0, rng.bool(), rng.u8(0..3) == 0);
        let mut document = json!({
            "service": name,
            "instances": rng.u32(0..6),
            "resources": { "cpu": f64::from(rng.u32(0..4)) / 2.0, "memory": "64MiB" },
            "ports": [{ "port": if rng.u8(0..5) == 0 { 9000 + rng.u32(0..3) } else { 0 } }],
            "env": { "VERSION": rng.u32(0..1000).to_string(), SICK: sickness },
            "rollout": {
                "min_healthy": min_healthy, "max_surge": max_surge,
                "deadline": format!("{}s", rng.u32(20..90)),
                "on_failure": if rng.u8(0..4) == 0 { "hold" } else { "rollback" },
                "min_ready": format!("{}s", rng.u32(0..3)),
            },
            "restart": { "max": "10s" },
            "stop": { "grace": format!("{}s", rng.u32(1..10)), "drain": drain },
            "labels": { MIN_HEALTHY: min_healthy, MAX_OVER: max_surge },
        });
        let mut put = |key: &str, value: Value| document[key] = value;
        match contained {
            true => put("container", json!({ "image": "shop:1" })),
            false => put("process", json!({ "command": "serve" })),
        }
        if checked {
            let (interval, failures) = (rng.u32(1..5), rng.u32(1..4));
            put(
                "health",
                json!([{
                    "probe": { "http": {} }, "interval": format!("{interval}s"), "timeout": "2s",
                    "failures": failures, "grace": "20s",
                }]),
            );
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
        if name == "/shop/web" && rng.bool() {
            put("depends_on", json!(["/db"]));
        }
        let mut spec: Spec = serde_json::from_value(document).expect("a service");
        match self.tamper {
            Some(Tamper::Ceiling) => {
                let ceiling = spec.rollout.max_surge.added_to(spec.instances) - spec.instances;
                spec.rollout.max_surge = Share::Count(ceiling + 1);
            }
            Some(Tamper::Floor) => {
                let floor = spec.rollout.min_healthy.ceil_of(spec.instances);
                spec.rollout.min_healthy = Share::Count(floor.saturating_sub(1));
            }
            _ => {}
        }
        Document::Service(Box::new(spec))
    }
}

/// A command in one line.
fn said(command: &Command) -> String {
    match command {
        Command::Apply(documents) => {
            let said = documents.iter().map(|document| match document.spec() {
                Some(spec) => format!(
                    "apply {} x{} min {} over {} {}",
                    spec.service,
                    spec.instances,
                    spec.rollout.min_healthy,
                    spec.rollout.max_surge,
                    spec.env.get(SICK).map_or("", String::as_str),
                ),
                None => format!("{document:?}"),
            });
            said.collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    }
}
