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

struct Harness {
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

impl Harness {
    fn new(memory: Memory) -> Harness {
        let core = Core::new("n1".parse().unwrap(), memory.clone(), Timestamp(START));
        Harness { core, now: START, effects: Vec::new(), memory, generation: 7 }
    }

    /// A rig in which both drivers are available and the instance is assigned.
    fn with(stack: &Value) -> Harness {
        let mut harness = Harness::new(Memory::default());
        harness.adopt(&[]);
        harness.assign(stack, Assigned::Run);
        harness
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
                suspended: false,
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
            frozen_resources: Default::default(),
            paused: false,
            retries: 0,
            env: Default::default(),
            spec: Arc::new(serde_json::from_value(document).unwrap()),
        };
        change(&mut assignment);
        self.generation += 1;
        let (generation, set, removed) = (self.generation, vec![assignment], vec![]);
        let (explicit, unreadable) = (false, vec![]);
        let assignments =
            Assignments { generation, whole: true, set, removed, explicit, unreadable };
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
        let (piece, message, driver_unavailable) = (piece(resource, run), message.into(), false);
        self.event(Event::Driver(DriverEvent::NotStarted { piece, message, driver_unavailable }));
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
    let mut harness = Harness::with(&stack());
    assert_eq!(harness.done(), ["start db"]);
    assert_eq!(harness.phases(), "starting starting starting starting");
    let waits = harness.status().resources[1].message.clone();
    assert_eq!(waits.as_deref(), Some("waits until db is up"));
    harness.started("db", 1);
    assert_eq!(harness.done(), ["start web"]);
    harness.started("web", 1);
    assert_eq!(harness.done(), ["start log"]);
    harness.started("log", 1);
    assert_eq!(
        (harness.phases().as_str(), harness.status().ready),
        ("running running running running", true)
    );

    harness.assign(&stack(), Assigned::Stop);
    assert_eq!(harness.done(), ["stop log"]);
    harness.exited("log", 1, 0);
    assert_eq!(harness.done(), ["stop web"]);
    assert_eq!(harness.phases(), "stopping running stopping stopped");
    harness.exited("web", 1, 0);
    assert_eq!(harness.done(), ["stop db"]);
    harness.exited("db", 1, 0);
    assert_eq!(harness.phases(), "stopped stopped stopped stopped");
    harness.event(Event::End);
    assert_eq!(harness.done(), ["forget db", "forget web", "forget log", "remove /shop/web~0.1"]);
    assert!(harness.core.is_empty());
}

#[test]
fn a_resource_that_cannot_start_rolls_the_others_back_in_reverse_order() {
    let mut harness = Harness::with(&stack());
    harness.started("db", 1);
    harness.started("web", 1);
    harness.done();
    harness.not_started("log", 1, "there is no program `ship`");
    assert_eq!(harness.done(), ["stop web"]);
    assert_eq!(harness.phases(), "stopping running stopping failed");
    harness.exited("web", 1, 143);
    assert_eq!(harness.done(), ["stop db"]);
    harness.exited("db", 1, 143);
    assert_eq!(harness.phases(), "failed stopped stopped failed");
    assert_eq!(harness.status().message.as_deref(), Some("log: there is no program `ship`"));
    harness.pass(600_000);
    assert_eq!(harness.done(), [""; 0], "another instance replaces it");

    // A new agent restores the failure from its memory.
    let mut harness = Harness::new(harness.memory);
    harness.adopt(&[]);
    harness.pass(10_000);
    assert_eq!(
        (harness.done(), harness.phases().as_str()),
        (vec![], "failed stopped stopped failed")
    );
}

#[test]
fn a_resource_that_exits_is_restarted_alone() {
    let mut harness = Harness::with(&stack());
    harness.run_all();
    let run = harness.status().run;
    harness.exited("db", 1, 1);
    assert_eq!(harness.done(), ["start db"]);
    assert_eq!(harness.phases(), "starting starting running running");
    assert_eq!(harness.status().run, run + 1);
    // A restart that fails is retried: nothing is rolled back once the instance has been up.
    harness.not_started("db", 2, "no image");
    assert_eq!(harness.done(), [""; 0]);
    harness.pass(5_000);
    assert_eq!(harness.done(), ["start db"]);
    harness.started("db", 3);
    assert_eq!(
        (harness.done(), harness.phases().as_str()),
        (vec![], "running running running running")
    );
}

#[test]
fn a_resource_of_a_frozen_service_is_restarted_once_it_is_thawed() {
    let mut harness = Harness::with(&stack());
    harness.run_all();
    harness.assign_changed(&stack(), Assigned::Run, |assignment| assignment.frozen = true);
    harness.done();
    harness.exited("web", 1, 1);
    harness.pass(60_000);
    assert_eq!(harness.done(), [""; 0]);
    let message = harness.status().message.clone().unwrap();
    assert_eq!(message, "web: it has ended and its service is frozen");
    // A restarted agent does not restart it either.
    harness = Harness::new(harness.memory.clone());
    harness.adopt(&[("db", 1), ("log", 1)]);
    harness.assign_changed(&stack(), Assigned::Run, |assignment| assignment.frozen = true);
    harness.pass(60_000);
    assert_eq!(harness.done(), [""; 0]);
    harness.assign(&stack(), Assigned::Run);
    assert_eq!(harness.done(), ["start web"]);
}

#[test]
fn only_the_frozen_resources_of_a_stack_are_not_restarted() {
    let mut harness = Harness::with(&stack());
    harness.run_all();
    harness.assign_changed(&stack(), Assigned::Run, |assignment| {
        assignment.frozen_resources = ["web".parse().unwrap()].into();
    });
    harness.done();
    harness.exited("web", 1, 1);
    harness.exited("db", 1, 1);
    harness.pass(60_000);
    assert_eq!(harness.done(), ["start db"]);
    let message = harness.status().resources[1].message.clone();
    assert_eq!(message.as_deref(), Some("it has ended and is frozen"));
    harness.assign(&stack(), Assigned::Run);
    assert_eq!(harness.done(), ["start web"]);
}

#[test]
fn a_task_runs_until_it_completes_and_fails_after_its_retries() {
    let stack = |retries: u32| {
        json!([
            {"name": "migrate", "task": {"process": {"command": "m"}}, "retries": retries},
            {"name": "log", "process": {"command": "ship"}},
        ])
    };
    let mut harness = Harness::with(&stack(1));
    harness.started("migrate", 1);
    harness.exited("migrate", 1, 1);
    assert_eq!(harness.done(), ["start migrate", "start migrate"]);
    harness.started("migrate", 2);
    assert_eq!(harness.done(), [""; 0], "what follows a task waits for its end");
    harness.exited("migrate", 2, 0);
    assert_eq!(harness.done(), ["start log"]);
    harness.started("log", 1);
    assert_eq!(harness.phases(), "running completed running");
    harness.exited("log", 1, 1);
    assert_eq!(harness.done(), ["start log"], "a completed task is not repeated");

    // A new agent does not repeat it either.
    let mut harness = Harness::new(harness.memory);
    harness.adopt(&[("log", 2)]);
    assert_eq!((harness.done(), harness.phases().as_str()), (vec![], "running completed running"));

    let mut harness = Harness::with(&stack(0));
    harness.started("migrate", 1);
    harness.exited("migrate", 1, 3);
    assert_eq!(harness.done(), ["start migrate"]);
    assert_eq!(harness.phases(), "failed failed stopped");
    assert_eq!(harness.status().message.as_deref(), Some("migrate: exit code 3"));
}

#[test]
fn members_of_a_subset_start_and_stop_together() {
    let subset = json!([
        {"name": "db", "process": {"command": "x"}},
        {"name": "web", "process": {"command": "x"}, "subset": "front"},
        {"name": "log", "process": {"command": "x"}, "subset": "front"},
    ]);
    let mut harness = Harness::with(&subset);
    harness.started("db", 1);
    assert_eq!(harness.done(), ["start db", "start web", "start log"]);
    harness.run_all();
    harness.assign(&subset, Assigned::Stop);
    assert_eq!(harness.done(), ["stop web", "stop log"]);
    harness.exited("web", 1, 0);
    assert_eq!(harness.done(), [""; 0]);
    harness.exited("log", 1, 0);
    assert_eq!(harness.done(), ["stop db"]);
}

#[test]
fn an_instance_runs_without_a_failed_optional_resource() {
    let optional = json!([
        {"name": "web", "process": {"command": "x"}, "optional": true},
        {"name": "log", "process": {"command": "x"}},
    ]);
    let mut harness = Harness::with(&optional);
    harness.not_started("web", 1, "no program");
    assert!(harness.done().contains(&"start log".to_string()));
    harness.started("log", 1);
    assert_eq!((harness.status().phase, harness.status().ready), (Phase::Running, true));
}

#[test]
fn the_end_of_a_monitored_resource_fails_the_instance() {
    for optional in [false, true] {
        let mut monitored = stack();
        monitored[1]["monitor"] = json!(true);
        monitored[1]["optional"] = json!(optional);
        let mut harness = Harness::with(&monitored);
        harness.run_all();
        harness.done();
        harness.exited("db", 1, 1);
        assert_eq!(harness.done(), ["start db"], "it is not monitored");
        harness.started("db", 2);
        harness.exited("web", 1, 1);
        assert_eq!(harness.done(), ["stop log"], "optional: {optional}");
        harness.exited("log", 1, 0);
        assert_eq!(harness.done(), ["stop db"]);
        harness.exited("db", 2, 0);
        assert_eq!(harness.phases(), "failed stopped failed stopped");
        assert_eq!(harness.status().message.as_deref(), Some("web: exit code 1"));
    }
}

#[test]
fn a_monitored_resource_that_is_optional_may_fail_to_start() {
    let optional = json!([
        {"name": "web", "process": {"command": "x"}, "optional": true, "monitor": true},
        {"name": "log", "process": {"command": "x"}},
    ]);
    let mut harness = Harness::with(&optional);
    harness.not_started("web", 1, "no image");
    harness.pass(5_000);
    assert_eq!(harness.done(), ["start web", "start web", "start log"]);
}

#[test]
fn a_new_agent_adopts_the_running_resources() {
    let mut harness = Harness::with(&stack());
    harness.run_all();
    let mut harness = Harness::new(harness.memory);
    harness.adopt(&[("db", 1), ("web", 1), ("log", 1)]);
    assert_eq!(
        (harness.done(), harness.phases().as_str()),
        (vec![], "running running running running")
    );

    // After a power loss everything starts in order again.
    let mut harness = Harness::new(harness.memory);
    harness.adopt(&[]);
    assert_eq!(harness.done(), ["start db"]);
    harness.started("db", 2);
    assert_eq!(harness.done(), ["start web"]);
}

#[test]
fn a_resource_gets_its_own_ports() {
    let mut harness = Harness::with(&stack());
    harness.started("db", 1);
    harness.started("web", 1);
    let ports = harness.effects.iter().filter_map(|effect| match effect {
        Effect::Start(launch) => Some((launch.piece.resource.to_string(), launch.ports().to_vec())),
        _ => None,
    });
    let expected = [("db", vec![]), ("web", vec![20001]), ("log", vec![20002])]
        .map(|(n, p)| (n.to_string(), p));
    assert_eq!(ports.collect::<Vec<_>>(), expected);
}
