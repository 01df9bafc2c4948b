//! The core in a cluster of fakes, through random histories. `world` is the cluster, `check` what
//! must hold all along; here are the histories and what must hold in the end.

mod check;
mod told;
mod world;

use std::collections::BTreeMap;

use model::{
    Availability, Command, Document, Gateway, InstanceId, Millis, NodeId, Phase, Placement,
    ReplicaId, ServiceId, Spec, Steer,
};
use proptest::prelude::*;
use serde_json::json;

use super::Event;
use check::objects;
use world::World;

fn service(name: &str) -> ServiceId {
    name.parse().unwrap()
}

fn spec(name: &str, instances: u32, version: u32, shares: (&str, &str)) -> Document {
    let spec: Spec = serde_json::from_value(json!({
        "service": name,
        "instances": instances,
        "process": {"command": ["run"]},
        "ports": [{"name": "http"}],
        "env": {"VERSION": version.to_string()},
        "resources": {"cpu": 0.1, "memory": "16MiB"},
        "health": [{"probe": {"http": {}}}],
        "rollout": {"min_healthy": shares.0, "max_surge": shares.1, "deadline": "60s"},
        "stop": {"drain": "20s"},
    }))
    .unwrap();
    Document::Service(Box::new(spec))
}

fn gateway(name: &str) -> Document {
    let to = name.to_string();
    let gateway: Gateway = serde_json::from_value(
        json!({"gateway": "public", "listen": 8080, "routes": [{"to": format!("{to}:http")}]}),
    )
    .unwrap();
    Document::Gateway(gateway)
}

const NAMES: [&str; 3] = ["/a", "/b", "/c"];
const SHARES: [(&str, &str); 4] = [("100%", "100%"), ("100%", "0%"), ("50%", "0%"), ("25%", "25%")];

/// What may happen next.
#[derive(Debug, Clone)]
enum Action {
    Apply { name: usize, instances: u32, version: u32, shares: usize },
    Route { name: usize },
    Scale { name: usize, instances: u32 },
    Restart { name: usize },
    Undo { name: usize },
    Remove { name: usize },
    Steer { how: Steer },
    Node { node: usize, to: Availability },
    Store { works: bool },
    Follow { agent: usize },
    Report { agent: usize },
    Hurt { agent: usize, nth: usize, dies: bool },
    Part { agent: usize, reachable: bool },
    Switch { gateway: usize, keep_busy: bool },
    ReportGateway { gateway: usize },
    Finish { gateway: usize },
    PartGateway { gateway: usize, reachable: bool },
    Pass { millis: u64 },
    Kill { written: bool },
    Lead,
    Settle,
}

fn action() -> impl Strategy<Value = Action> {
    let name = || 0..NAMES.len();
    let node = || 0..3usize;
    let gateway = || 0..2usize;
    let steer = prop_oneof![Just(Steer::Pause), Just(Steer::Resume), Just(Steer::Abort)];
    let availability = prop_oneof![
        Just(Availability::Active),
        Just(Availability::Cordoned),
        Just(Availability::Draining)
    ];
    prop_oneof![
        6 => (name(), 0..5u32, 0..4u32, 0..SHARES.len()).prop_map(
            |(name, instances, version, shares)| Action::Apply { name, instances, version, shares }
        ),
        2 => name().prop_map(|name| Action::Route { name }),
        2 => (name(), 0..6u32).prop_map(|(name, instances)| Action::Scale { name, instances }),
        1 => name().prop_map(|name| Action::Restart { name }),
        1 => name().prop_map(|name| Action::Undo { name }),
        1 => name().prop_map(|name| Action::Remove { name }),
        2 => steer.prop_map(|how| Action::Steer { how }),
        2 => (node(), availability).prop_map(|(node, to)| Action::Node { node, to }),
        20 => prop::bool::weighted(0.85).prop_map(|works| Action::Store { works }),
        10 => node().prop_map(|agent| Action::Follow { agent }),
        10 => node().prop_map(|agent| Action::Report { agent }),
        2 => (node(), 0..8usize, any::<bool>())
            .prop_map(|(agent, nth, dies)| Action::Hurt { agent, nth, dies }),
        2 => (node(), prop::bool::weighted(0.7))
            .prop_map(|(agent, reachable)| Action::Part { agent, reachable }),
        6 => (gateway(), any::<bool>())
            .prop_map(|(gateway, keep_busy)| Action::Switch { gateway, keep_busy }),
        6 => gateway().prop_map(|gateway| Action::ReportGateway { gateway }),
        3 => gateway().prop_map(|gateway| Action::Finish { gateway }),
        1 => (gateway(), prop::bool::weighted(0.7))
            .prop_map(|(gateway, reachable)| Action::PartGateway { gateway, reachable }),
        8 => prop_oneof![1..50u64, 50..2_000u64, 10_000..40_000u64]
            .prop_map(|millis| Action::Pass { millis }),
        2 => any::<bool>().prop_map(|written| Action::Kill { written }),
        1 => Just(Action::Lead),
        3 => Just(Action::Settle),
    ]
}

impl World {
    fn act(&mut self, action: Action) {
        let id = |name: usize| service(NAMES[name]);
        match action {
            Action::Apply { name, instances, version, shares } => {
                let document = spec(NAMES[name], instances, version, SHARES[shares]);
                self.request(Command::Apply(vec![document]));
            }
            Action::Route { name } => {
                self.request(Command::Apply(vec![gateway(NAMES[name])]));
            }
            Action::Scale { name, instances } => {
                self.request(Command::Scale { service: id(name), instances });
            }
            Action::Restart { name } => {
                self.request(Command::Restart { service: id(name) });
            }
            Action::Undo { name } => {
                self.request(Command::Undo { service: id(name), to: None });
            }
            Action::Remove { name } => {
                self.request(Command::RemoveServices(vec![id(name)]));
            }
            Action::Steer { how } => {
                let newest = self.core.state.deployments().next_back().map(|newest| newest.id);
                if let Some(deployment) = newest {
                    self.request(Command::Steer { deployment, how });
                }
            }
            Action::Node { node, to: availability } => {
                let node: NodeId = format!("n{node}").parse().unwrap();
                self.request(Command::SetAvailability { node, availability });
            }
            Action::Store { works } => self.store(works),
            Action::Follow { agent } => self.follow(agent),
            Action::Report { agent } => self.report(agent),
            Action::Hurt { agent, nth, dies } => self.hurt(agent, nth, dies),
            Action::Part { agent, reachable } => self.agents[agent].reachable = reachable,
            Action::Switch { gateway, keep_busy } => self.switch(gateway, keep_busy),
            Action::ReportGateway { gateway } => self.report_gateway(gateway),
            Action::Finish { gateway } => self.gateways[gateway].busy.clear(),
            Action::PartGateway { gateway, reachable } => {
                self.gateways[gateway].reachable = reachable;
            }
            Action::Pass { millis } => self.pass(millis),
            Action::Kill { written } => self.kill(written),
            Action::Lead => drop(self.request(Command::Lead)),
            Action::Settle => self.heal(3_000),
        }
    }

    /// Lets everything work until all is where it should be.
    fn arrive(&mut self) {
        let end = self.now + 600_000;
        self.heal(3_000);
        while self.now < end && self.remains().is_some() {
            self.heal(3_000);
        }
        assert_eq!(self.remains(), None);
    }

    /// What is not where it should be, unless it stands still because somebody said so.
    fn remains(&self) -> Option<String> {
        if !self.waiting.is_empty() || self.storing.is_some() {
            return Some("somebody waits for an answer".into());
        }
        let state = &self.core.durable;
        let mut deployments = state.deployments();
        if let Some(d) = deployments.find(|d| !d.stage.is_over() && !d.stage.is_still()) {
            return Some(format!("{} is {}", d.id, d.stage.word()));
        }
        for service in state.services() {
            let id = &service.id;
            if service.deployment.is_some() {
                // It stands still, but what was told to leave goes.
                if !service.placements.values().all(Placement::is_wanted) {
                    return Some(format!("instances of {id} are leaving"));
                }
                continue;
            }
            if service.removing || service.placements.len() as u32 != service.wanted() {
                return Some(format!("{id} has {} instances", service.placements.len()));
            }
            let is_there = |(replica, placement): (&ReplicaId, &Placement)| {
                let status = self.core.observed.status(id, *replica);
                placement.is_wanted()
                    && service.is_current(placement.revision)
                    && status.is_some_and(|status| status.ready && status.healthy == Some(true))
            };
            if !service.placements.iter().all(is_there) {
                return Some(format!("instances of {id} are not ready"));
            }
        }
        let Some(told) = &self.routes else { return Some("no table was told".into()) };
        let follows = |gateway: &world::Gateway| gateway.table.generation == told.generation;
        if !self.gateways.iter().all(follows) {
            return Some("a gateway has an old table".into());
        }
        for agent in &self.agents {
            let Some(node) = state.node(&agent.node) else { return Some("a node is gone".into()) };
            let runs: Vec<&InstanceId> = agent.instances.keys().collect();
            if runs != node.instances.iter().collect::<Vec<_>>() {
                return Some(format!("{} runs {runs:?}", agent.node));
            }
        }
        None
    }

    fn runs(&self) -> BTreeMap<InstanceId, (NodeId, u32, Phase)> {
        let of = |agent: &world::Agent| {
            let node = agent.node.clone();
            let instances = agent.instances.iter();
            instances
                .map(|(id, local)| {
                    (id.clone(), (node.clone(), local.status.run, local.status.phase))
                })
                .collect::<Vec<_>>()
        };
        self.agents.iter().flat_map(of).collect()
    }
}

#[test]
fn a_server_that_stood_still_takes_no_node_for_lost() {
    let mut world = World::new(3, 1);
    world.request(Command::Apply(vec![spec("/a", 3, 1, SHARES[0])]));
    world.arrive();
    let runs = world.runs();
    // Stopped, put to sleep, or its clock set forward: it wakes up before anyone has called again.
    for span in [60_000, 3_600_000] {
        world.now += span;
        world.bring(Event::Absent { span: Millis(span) });
        world.turn();
        world.arrive();
        assert_eq!(runs, world.runs());
    }
}

proptest! {
    /// Whatever happens, what is told is durable and safe (see `check`), and in the end everything
    /// is where it should be. A server that is killed then changes nothing.
    #[test]
    fn any_history_is_safe_and_ends_well(actions in prop::collection::vec(action(), 1..100)) {
        let mut world = World::new(3, 2);
        for action in actions {
            world.act(action);
        }
        for node in 0..3 {
            world.act(Action::Node { node, to: Availability::Active });
        }
        world.arrive();

        let (before, runs) = (world.core.durable.clone(), world.runs());
        world.kill(false);
        world.arrive();
        prop_assert_eq!(runs, world.runs());
        let (mut before, mut after) = (objects(&before), objects(&world.core.durable));
        before.remove(&model::Key::Meta);
        after.remove(&model::Key::Meta);
        prop_assert!(before == after);
    }
}
