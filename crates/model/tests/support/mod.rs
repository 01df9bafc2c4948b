//! A cluster driven by tests: they run commands and check the state. Every command is also checked
//! against the rules that hold for all commands.

#![allow(dead_code, reason = "no topic needs all of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_model::{
    AgentRegistration, Bytes, Changeset, Command, Cpu, Deployment, DeploymentId, Document, Failure,
    Given, InstanceId, Key, Millis, NodeId, NodeUsage, Object, Outcome, PORTS, Placement, Proposal,
    Refusal, Registration, ReplicaId, Resources, Service, ServiceId, Source, Spec, State, Steer,
    Step, Timestamp,
};
use serde_json::{Value, json};

pub(crate) fn service_id(path: &str) -> ServiceId {
    path.parse().unwrap()
}

pub(crate) fn instance_id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

pub(crate) fn node_id(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// A service that runs one process, changed by `fields`.
pub(crate) fn spec(path: &str, fields: Value) -> Spec {
    let mut spec = json!({"service": path, "process": {"command": "serve"}});
    let Value::Object(fields) = fields else { panic!("these are no fields: {fields}") };
    spec.as_object_mut().unwrap().extend(fields);
    serde_json::from_value(spec).unwrap()
}

pub(crate) fn service(path: &str, fields: Value) -> Document {
    Document::service(spec(path, fields))
}

/// A service described by another system's document.
pub(crate) fn foreign(path: &str, fields: Value) -> Document {
    let source = Source { adapter: "other".into(), text: fields.to_string() };
    Document::foreign(spec(path, fields), source)
}

pub(crate) fn gateway(name: &str, listen: &str, to: &[&str]) -> Document {
    let routes: Vec<_> = to.iter().map(|to| json!({"path": format!("{to}/"), "to": to})).collect();
    let gateway = json!({"gateway": name, "listen": listen, "routes": routes});
    Document::Gateway(serde_json::from_value(gateway).unwrap())
}

/// The registration of an agent on a node of 4 cores and 4 GiB.
pub(crate) fn agent() -> AgentRegistration {
    AgentRegistration {
        id: "agent".into(),
        port: 4041,
        capacity: Resources { cpu: Cpu(4000), memory: Bytes::mib(4096) },
        labels: BTreeMap::new(),
        capabilities: BTreeSet::new(),
        ports: PORTS,
        software: muster_model::Software::current(),
    }
}

pub(crate) fn register(node: &str, agent: Option<AgentRegistration>) -> Command {
    Command::Register(Registration { node: node_id(node), address: node.into(), agent })
}

/// Fields that differ between versions of a service.
pub(crate) fn version(n: u32) -> Value {
    json!({"env": {"VERSION": n.to_string()}})
}

/// One node and one service, `/web`, which has arrived at its first revision with one instance.
pub(crate) fn settled() -> Cluster {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/web", json!({}))]);
    cluster.settle("/web");
    cluster
}

pub(crate) fn restart(path: &str) -> Command {
    Command::Restart { service: service_id(path) }
}

pub(crate) fn undo(path: &str, to: Option<u32>) -> Command {
    Command::Undo { service: service_id(path), to }
}

pub(crate) fn progress(path: &str, ready: u32) -> Step {
    Step::Progress { service: service_id(path), ready }
}

pub(crate) fn fail(deployment: u64, path: &str) -> Step {
    let (deployment, service) = (DeploymentId(deployment), service_id(path));
    Step::Fail { deployment, service, reason: broken() }
}

pub(crate) fn broken() -> Arc<Failure> {
    Arc::new(Failure::Other("it is broken".into()))
}

/// The message of a command that conflicts with the state.
pub(crate) fn conflict(outcome: Outcome) -> String {
    match outcome {
        Err(Refusal::Conflict { message }) => message,
        other => panic!("{other:?}"),
    }
}

/// The kind and the object of each event.
pub(crate) fn emitted(applied: &Changeset) -> Vec<String> {
    applied.events.iter().map(|event| format!("{} {}", event.what.kind(), event.about)).collect()
}

/// The outcome for each named object: its kind, its name, and the verdict.
pub(crate) fn change_summaries(applied: &Changeset) -> Vec<String> {
    let changes = applied.changes.iter();
    changes.map(|c| format!("{} {} {:?}", c.kind, c.name, c.verdict).to_lowercase()).collect()
}

#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
}

impl Cluster {
    /// A cluster with only the nodes of these names.
    pub(crate) fn of(nodes: &[&str]) -> Cluster {
        let mut cluster = Cluster { state: State::new(), now: Timestamp(1_000_000) };
        for node in nodes {
            cluster.run(register(node, Some(agent()))).unwrap();
        }
        cluster
    }

    pub(crate) fn later(&mut self, millis: u64) {
        self.now = self.now.after(Millis(millis));
    }

    /// Applies a command. A rejected command must change nothing; an accepted one must report
    /// exactly the changed objects. The invariants must hold in any case.
    pub(crate) fn run(&mut self, command: Command) -> Outcome {
        self.propose(Proposal::usual(command))
    }

    /// Applies a proposal, as [`Self::run`] does.
    pub(crate) fn propose(&mut self, proposal: Proposal) -> Outcome {
        let shown = format!("{proposal:?}");
        let before: BTreeMap<Key, Object> = self.state.objects().collect();
        let outcome = self.state.apply(proposal, self.now);
        let after: BTreeMap<Key, Object> = self.state.objects().collect();
        let keys = before.keys().chain(after.keys());
        let changed = keys.filter(|key| before.get(key) != after.get(key)).cloned().collect();
        let expected: BTreeSet<Key> = changed;
        match &outcome {
            Ok(applied) => assert_eq!(applied.changed, expected, "changed by {shown}"),
            Err(_) => assert_eq!(expected, BTreeSet::new(), "{shown} was refused"),
        }
        assert_eq!(self.state.violations(), vec![], "after {shown}");
        outcome
    }

    pub(crate) fn apply(&mut self, documents: impl Into<Vec<Document>>) -> Changeset {
        self.run(Command::Apply(documents.into())).unwrap()
    }

    pub(crate) fn scale(&mut self, path: &str, instances: u32) -> Changeset {
        self.run(Command::Scale { service: service_id(path), instances }).unwrap()
    }

    pub(crate) fn remove(&mut self, paths: &[&str]) -> Outcome {
        self.run(Command::RemoveServices(paths.iter().map(|path| service_id(path)).collect()))
    }

    pub(crate) fn steer(&mut self, deployment: u64, how: Steer) -> Outcome {
        self.run(Command::Steer { deployment: DeploymentId(deployment), how })
    }

    pub(crate) fn adopt(&mut self, step: Step) -> Outcome {
        self.run(Command::Adopt(step))
    }

    /// Why a step is stale.
    pub(crate) fn stale(&mut self, step: Step) -> &'static str {
        match self.adopt(step.clone()) {
            Err(Refusal::Stale(why)) => why,
            other => panic!("{step:?}: {other:?}"),
        }
    }

    /// A step that places an instance on a node, at its service's target, with free ports.
    pub(crate) fn placement_of(&self, instance: &str, node: &str) -> Step {
        let instance = instance_id(instance);
        let service = self.state.service(&instance.service).unwrap();
        let host = self.state.node(&node_id(node)).unwrap();
        let mut held: BTreeSet<u16> = host.ports.iter().map(|(port, _)| *port).collect();
        let (first, last) = host.node.ports;
        let mut free = || (first..=last).find(|port| held.insert(*port)).unwrap();
        let ports = service.spec().ports.iter();
        let ports = ports.map(|wanted| if wanted.port == 0 { free() } else { wanted.port });
        Step::Place {
            instance,
            revision: service.target,
            node: node_id(node),
            given: Given { ports: ports.collect() },
        }
    }

    pub(crate) fn place(&mut self, instance: &str, node: &str) -> Changeset {
        self.adopt(self.placement_of(instance, node)).unwrap()
    }

    /// Moves a service to its target, on the first node and without regard to any budget, and
    /// completes the move.
    pub(crate) fn settle(&mut self, path: &str) -> Changeset {
        let id = service_id(path);
        let service = self.service(path);
        let stays = |replica: &ReplicaId, placement: &Placement| {
            let current = placement.is_wanted() && service.is_current(placement.revision);
            current && replica.slot < service.wanted()
        };
        let placed = service.placements.iter();
        let (stay, leave): (Vec<_>, Vec<_>) = placed.partition(|(replica, p)| stays(replica, p));
        for (replica, _) in leave {
            let instance = InstanceId { service: id.clone(), replica: *replica };
            self.adopt(Step::Forget { instance, why: muster_model::StopReason::Replaced }).unwrap();
        }
        let filled: BTreeSet<u32> = stay.into_iter().map(|(replica, _)| replica.slot).collect();
        let node = self.state.nodes().next().map(|node| node.id.to_string());
        for slot in (0..service.wanted()).filter(|slot| !filled.contains(slot)) {
            let instance = format!("{path}~{slot}.{}", service.slot(slot).attempts + 1);
            self.place(&instance, node.as_deref().unwrap());
        }
        self.adopt(Step::Arrive { service: id }).unwrap()
    }

    pub(crate) fn service(&self, path: &str) -> Service {
        Service::clone(self.state.service(&service_id(path)).unwrap())
    }

    pub(crate) fn deployment(&self, number: u64) -> &Deployment {
        self.state.deployment(DeploymentId(number)).unwrap()
    }

    pub(crate) fn node(&self, name: &str) -> &NodeUsage {
        self.state.node(&node_id(name)).unwrap()
    }

    pub(crate) fn is_placed(&self, instance: &str) -> bool {
        self.state.placement(&instance_id(instance)).is_some()
    }
}
