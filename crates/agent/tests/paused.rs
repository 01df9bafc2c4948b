//! Paused instances in the core of the agent: which requests it makes, and what it reports.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use api::{Assigned, Assignment, Assignments};
use model::{Ending, Exit, Given, InstanceId, PauseReport, Phase, Piece, Status, Timestamp};
use muster_agent::core::{Core, Effect, Event, Memory, Outcome};
use muster_agent::drivers::{DriverEvent, Found, Kind};
use serde_json::{Value, json};

const START: u64 = 1_000_000;

struct Harness {
    core: Core,
    now: u64,
    generation: u64,
    memory: Memory,
    document: Value,
    /// The effects on runs since the last call of `done`.
    effects: Vec<String>,
}

fn id() -> InstanceId {
    "/web~0.1".parse().unwrap()
}

fn piece(resource: &str, run: u32) -> Piece {
    Piece { instance: id(), resource: resource.parse().unwrap(), run }
}

impl Harness {
    /// The agent of a service with this document, whose assignment it has received.
    fn new(document: Value) -> Harness {
        let mut harness = Harness::restored(document, Memory::default(), &[]);
        harness.assign(Assigned::Run, false);
        harness
    }

    /// An agent that starts with a memory and finds runs, each suspended or not.
    fn restored(document: Value, memory: Memory, found: &[(&str, bool)]) -> Harness {
        let core = Core::new("n1".parse().unwrap(), memory.clone(), Timestamp(START));
        let (now, generation, effects) = (START, memory.generation, Vec::new());
        let mut harness = Harness { core, now, generation, memory, document, effects };
        let found = found.iter().map(|(resource, suspended)| Found {
            piece: piece(resource, 1),
            started_at: Timestamp(START - 1_000),
            exit: None,
            suspended: *suspended,
        });
        let found = found.collect();
        harness.event(Event::Adopted { driver: Kind::Process, found });
        let message = "this node runs no containers".into();
        harness.event(Event::Unavailable { driver: Kind::Docker, message });
        harness
    }

    fn assign(&mut self, goal: Assigned, paused: bool) {
        let mut document = self.document.clone();
        document["service"] = json!("/web");
        let assignment = Assignment {
            instance: id(),
            revision: 1,
            revision_created_at: Timestamp(0),
            goal,
            frozen: false,
            frozen_resources: Default::default(),
            paused,
            given: Given { ports: vec![20001] },
            retries: 0,
            env: Default::default(),
            spec: Arc::new(serde_json::from_value(document).unwrap()),
        };
        self.generation += 1;
        let (generation, set) = (self.generation, vec![assignment]);
        let (removed, explicit, unreadable) = Default::default();
        let whole = true;
        self.event(Event::Assignments(Assignments {
            generation,
            whole,
            set,
            removed,
            explicit,
            unreadable,
        }));
    }

    fn event(&mut self, event: Event) {
        for effect in self.core.handle(event, Timestamp(self.now)) {
            match effect {
                Effect::Start(launch) => self.effects.push(format!("start {}", launch.piece.run)),
                Effect::Stop { .. } => self.effects.push("stop".into()),
                Effect::Suspend { piece, suspend, .. } => {
                    let what = if suspend { "suspend" } else { "resume" };
                    self.effects.push(format!("{what} {}", piece.resource));
                }
                Effect::Probe { launch, check, .. } => {
                    self.effects.push("probe".into());
                    let (piece, outcome) = (launch.piece, Outcome::Pass);
                    self.event(Event::Probed { piece, check, outcome });
                }
                Effect::Persist(memory) => self.memory = memory,
                _ => {}
            }
        }
    }

    fn started(&mut self, resource: &str, run: u32) {
        let at = Timestamp(self.now);
        self.event(Event::Driver(DriverEvent::Started { piece: piece(resource, run), at }));
    }

    fn exited(&mut self, run: u32) {
        let exit = Exit { at: Timestamp(self.now), how: Ending::Signal { signal: 9 } };
        self.event(Event::Driver(DriverEvent::Exited { piece: piece("main", run), exit }));
    }

    fn suspended(&mut self, resource: &str, suspend: bool, outcome: Result<(), &str>) {
        let (piece, outcome) = (piece(resource, 1), outcome.map_err(String::from));
        self.event(Event::Suspended { piece, suspend, outcome });
    }

    fn pass(&mut self, span: u64) {
        for _ in 0..span / 100 {
            self.now += 100;
            self.event(Event::Tick);
        }
    }

    fn done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.effects)
    }

    fn status(&self) -> &Status {
        self.core.statuses().next().unwrap().1
    }

    /// Whether it is reported as suspended, and as ready.
    fn condition(&self) -> (bool, bool) {
        let status = self.status();
        (status.pause == Some(PauseReport::Suspended), status.ready)
    }
}

fn checked() -> Value {
    json!({
        "process": {"command": "x"}, "ports": [{}],
        "health": [{"probe": {"tcp": {}}, "interval": "1s"}], "readiness": {"probe": {"tcp": {}}},
    })
}

/// An agent with a running, ready instance.
fn running() -> Harness {
    let mut harness = Harness::new(checked());
    harness.started("main", 1);
    assert_eq!(harness.condition(), (false, true));
    harness.done();
    harness
}

fn paused() -> Harness {
    let mut harness = running();
    harness.assign(Assigned::Run, true);
    assert_eq!(harness.done(), ["suspend main"]);
    harness.suspended("main", true, Ok(()));
    harness
}

#[test]
fn checks_rest_during_a_pause_and_begin_anew_after_it() {
    let mut harness = running();
    harness.assign(Assigned::Run, true);
    assert_eq!(harness.done(), ["suspend main"]);
    assert_eq!(harness.condition(), (false, false), "it is not suspended yet");
    harness.suspended("main", true, Ok(()));
    assert_eq!(harness.condition(), (true, false));
    assert_eq!((harness.status().phase, harness.status().run), (Phase::Running, 1));
    harness.pass(60_000);
    assert_eq!(harness.done(), [""; 0], "neither probed nor restarted");
    harness.assign(Assigned::Run, false);
    assert_eq!(harness.done(), ["resume main"]);
    assert_eq!(harness.condition(), (true, false), "it has not been resumed yet");
    harness.suspended("main", false, Ok(()));
    assert_eq!(harness.done(), ["probe", "probe"]);
    assert_eq!(harness.condition(), (false, true));
    assert_eq!((harness.status().run, harness.status().failures), (1, 0));
}

#[test]
fn an_instance_that_dies_during_a_pause_is_started_after_it() {
    let mut harness = paused();
    harness.exited(1);
    harness.pass(60_000);
    assert_eq!(harness.done(), [""; 0]);
    assert_eq!(harness.condition(), (true, false), "no process of it runs");
    assert_eq!(harness.status().message.as_deref(), Some("its service is paused"));
    harness.assign(Assigned::Run, false);
    assert_eq!(harness.done(), ["start 2"]);
}

#[test]
fn a_stop_of_a_paused_instance_needs_no_request_to_resume_it() {
    let mut harness = paused();
    harness.assign(Assigned::Stop, true);
    assert_eq!(harness.done(), ["stop"], "its driver resumes it");
    assert_eq!(harness.status().pause, None);
}

#[test]
fn a_start_in_progress_is_suspended_once_it_has_succeeded() {
    let mut harness = Harness::new(checked());
    harness.assign(Assigned::Run, true);
    assert_eq!(harness.done(), ["start 1"]);
    assert_eq!(harness.condition(), (false, false));
    harness.started("main", 1);
    assert_eq!(harness.done(), ["suspend main"]);
}

#[test]
fn a_failed_request_is_reported_and_repeated() {
    let mut harness = running();
    harness.assign(Assigned::Run, true);
    harness.suspended("main", true, Err("no freezer"));
    let message = "no freezer".into();
    assert_eq!(harness.status().pause, Some(PauseReport::Failed { message }));
    assert_eq!(harness.done(), ["suspend main"]);
    harness.pass(60_000);
    assert_eq!(harness.done(), ["suspend main"], "the next attempt is in progress");
    harness.suspended("main", true, Ok(()));
    assert_eq!(harness.condition(), (true, false));
}

#[test]
fn a_restarted_agent_keeps_an_instance_suspended() {
    let memory = paused().memory;
    let mut harness = Harness::restored(checked(), memory.clone(), &[("main", true)]);
    harness.pass(60_000);
    assert_eq!((harness.done(), harness.condition()), (vec![], (true, false)));
    // The earlier agent had not suspended it yet.
    let mut harness = Harness::restored(checked(), memory, &[("main", false)]);
    assert_eq!(
        (harness.done(), harness.condition()),
        (vec!["suspend main".into()], (false, false))
    );
}

#[test]
fn a_restarted_agent_resumes_an_instance_that_must_run() {
    let memory = running().memory;
    let mut harness = Harness::restored(checked(), memory, &[("main", true)]);
    assert_eq!((harness.done(), harness.condition()), (vec!["resume main".into()], (true, false)));
}

#[test]
fn an_instance_is_suspended_once_all_its_resources_are() {
    let process = json!({"command": "x"});
    let stack = json!({"stack": [
        {"name": "init", "task": {"process": process}},
        {"name": "db", "process": process},
        {"name": "web", "process": process},
    ]});
    let mut harness = Harness::new(stack);
    harness.started("init", 1);
    let exit = Exit { at: Timestamp(harness.now), how: Ending::Code { code: 0 } };
    harness.event(Event::Driver(DriverEvent::Exited { piece: piece("init", 1), exit }));
    harness.started("db", 1);
    harness.started("web", 1);
    harness.done();
    harness.assign(Assigned::Run, true);
    assert_eq!(harness.done(), ["suspend db", "suspend web"]);
    harness.suspended("db", true, Ok(()));
    assert_eq!(harness.condition(), (false, false));
    harness.suspended("web", true, Ok(()));
    assert_eq!(harness.condition(), (true, false));
    harness.assign(Assigned::Run, false);
    harness.suspended("web", false, Ok(()));
    assert_eq!(harness.condition(), (true, false), "db is suspended");
    harness.suspended("db", false, Ok(()));
    assert_eq!(harness.condition(), (false, true));
}
