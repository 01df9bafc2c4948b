//! The core with stacks, event by event: the order of starts and stops, rollback, tasks, and
//! which resource an event concerns.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use api::{Assigned, Assignment, Assignments};
use model::{Ending, Exit, Given, InstanceId, Phase, Piece, Status, Timestamp};
use muster_agent::core::{Core, Effect, Event, Memory};
use muster_agent::drivers::{DriverEvent, Found, Kind};
use serde_json::{Value, json};

const START: u64 = 1_000_000;

struct Rig {
    core: Core,
    now: u64,
    effects: Vec<Effect>,
    memory: Memory,
    generation: u64,
}

fn id() -> InstanceId {
    "/shop/web~0.1".parse().unwrap()
}

fn piece(resource: &str, run: u32) -> Piece {
    Piece { instance: id(), resource: resource.parse().unwrap(), run }
}

/// Two containers and a process.
fn stack() -> Value {
    json!([
        {"name": "db", "container": {"image": "db"}},
        {"name": "web", "container": {"image": "web"}, "ports": [{"name": "http"}]},
        {"name": "log", "process": {"command": "ship"}, "ports": [{}]},
    ])
}

impl Rig {
    fn new(memory: Memory) -> Rig {
        let core = Core::new("n1".parse().unwrap(), memory.clone(), Timestamp(START));
        Rig { core, now: START, effects: Vec::new(), memory, generation: 7 }
    }

    /// A rig in which both drivers are available and the instance is assigned.
    fn with(stack: &Value) -> Rig {
        let mut rig = Rig::new(Memory::default());
        rig.adopt(&[]);
        rig.assign(stack, Assigned::Run);
        rig
    }

    fn adopt(&mut self, found: &[(&str, u32)]) {
        for driver in [Kind::Process, Kind::Docker] {
            let of_driver =
                found.iter().filter(|(name, _)| (*name == "log") == (driver == Kind::Process));
            let started_at = Timestamp(START - 60_000);
            let found = of_driver.map(|(name, run)| Found {
                piece: piece(name, *run),
                started_at,
                exit: None,
            });
            let found = found.collect();
            self.event(Event::Adopted { driver, found });
        }
    }

    fn assign(&mut self, stack: &Value, goal: Assigned) {
        self.assign_changed(stack, goal, |_| {});
    }

    fn assign_changed(
        &mut self,
        stack: &Value,
        goal: Assigned,
        change: impl FnOnce(&mut Assignment),
    ) {
        let document = json!({"service": "/shop/web", "stack": stack});
        let mut assignment = Assignment {
            instance: id(),
            revision: 1,
            revision_created_at: model::Timestamp(0),
            goal,
            given: Given { ports: vec![20001, 20002] },
            frozen: false,
            retries: 0,
            env: Default::default(),
            spec: Arc::new(serde_json::from_value(document).unwrap()),
        };
        change(&mut assignment);
        self.generation += 1;
        let (generation, set, removed) = (self.generation, vec![assignment], vec![]);
        let unreadable = vec![];
        let assignments = Assignments { generation, whole: true, set, removed, unreadable };
        self.event(Event::Assignments(assignments));
    }

    fn event(&mut self, event: Event) {
        for effect in self.core.handle(event, Timestamp(self.now)) {
            match effect {
                Effect::Persist(memory) => self.memory = memory,
                effect => self.effects.push(effect),
            }
        }
    }

    fn started(&mut self, resource: &str, run: u32) {
        let at = Timestamp(self.now);
        self.event(Event::Driver(DriverEvent::Started { piece: piece(resource, run), at }));
    }

    fn not_started(&mut self, resource: &str, run: u32, message: &str) {
        let (piece, message, driver_away) = (piece(resource, run), message.into(), false);
        self.event(Event::Driver(DriverEvent::NotStarted { piece, message, driver_away }));
    }

    fn exited(&mut self, resource: &str, run: u32, code: i32) {
        let exit = Exit { at: Timestamp(self.now), how: Ending::Code { code } };
        self.event(Event::Driver(DriverEvent::Exited { piece: piece(resource, run), exit }));
    }

    fn pass(&mut self, span: u64) {
        for _ in 0..span / 100 {
            self.now += 100;
            self.event(Event::Tick);
        }
    }

    /// The starts, stops and removals since the last call, abbreviated.
    fn done(&mut self) -> Vec<String> {
        let short = |effect: Effect| match effect {
            Effect::Start(launch) => Some(format!("start {}", launch.piece.resource)),
            Effect::Stop { piece, .. } => Some(format!("stop {}", piece.resource)),
            Effect::Forget { of, .. } => Some(format!("forget {}", of.resource)),
            Effect::RemoveDirectory(instance) => Some(format!("remove {instance}")),
            _ => None,
        };
        std::mem::take(&mut self.effects).into_iter().filter_map(short).collect()
    }

    fn status(&self) -> &Status {
        self.core.statuses().next().unwrap().1
    }

    /// The phases of the instance and of each resource.
    fn phases(&self) -> String {
        let status = self.status();
        let phases = status.resources.iter().map(|resource| resource.phase.word());
        let phases: Vec<_> = [status.phase.word()].into_iter().chain(phases).collect();
        phases.join(" ")
    }

    fn run_all(&mut self) {
        for name in ["db", "web", "log"] {
            self.started(name, 1);
        }
        self.done();
    }
}

#[test]
fn resources_start_in_order_and_stop_in_reverse() {
    let mut rig = Rig::with(&stack());
    assert_eq!(rig.done(), ["start db"]);
    assert_eq!(rig.phases(), "starting starting starting starting");
    let waits = rig.status().resources[1].message.clone();
    assert_eq!(waits.as_deref(), Some("waits until db is up"));
    rig.started("db", 1);
    assert_eq!(rig.done(), ["start web"]);
    rig.started("web", 1);
    assert_eq!(rig.done(), ["start log"]);
    rig.started("log", 1);
    assert_eq!(
        (rig.phases().as_str(), rig.status().ready),
        ("running running running running", true)
    );

    rig.assign(&stack(), Assigned::Stop);
    assert_eq!(rig.done(), ["stop log"]);
    rig.exited("log", 1, 0);
    assert_eq!(rig.done(), ["stop web"]);
    assert_eq!(rig.phases(), "stopping running stopping stopped");
    rig.exited("web", 1, 0);
    assert_eq!(rig.done(), ["stop db"]);
    rig.exited("db", 1, 0);
    assert_eq!(rig.phases(), "stopped stopped stopped stopped");
    rig.event(Event::End);
    assert_eq!(rig.done(), ["forget db", "forget web", "forget log", "remove /shop/web~0.1"]);
    assert!(rig.core.is_empty());
}

#[test]
fn a_resource_that_cannot_start_rolls_the_others_back_in_reverse_order() {
    let mut rig = Rig::with(&stack());
    rig.started("db", 1);
    rig.started("web", 1);
    rig.done();
    rig.not_started("log", 1, "there is no program `ship`");
    assert_eq!(rig.done(), ["stop web"]);
    assert_eq!(rig.phases(), "stopping running stopping failed");
    rig.exited("web", 1, 143);
    assert_eq!(rig.done(), ["stop db"]);
    rig.exited("db", 1, 143);
    assert_eq!(rig.phases(), "failed stopped stopped failed");
    assert_eq!(rig.status().message.as_deref(), Some("log: there is no program `ship`"));
    rig.pass(600_000);
    assert_eq!(rig.done(), [""; 0], "another instance replaces it");

    // A new agent restores the failure from its memory.
    let mut rig = Rig::new(rig.memory);
    rig.adopt(&[]);
    rig.pass(10_000);
    assert_eq!((rig.done(), rig.phases().as_str()), (vec![], "failed stopped stopped failed"));
}

#[test]
fn a_resource_that_exits_is_restarted_alone() {
    let mut rig = Rig::with(&stack());
    rig.run_all();
    let run = rig.status().run;
    rig.exited("db", 1, 1);
    assert_eq!(rig.done(), ["start db"]);
    assert_eq!(rig.phases(), "starting starting running running");
    assert_eq!(rig.status().run, run + 1);
    // A restart that fails is retried: nothing is rolled back once the instance has been up.
    rig.not_started("db", 2, "no image");
    assert_eq!(rig.done(), [""; 0]);
    rig.pass(5_000);
    assert_eq!(rig.done(), ["start db"]);
    rig.started("db", 3);
    assert_eq!((rig.done(), rig.phases().as_str()), (vec![], "running running running running"));
}

#[test]
fn a_resource_of_a_frozen_service_is_restarted_once_it_is_thawed() {
    let mut rig = Rig::with(&stack());
    rig.run_all();
    rig.assign_changed(&stack(), Assigned::Run, |assignment| assignment.frozen = true);
    rig.done();
    rig.exited("web", 1, 1);
    rig.pass(60_000);
    assert_eq!(rig.done(), [""; 0]);
    let message = rig.status().message.clone().unwrap();
    assert_eq!(message, "web: it has ended and its service is frozen");
    // A restarted agent does not restart it either.
    rig = Rig::new(rig.memory.clone());
    rig.adopt(&[("db", 1), ("log", 1)]);
    rig.assign_changed(&stack(), Assigned::Run, |assignment| assignment.frozen = true);
    rig.pass(60_000);
    assert_eq!(rig.done(), [""; 0]);
    rig.assign(&stack(), Assigned::Run);
    assert_eq!(rig.done(), ["start web"]);
}

#[test]
fn a_task_runs_until_it_completes_and_fails_after_its_retries() {
    let stack = |retries: u32| {
        json!([
            {"name": "migrate", "task": {"process": {"command": "m"}}, "retries": retries},
            {"name": "log", "process": {"command": "ship"}},
        ])
    };
    let mut rig = Rig::with(&stack(1));
    rig.started("migrate", 1);
    rig.exited("migrate", 1, 1);
    assert_eq!(rig.done(), ["start migrate", "start migrate"]);
    rig.started("migrate", 2);
    assert_eq!(rig.done(), [""; 0], "what follows a task waits for its end");
    rig.exited("migrate", 2, 0);
    assert_eq!(rig.done(), ["start log"]);
    rig.started("log", 1);
    assert_eq!(rig.phases(), "running completed running");
    rig.exited("log", 1, 1);
    assert_eq!(rig.done(), ["start log"], "a completed task is not repeated");

    // A new agent does not repeat it either.
    let mut rig = Rig::new(rig.memory);
    rig.adopt(&[("log", 2)]);
    assert_eq!((rig.done(), rig.phases().as_str()), (vec![], "running completed running"));

    let mut rig = Rig::with(&stack(0));
    rig.started("migrate", 1);
    rig.exited("migrate", 1, 3);
    assert_eq!(rig.done(), ["start migrate"]);
    assert_eq!(rig.phases(), "failed failed stopped");
    assert_eq!(rig.status().message.as_deref(), Some("migrate: exit code 3"));
}

#[test]
fn members_of_a_subset_start_and_stop_together() {
    let subset = json!([
        {"name": "db", "process": {"command": "x"}},
        {"name": "web", "process": {"command": "x"}, "subset": "front"},
        {"name": "log", "process": {"command": "x"}, "subset": "front"},
    ]);
    let mut rig = Rig::with(&subset);
    rig.started("db", 1);
    assert_eq!(rig.done(), ["start db", "start web", "start log"]);
    rig.run_all();
    rig.assign(&subset, Assigned::Stop);
    assert_eq!(rig.done(), ["stop web", "stop log"]);
    rig.exited("web", 1, 0);
    assert_eq!(rig.done(), [""; 0]);
    rig.exited("log", 1, 0);
    assert_eq!(rig.done(), ["stop db"]);
}

#[test]
fn an_instance_does_without_an_optional_resource() {
    let optional = json!([
        {"name": "web", "process": {"command": "x"}, "optional": true},
        {"name": "log", "process": {"command": "x"}},
    ]);
    let mut rig = Rig::with(&optional);
    rig.not_started("web", 1, "no program");
    assert!(rig.done().contains(&"start log".to_string()));
    rig.started("log", 1);
    assert_eq!((rig.status().phase, rig.status().ready), (Phase::Running, true));
}

#[test]
fn the_end_of_a_monitored_resource_fails_the_instance() {
    for optional in [false, true] {
        let mut monitored = stack();
        monitored[1]["monitor"] = json!(true);
        monitored[1]["optional"] = json!(optional);
        let mut rig = Rig::with(&monitored);
        rig.run_all();
        rig.done();
        rig.exited("db", 1, 1);
        assert_eq!(rig.done(), ["start db"], "it is not monitored");
        rig.started("db", 2);
        rig.exited("web", 1, 1);
        assert_eq!(rig.done(), ["stop log"], "optional: {optional}");
        rig.exited("log", 1, 0);
        assert_eq!(rig.done(), ["stop db"]);
        rig.exited("db", 2, 0);
        assert_eq!(rig.phases(), "failed stopped failed stopped");
        assert_eq!(rig.status().message.as_deref(), Some("web: exit code 1"));
    }
}

#[test]
fn a_monitored_resource_that_is_optional_may_fail_to_start() {
    let optional = json!([
        {"name": "web", "process": {"command": "x"}, "optional": true, "monitor": true},
        {"name": "log", "process": {"command": "x"}},
    ]);
    let mut rig = Rig::with(&optional);
    rig.not_started("web", 1, "no image");
    rig.pass(5_000);
    assert_eq!(rig.done(), ["start web", "start web", "start log"]);
}

#[test]
fn a_new_agent_goes_on_with_what_runs() {
    let mut rig = Rig::with(&stack());
    rig.run_all();
    let mut rig = Rig::new(rig.memory);
    rig.adopt(&[("db", 1), ("web", 1), ("log", 1)]);
    assert_eq!((rig.done(), rig.phases().as_str()), (vec![], "running running running running"));

    // After a power loss everything starts in order again.
    let mut rig = Rig::new(rig.memory);
    rig.adopt(&[]);
    assert_eq!(rig.done(), ["start db"]);
    rig.started("db", 2);
    assert_eq!(rig.done(), ["start web"]);
}

#[test]
fn ports_are_those_of_the_resource() {
    let mut rig = Rig::with(&stack());
    rig.started("db", 1);
    rig.started("web", 1);
    let ports = rig.effects.iter().filter_map(|effect| match effect {
        Effect::Start(launch) => Some((launch.piece.resource.to_string(), launch.ports().to_vec())),
        _ => None,
    });
    let expected = [("db", vec![]), ("web", vec![20001]), ("log", vec![20002])]
        .map(|(n, p)| (n.to_string(), p));
    assert_eq!(ports.collect::<Vec<_>>(), expected);
}
