//! A core with three nodes, two gateways and a store, for tests of single decisions. A test passes
//! each event explicitly. Whole histories are checked by the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{GatewayReport, Report};
use model::{
    AgentRegistration, Bytes, Changeset, ClusterId, Command, Cpu, Deployment, Document, Gateway,
    Goal, InstanceId, Key, Millis, NodeId, Object, Phase, Registration, Resources, RouteTable,
    ServiceId, Spec, Start, State, Status, Timestamp,
};
use serde_json::json;

use crate::control::{Batch, Core, Effect, Event, RequestError, Response, Ticket, become_leader};

pub(super) struct Fixture {
    pub(super) core: Core,
    pub(super) now: u64,
    /// The batch that is being stored.
    pub(super) storing: Option<Batch>,
    /// Everything that was stored.
    pub(super) objects: BTreeMap<Key, Object>,
    pub(super) outcomes: BTreeMap<Ticket, Result<Changeset, RequestError>>,
    pub(super) routes: Option<Arc<RouteTable>>,
    /// The generation of the newest assignments of each node.
    pub(super) assignments: BTreeMap<NodeId, u64>,
    last_ticket: Ticket,
    /// The revision of the store.
    revision: u64,
}

pub(super) fn service(name: &str) -> ServiceId {
    name.parse().unwrap()
}

pub(super) fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub(super) fn spec(name: &str, instances: u32, version: u32) -> Spec {
    serde_json::from_value(json!({
        "service": name,
        "instances": instances,
        "process": {"command": ["run"]},
        "ports": [{"name": "http"}],
        "env": {"VERSION": version.to_string()},
        "resources": {"cpu": 0.1, "memory": "16MiB"},
        "health": [{"probe": {"http": {}}}],
        "rollout": {"min_healthy": "100%", "max_surge": "100%", "deadline": "60s"},
        "stop": {"drain": "20s"},
    }))
    .unwrap()
}

pub(super) fn apply(spec: Spec) -> Command {
    Command::Apply(vec![Document::service(spec)])
}

pub(super) fn scale(name: &str, instances: u32) -> Command {
    Command::Scale { service: service(name), instances }
}

pub(super) fn registration(name: &str, agent_id: Option<&str>) -> Registration {
    Registration {
        node: node(name),
        address: "10.0.0.1".into(),
        agent: agent_id.map(|id| AgentRegistration {
            software: model::Software::current(),
            id: id.into(),
            port: 4041,
            capacity: Resources { cpu: Cpu(8_000), memory: Bytes::mib(8_192) },
            labels: BTreeMap::new(),
            capabilities: BTreeSet::new(),
            ports: (20_000, 20_999),
        }),
    }
}

pub(super) fn report(name: &str, instances: Vec<(InstanceId, Status)>, whole: bool) -> Report {
    Report { node: node(name), life: 0, number: 0, generation: 0, whole, instances }
}

pub(super) const NODES: [&str; 3] = ["n0", "n1", "n2"];
pub(super) const GATEWAYS: [&str; 2] = ["g0", "g1"];

impl Fixture {
    /// A core that has just become leader of an empty cluster.
    pub(super) fn empty() -> Fixture {
        let mut fixture = Fixture {
            core: Core::new(State::new(), 0, Millis::secs(30), [], Timestamp(0)),
            now: 1_000_000,
            storing: None,
            objects: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            routes: None,
            assignments: BTreeMap::new(),
            last_ticket: 0,
            revision: 0,
        };
        fixture.restart();
        fixture
    }

    /// Two instances of `/a` behind a gateway, all of them ready.
    pub(super) fn settled() -> Fixture {
        let mut fixture = Fixture::empty();
        let gateway: Gateway = serde_json::from_value(
            json!({"gateway": "public", "listen": 8080, "routes": [{"to": "/a:http"}]}),
        )
        .unwrap();
        let service = Document::service(spec("/a", 2, 1));
        fixture.request(Command::Apply(vec![service, Document::Gateway(gateway)]));
        fixture.settle();
        fixture
    }

    /// Replaces the core by one that starts with the stored state, and registers every daemon.
    pub(super) fn restart(&mut self) {
        self.storing = None;
        let stored = self.objects.iter().map(|(key, object)| (key.clone(), object.clone()));
        let mut state = State::load(stored);
        let start = Start { cluster: ClusterId(1), nonce: self.revision, after: self.revision };
        let batch = become_leader(&mut state, &mut Vec::new(), start, self.at()).unwrap();
        self.revision += 1;
        self.write(&batch);
        self.core = Core::new(state, self.revision, Millis::secs(30), [], self.at());
        self.routes = None;
        for name in NODES {
            self.request(Command::Register(registration(name, Some(""))));
        }
        for name in GATEWAYS {
            self.request(Command::Register(registration(name, None)));
        }
    }

    pub(super) fn at(&self) -> Timestamp {
        Timestamp(self.now)
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    pub(super) fn request(&mut self, command: Command) -> Ticket {
        let ticket = self.ticket();
        self.handle(Event::Request { ticket, proposal: Box::new(model::Proposal::usual(command)) });
        ticket
    }

    pub(super) fn report(&mut self, report: Report) {
        let ticket = self.ticket();
        self.handle(Event::Report { ticket, report });
    }

    /// Passes an event to the core and takes a turn.
    pub(super) fn handle(&mut self, event: Event) {
        for event in [event, Event::Turn] {
            for effect in self.core.handle(event, self.at()) {
                self.perform(effect);
            }
        }
    }

    /// Ends the write in progress.
    pub(super) fn store(&mut self, works: bool) {
        let Some(batch) = self.storing.take() else { return };
        if works {
            self.write(&batch);
            self.revision += 1;
            self.handle(Event::Stored { revision: self.revision });
        } else {
            self.handle(Event::StoreFailed { message: "no space left".into() });
        }
    }

    fn write(&mut self, batch: &Batch) {
        for (key, object) in &batch.objects {
            match object {
                Some(object) => self.objects.insert(key.clone(), object.clone()),
                None => self.objects.remove(key),
            };
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Store(batch) => {
                let earlier = self.storing.replace(batch);
                assert!(earlier.is_none(), "one batch at a time");
            }
            Effect::Response { ticket, response: Response::Outcome(outcome) } => {
                assert!(self.outcomes.insert(ticket, outcome).is_none(), "{ticket} twice");
            }
            Effect::Routes(table) => self.routes = Some(table),
            Effect::Assignments { generation, nodes } => {
                self.assignments.extend(nodes.into_iter().map(|node| (node, generation)));
            }
            Effect::WakeAt(at) => assert!(at > self.at(), "a turn that never ends"),
            Effect::Response { .. } | Effect::Publish(_) | Effect::PublishEvent(_) => {}
        }
    }

    /// Lets every daemon perform its assignments at once, until no deployment is in progress.
    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            while self.storing.is_some() {
                self.store(true);
            }
            NODES.iter().for_each(|name| self.report_assigned(name));
            GATEWAYS.iter().for_each(|name| self.follow(name));
            self.now += 500;
            let state = &self.core.durable;
            let leaving = |service: &&Arc<model::Service>| {
                service.placements.values().any(|placement| placement.goal != Goal::Run)
            };
            let is_settled = state.deployments().all(|d| d.stage.is_over())
                && state.services().find(leaving).is_none()
                && self.storing.is_none();
            if is_settled && self.routes.is_some() {
                return;
            }
        }
        panic!("it does not settle: {:?}", self.core.durable);
    }

    /// Reports every instance of an agent in its assigned state.
    fn report_assigned(&mut self, name: &str) {
        let at = self.at();
        let state = &self.core.durable;
        let placed = state.node(&node(name)).map(|node| node.instances.clone());
        let instances = placed.iter().flatten().map(|id| {
            let is_running =
                state.placement(id).is_some_and(|p| !matches!(p.goal, Goal::Stop { .. }));
            let known = self.core.observed.status(&id.service, id.replica);
            let status = match known.filter(|known| known.ready && is_running) {
                Some(known) => known.clone(),
                None if is_running => running(at),
                None => Status::new(Phase::Stopped, at),
            };
            (id.clone(), status)
        });
        let report = report(name, instances.collect(), true);
        self.report(report);
    }

    /// A gateway reports that it follows the newest table and has no request in flight.
    pub(super) fn follow(&mut self, name: &str) {
        let generation = self.routes.as_ref().map_or(0, |table| table.generation);
        let (ticket, node) = (self.ticket(), node(name));
        let report = GatewayReport {
            node,
            generation,
            busy: [].into(),
            failed: Vec::new(),
            stuck: Default::default(),
        };
        self.handle(Event::GatewayReport { ticket, report });
    }

    /// An instance of `/a`, with its node.
    pub(super) fn instance(&self) -> (InstanceId, NodeId) {
        let service = self.core.durable.service(&service("/a")).unwrap();
        let (replica, placement) = service.placements.iter().next().unwrap();
        (InstanceId { service: service.id.clone(), replica: *replica }, placement.node.clone())
    }

    /// The observed status of an instance.
    pub(super) fn status(&self, instance: &InstanceId) -> Option<&Status> {
        self.core.observed.status(&instance.service, instance.replica)
    }

    /// An instance of `/a` fails its health checks.
    pub(super) fn make_unhealthy(&mut self) {
        let (instance, node) = self.instance();
        let status = Status { healthy: Some(false), ..self.status(&instance).unwrap().clone() };
        self.report(report(node.as_str(), vec![(instance, status)], false));
    }

    pub(super) fn newest_deployment(&self) -> &Deployment {
        self.core.durable.deployments().next_back().unwrap()
    }

    /// The instances of every node.
    pub(super) fn placed(&self) -> BTreeMap<NodeId, Vec<InstanceId>> {
        let nodes = self.core.durable.node_usages();
        nodes.map(|n| (n.node.id.clone(), n.instances.iter().cloned().collect())).collect()
    }
}

/// The status of an instance that is ready.
fn running(at: Timestamp) -> Status {
    let (healthy, ready, started_at) = (Some(true), true, Some(at));
    Status { run: 1, healthy, ready, started_at, ..Status::new(Phase::Running, at) }
}
