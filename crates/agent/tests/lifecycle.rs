//! The core, event by event: restarts, adoption, and removal.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use api::{Assigned, Assignment, Assignments, Unreadable};
use model::{Ending, Exit, Given, InstanceId, Millis, Phase, Piece, ResourceId, Status, Timestamp};
use muster_agent::core::{Core, Effect, Event, Memory, Outcome};
use muster_agent::drivers::{DriverEvent, Found, Kind};
use serde_json::{Value, json};

/// A core with its process driver adopted, and the effects that it has returned.
struct Harness {
    core: Core,
    now: u64,
    effects: Vec<Effect>,
    generation: u64,
}

const START: u64 = 1_000_000;

fn core(memory: Memory) -> Core {
    Core::new("n1".parse().unwrap(), memory, Timestamp(START))
}

fn id(name: &str) -> InstanceId {
    format!("/{name}~0.1").parse().unwrap()
}

fn piece(name: &str, run: u32) -> Piece {
    Piece { instance: id(name), resource: ResourceId::main(), run }
}

fn assignment(name: &str, mut document: Value, goal: Assigned) -> Assignment {
    document["service"] = json!(format!("/{name}"));
    if document.get("container").is_none() {
        document["process"] = json!({"command": "x"});
    }
    let spec = Arc::new(serde_json::from_value(document).unwrap());
    Assignment {
        instance: id(name),
        revision: 1,
        revision_created_at: model::Timestamp(0),
        goal,
        given: Given::default(),
        frozen: false,
        frozen_resources: Default::default(),
        paused: false,
        retries: 0,
        env: Default::default(),
        spec,
    }
}

fn run(name: &str, document: Value) -> Assignment {
    assignment(name, document, Assigned::Run)
}

fn found(name: &str, run: u32, exit: Option<Exit>) -> Found {
    Found { piece: piece(name, run), started_at: Timestamp(START - 60_000), exit, suspended: false }
}

fn exit(at: u64) -> Exit {
    Exit { at: Timestamp(at), how: Ending::Code { code: 1 } }
}

impl Harness {
    fn new() -> Harness {
        let mut harness = Harness::unadopted(Memory::default());
        harness.event(Event::Adopted { driver: Kind::Process, found: vec![] });
        harness
    }

    fn unadopted(memory: Memory) -> Harness {
        Harness { core: core(memory), now: START, effects: Vec::new(), generation: 0 }
    }

    fn event(&mut self, event: Event) {
        self.effects.extend(self.core.handle(event, Timestamp(self.now)));
    }

    fn assign(&mut self, whole: bool, set: Vec<Assignment>) {
        self.generation += 1;
        let generation = self.generation;
        self.event(Event::Assignments(Assignments {
            generation,
            whole,
            set,
            removed: vec![],
            explicit: false,
            unreadable: vec![],
        }));
    }

    /// Assigns instances completely, and orders others to stop.
    fn assign_explicitly(&mut self, set: Vec<Assignment>, removed: &[&str]) {
        self.generation += 1;
        self.event(Event::Assignments(Assignments {
            generation: self.generation,
            whole: true,
            set,
            removed: removed.iter().map(|name| id(name)).collect(),
            explicit: true,
            unreadable: vec![],
        }));
    }

    /// Assigns one instance in a form that this agent cannot parse.
    fn assign_unreadable(&mut self, name: &str, stop: bool, set: Vec<Assignment>) {
        self.generation += 1;
        let error = "unknown variant".into();
        self.event(Event::Assignments(Assignments {
            generation: self.generation,
            whole: true,
            set,
            removed: vec![],
            explicit: false,
            unreadable: vec![Unreadable { instance: id(name), stop, error }],
        }));
    }

    /// The statuses in the last report.
    fn reported(&mut self) -> Vec<(InstanceId, Status)> {
        let mut reports = self.effects.iter().filter_map(|effect| match effect {
            Effect::Report(report) => Some(report.clone()),
            _ => None,
        });
        reports.next_back().map(|report| report.instances).unwrap_or_default()
    }

    /// The effects on instances since the last call, abbreviated.
    fn done(&mut self) -> Vec<String> {
        let short = |effect: Effect| match effect {
            Effect::Start(launch) => Some(format!("start {}", launch.piece)),
            Effect::Stop { piece, grace, .. } => Some(format!("stop {piece} within {grace}")),
            Effect::Forget { of, .. } => Some(format!("forget {of}")),
            Effect::Probe { launch, .. } => Some(format!("probe {}", launch.piece.instance)),
            Effect::UpdateFiles { launch, paths } => {
                let paths: Vec<_> = paths.into_iter().collect();
                Some(format!("update {} of {}", paths.join(" "), launch.piece))
            }
            Effect::Suspend { .. }
            | Effect::RemoveDirectory(_)
            | Effect::Persist(_)
            | Effect::Report(_)
            | Effect::WakeAt(_) => None,
        };
        std::mem::take(&mut self.effects).into_iter().filter_map(short).collect()
    }

    fn memory(&mut self) -> Memory {
        let mut memories = self.effects.iter().filter_map(|effect| match effect {
            Effect::Persist(memory) => Some(memory.clone()),
            _ => None,
        });
        memories.next_back().unwrap()
    }

    fn started(&mut self, name: &str, run: u32) {
        let at = Timestamp(self.now);
        self.event(Event::Driver(DriverEvent::Started { piece: piece(name, run), at }));
    }

    fn exited(&mut self, name: &str, run: u32) {
        let exit = exit(self.now);
        self.event(Event::Driver(DriverEvent::Exited { piece: piece(name, run), exit }));
    }

    fn not_started(&mut self, name: &str, run: u32, driver_unavailable: bool) {
        let message = "no image".into();
        let piece = piece(name, run);
        self.event(Event::Driver(DriverEvent::NotStarted { piece, message, driver_unavailable }));
    }

    /// Advances time until there is an effect on an instance; returns the elapsed milliseconds and
    /// the effects.
    fn wait(&mut self) -> (u64, Vec<String>) {
        let begun = self.now;
        for _ in 0..1_000_000 {
            self.now += 1;
            self.event(Event::Tick);
            let done = self.done();
            if !done.is_empty() {
                return (self.now - begun, done);
            }
        }
        panic!("nothing happens any more");
    }

    fn status(&self, name: &str) -> Status {
        let id = id(name);
        self.core.statuses().find(|(other, _)| **other == id).unwrap().1.clone()
    }
}

#[test]
fn restarts_are_immediate_at_first_and_then_increasingly_delayed() {
    let mut harness = Harness::new();
    let restart = json!({"backoff": "100ms", "factor": 2, "max": "300ms", "reset_after": "10s"});
    harness.assign(true, vec![run("a", json!({"restart": restart}))]);
    assert_eq!(harness.done(), ["start run 1 of /a~0.1"]);
    harness.started("a", 1);
    harness.exited("a", 1);
    assert_eq!(harness.done(), ["start run 2 of /a~0.1"]);
    let mut waits = Vec::new();
    for run in 2..6 {
        harness.started("a", run);
        harness.exited("a", run);
        let status = harness.status("a");
        assert_eq!((status.phase, status.run), (Phase::Starting, run + 1));
        let (waited, done) = harness.wait();
        assert_eq!(done, [format!("start run {} of /a~0.1", run + 1)]);
        waits.push(waited);
    }
    assert_eq!(waits, [100, 200, 300, 300]);
    assert_eq!(harness.status("a").failures, 5);
    // A long run resets the number of consecutive failures, also in the reported status.
    harness.started("a", 6);
    harness.now += 10_000;
    harness.event(Event::Tick);
    assert_eq!(harness.status("a").failures, 0);
    harness.exited("a", 6);
    assert_eq!(harness.done(), ["start run 7 of /a~0.1"]);
}

#[test]
fn a_retry_request_ends_the_backoff() {
    let mut harness = Harness::new();
    let failing = run("a", json!({"restart": {"first": "1h"}}));
    harness.assign(true, vec![failing.clone()]);
    harness.started("a", 1);
    harness.exited("a", 1);
    harness.assign(false, vec![failing.clone()]);
    assert_eq!(
        harness.done(),
        ["start run 1 of /a~0.1"],
        "the same assignment again asks for nothing"
    );
    harness.assign(false, vec![Assignment { retries: 1, ..failing }]);
    assert_eq!(harness.done(), ["start run 2 of /a~0.1"]);
    assert_eq!(harness.status("a").failures, 0);
}

#[test]
fn a_failed_start_counts_unless_the_driver_is_unavailable() {
    let mut harness = Harness::new();
    harness.assign(true, vec![run("a", json!({"restart": {"first": "40ms", "backoff": "70ms"}}))]);
    harness.done();
    harness.not_started("a", 1, false);
    let status = harness.status("a");
    assert_eq!(status.message.as_deref(), Some("no image"));
    assert_eq!(status.retry_after, Some(Millis(40)));
    let sentence = "no image; waits 1s before it is started again";
    assert_eq!(status.explanation().as_deref(), Some(sentence));
    assert_eq!(harness.wait(), (40, vec!["start run 2 of /a~0.1".to_string()]));
    harness.not_started("a", 2, true);
    assert_eq!((harness.status("a").failures, harness.status("a").run), (1, 2));
    let driver = Kind::Process;
    harness.event(Event::Unavailable { driver, message: "it is away".into() });
    harness.now += 60_000;
    harness.event(Event::Tick);
    assert_eq!(harness.done(), [""; 0]);
    assert_eq!(harness.status("a").explanation().as_deref(), Some("it is away"));
    harness.event(Event::Adopted { driver, found: vec![] });
    assert_eq!(harness.done(), ["start run 2 of /a~0.1"]);
}

#[test]
fn a_misplaced_instance_fails_with_the_reason() {
    let mut harness = Harness::new();
    harness.assign(true, vec![run("a", json!({}))]);
    assert_eq!(harness.done(), ["start run 1 of /a~0.1"]);
    let message = "port 20001 is taken by another program on this node".to_string();
    let misplaced = DriverEvent::Misplaced { piece: piece("a", 1), message: message.clone() };
    harness.event(Event::Driver(misplaced));
    let status = harness.status("a");
    assert_eq!((status.phase, status.message), (Phase::Failed, Some(message)));
    for _ in 0..100 {
        harness.now += 1000;
        harness.event(Event::Tick);
    }
    assert_eq!(harness.done(), [""; 0], "it is for the server to place another one");
}

#[test]
fn an_instance_with_a_stop_command_never_starts_again() {
    let mut harness = Harness::new();
    let stop = json!({"stop": {"grace": "3s"}});
    harness.assign(true, vec![run("a", stop.clone())]);
    harness.started("a", 1);
    harness.done();
    harness.assign(false, vec![assignment("a", stop.clone(), Assigned::Stop)]);
    assert_eq!(harness.done(), ["stop run 1 of /a~0.1 within 3s"]);
    // No end is reported, so the stop is requested again.
    assert_eq!(harness.wait().0, 8000);
    harness.exited("a", 1);
    assert_eq!(harness.status("a").phase, Phase::Stopped);
    harness.assign(false, vec![run("a", stop)]);
    assert_eq!((harness.done(), harness.status("a").phase), (vec![], Phase::Stopped));
    harness.assign(true, vec![]);
    assert_eq!(harness.done(), ["forget /a~0.1"]);
    assert!(harness.core.is_empty());
}

#[test]
fn a_running_instance_is_adopted_with_its_health() {
    let check = json!({"health": [{"probe": {"tcp": {}}}], "ports": [{}]});
    let mut harness = Harness::new();
    harness.assign(true, vec![run("a", check.clone()), run("b", check.clone()), run("c", check)]);
    for name in ["a", "b", "c"] {
        harness.started(name, 1);
    }
    let probes: Vec<_> = std::mem::take(&mut harness.effects)
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Probe { launch, check, .. } => Some((launch.piece, check)),
            _ => None,
        })
        .collect();
    for (piece, check) in probes {
        harness.event(Event::Probed { piece, check, outcome: Outcome::Pass });
    }
    let memory = harness.memory();
    let written = serde_json::to_string(&memory).unwrap();
    let mut harness = Harness::unadopted(serde_json::from_str(&written).unwrap());
    assert_eq!(harness.done(), [""; 0], "nothing before the driver has looked");
    let found = vec![found("a", 1, None), found("b", 1, Some(exit(START - 10)))];
    harness.event(Event::Adopted { driver: Kind::Process, found });
    let mut done = harness.done();
    done.sort();
    // `c` has left no trace, but it must not start before the other driver has listed its runs:
    // one of those may hold its ports and resources.
    assert_eq!(done, ["probe /a~0.1", "start run 2 of /b~0.1"]);
    let message = "this node runs no containers".into();
    harness.event(Event::Unavailable { driver: Kind::Docker, message });
    assert_eq!(harness.done(), ["start run 2 of /c~0.1"]);
    let a = harness.status("a");
    assert_eq!((a.phase, a.healthy, a.ready), (Phase::Running, Some(true), true));
    let b = harness.status("b");
    assert_eq!((b.phase, b.healthy, b.failures), (Phase::Starting, None, 1));
}

#[test]
fn an_unassigned_run_is_kept_until_complete_assignments_arrive() {
    let mut harness = Harness::unadopted(Memory::default());
    let found = vec![found("a", 3, None), found("b", 2, None)];
    harness.event(Event::Adopted { driver: Kind::Process, found });
    harness.assign(false, vec![]);
    assert_eq!(harness.done(), [""; 0]);
    harness.assign(true, vec![run("b", json!({}))]);
    assert_eq!(harness.done(), ["stop run 3 of /a~0.1 within 10s"]);
    assert_eq!((harness.status("b").phase, harness.status("b").run), (Phase::Running, 2));
    harness.exited("a", 3);
    assert_eq!(harness.done(), ["forget /a~0.1"]);
}

#[test]
fn a_run_that_ended_during_a_driver_outage_is_restarted() {
    let mut harness = Harness::new();
    harness.assign(true, vec![run("a", json!({})), run("b", json!({}))]);
    harness.started("a", 1);
    harness.started("b", 1);
    harness.done();
    let driver = Kind::Process;
    harness.event(Event::Unavailable { driver, message: "it is away".into() });
    assert_eq!(harness.status("a").phase, Phase::Running, "it may well run");
    harness.event(Event::Adopted { driver, found: vec![found("b", 1, None)] });
    assert_eq!(harness.done(), ["start run 2 of /a~0.1"]);
    assert_eq!(harness.status("b").run, 1);
}

#[test]
fn outdated_events_have_no_effect() {
    let mut harness = Harness::new();
    harness.assign(true, vec![run("a", json!({}))]);
    harness.started("a", 1);
    harness.exited("a", 1);
    harness.started("a", 2);
    harness.done();
    let before = harness.status("a");
    harness.exited("a", 1);
    harness.not_started("a", 1, false);
    harness.generation = 0;
    harness.assign(false, vec![assignment("a", json!({}), Assigned::Stop)]);
    assert_eq!((harness.done(), harness.status("a")), (vec![], before));
    // A complete document of a new connection is applied regardless of its generation.
    harness.generation = 0;
    harness.assign(true, vec![]);
    assert_eq!(harness.done(), ["stop run 2 of /a~0.1 within 10s"]);
}

#[test]
fn one_report_is_in_flight_and_a_failed_one_is_repeated() {
    fn reports(harness: &mut Harness) -> Vec<(bool, usize)> {
        let reports = std::mem::take(&mut harness.effects).into_iter();
        let reports = reports.filter_map(|effect| match effect {
            Effect::Report(report) => Some((report.whole, report.instances.len())),
            _ => None,
        });
        reports.collect()
    }
    let mut harness = Harness::new();
    harness.event(Event::Connected);
    assert_eq!(reports(&mut harness), [], "the assignments come first");
    harness.assign(true, vec![run("a", json!({})), run("b", json!({}))]);
    assert_eq!(reports(&mut harness), [(true, 2)]);
    harness.started("a", 1);
    harness.started("b", 1);
    assert_eq!(reports(&mut harness), []);
    harness.event(Event::ReportSent { number: 1, resync: false });
    assert_eq!(reports(&mut harness), [(false, 2)]);
    harness.exited("a", 1);
    harness.event(Event::ReportFailed { number: 2 });
    harness.now += 250;
    harness.event(Event::Tick);
    assert_eq!(reports(&mut harness), [(false, 2)]);
    harness.event(Event::ReportSent { number: 3, resync: true });
    assert_eq!(reports(&mut harness), [(true, 2)]);
    harness.event(Event::ReportSent { number: 4, resync: false });
    harness.now += 2000;
    harness.event(Event::Tick);
    assert_eq!(reports(&mut harness), [(false, 0)], "a sign of life");
}

#[test]
fn the_outcome_of_an_abandoned_report_does_not_affect_the_next() {
    let mut harness = Harness::new();
    harness.event(Event::Connected);
    harness.assign(true, vec![run("a", json!({}))]);
    // The connection is replaced while the first report is in flight.
    harness.event(Event::Connected);
    harness.assign(true, vec![run("a", json!({}))]);
    harness.event(Event::ReportSent { number: 1, resync: false });
    harness.effects.clear();
    harness.event(Event::ReportFailed { number: 2 });
    harness.now += 250;
    harness.event(Event::Tick);
    let last_report = harness.effects.iter().find_map(|effect| match effect {
        Effect::Report(report) => Some((report.number, report.whole, report.instances.len())),
        _ => None,
    });
    assert_eq!(
        last_report,
        Some((3, true, 1)),
        "the changes of the second report are still to be reported"
    );
}

#[test]
fn a_terminating_ephemeral_agent_stops_and_removes_all_instances() {
    let mut harness = Harness::new();
    harness.assign(true, vec![run("a", json!({})), run("b", json!({}))]);
    harness.started("a", 1);
    harness.done();
    harness.event(Event::End);
    assert_eq!(
        harness.done(),
        ["stop run 1 of /a~0.1 within 10s", "stop run 1 of /b~0.1 within 10s"]
    );
    harness.exited("a", 1);
    harness.not_started("b", 1, false);
    assert_eq!(harness.done(), ["forget /a~0.1", "forget /b~0.1"]);
    assert!(harness.core.is_empty());
    harness.assign(true, vec![run("c", json!({}))]);
    assert!(harness.core.is_empty(), "nothing begins any more");
}

#[test]
fn a_new_instance_waits_for_unwanted_ones_to_end() {
    let mut harness = Harness::new();
    harness.assign(true, vec![run("a", json!({}))]);
    harness.started("a", 1);
    harness.done();
    // The node was unreachable until `a` was given up, and another instance is placed on it.
    harness.assign(true, vec![run("b", json!({}))]);
    assert_eq!(harness.done(), ["stop run 1 of /a~0.1 within 10s"]);
    let why = harness.status("b").message.clone().unwrap();
    assert_eq!(why, "waits for /a~0.1 to end, which is not assigned to this node");
    harness.exited("a", 1);
    assert_eq!(harness.done(), ["forget /a~0.1", "start run 1 of /b~0.1"]);
}

#[test]
fn an_uncertain_start_is_resolved_before_the_instance_is_final() {
    let mut harness = Harness::new();
    harness.assign(true, vec![run("a", json!({}))]);
    harness.done();
    let (piece, message) = (piece("a", 1), "no answer".to_string());
    let event =
        DriverEvent::NotStarted { piece, message: message.clone(), driver_unavailable: true };
    harness.event(Event::Driver(event));
    harness.event(Event::Unavailable { driver: Kind::Process, message });
    harness.assign(true, vec![]);
    assert_eq!(harness.done(), [""; 0], "it is unknown whether it runs");
    let found = vec![found("a", 1, None)];
    harness.event(Event::Adopted { driver: Kind::Process, found });
    assert_eq!(harness.done(), ["stop run 1 of /a~0.1 within 10s"]);
}

/// A node must stay connected when one of its instances needs a newer agent.
#[test]
fn an_assignment_that_cannot_be_read_is_reported_as_failed_and_others_are_started() {
    let mut harness = Harness::new();
    harness.event(Event::Connected);
    harness.assign_unreadable("new", false, vec![run("web", json!({}))]);
    let reported = harness.reported();
    assert_eq!(harness.done(), ["start run 1 of /web~0.1"]);
    let (_, status) = reported.iter().find(|(instance, _)| *instance == id("new")).unwrap();
    assert_eq!(status.phase, Phase::Failed);
    assert_eq!(status.message.as_deref(), Some("this agent is too old for it: unknown variant"));
    assert!(reported.iter().any(|(instance, _)| *instance == id("web")));
}

#[test]
fn a_running_instance_survives_an_unreadable_assignment() {
    let mut harness = Harness::new();
    harness.assign(true, vec![run("web", json!({}))]);
    harness.started("web", 1);
    harness.done();
    harness.assign_unreadable("web", false, vec![]);
    assert_eq!(harness.done(), [""; 0]);
    harness.assign_unreadable("web", true, vec![]);
    let stopped = harness.done();
    assert!(stopped[0].starts_with("stop run 1 of /web~0.1"), "{stopped:?}");
}

/// A service with a file that takes effect in place.
fn with_file(text: &str) -> Assignment {
    let file = json!({"path": "a", "text": text, "on_change": {"signal": "SIGHUP"}});
    assignment("a", json!({"files": [file]}), Assigned::Run)
}

fn updated(harness: &mut Harness, outcome: Result<(), &str>) {
    let outcome = outcome.map_err(String::from);
    harness.event(Event::FilesUpdated { piece: piece("a", 1), outcome });
}

#[test]
fn a_changed_file_is_written_while_its_resource_runs() {
    let mut harness = Harness::new();
    harness.assign(true, vec![with_file("1")]);
    assert_eq!(harness.done(), ["start run 1 of /a~0.1"]);
    // The start in progress writes the previous content.
    harness.assign(true, vec![with_file("2")]);
    assert_eq!(harness.done(), [""; 0]);
    harness.started("a", 1);
    assert_eq!(harness.done(), ["update a of run 1 of /a~0.1"]);
    harness.assign(true, vec![with_file("3")]);
    assert_eq!(harness.done(), [""; 0], "one update at a time");
    updated(&mut harness, Ok(()));
    assert_eq!(harness.done(), ["update a of run 1 of /a~0.1"]);
    updated(&mut harness, Ok(()));
    harness.assign(true, vec![with_file("3")]);
    assert_eq!(harness.done(), [""; 0]);
}

#[test]
fn an_update_that_an_agent_did_not_finish_is_repeated_by_the_next_one() {
    let mut harness = Harness::new();
    harness.assign(true, vec![with_file("1")]);
    harness.started("a", 1);
    harness.assign(true, vec![with_file("2")]);
    let memory = harness.memory();
    let read: Memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
    assert_eq!(read, memory);
    let mut next = Harness::unadopted(read);
    let found =
        Found { piece: piece("a", 1), started_at: Timestamp(START), exit: None, suspended: false };
    next.event(Event::Adopted { driver: Kind::Process, found: vec![found] });
    assert_eq!(next.done(), ["update a of run 1 of /a~0.1"]);
    updated(&mut next, Ok(()));
    assert!(next.memory().stale_files.is_empty());
}

#[test]
fn an_update_that_fails_is_explained_and_repeated() {
    let mut harness = Harness::new();
    harness.assign(true, vec![with_file("1")]);
    harness.started("a", 1);
    harness.assign(true, vec![with_file("2")]);
    harness.done();
    updated(&mut harness, Err("the disk is full"));
    let message = |harness: &Harness| harness.core.statuses().next().unwrap().1.message.clone();
    assert_eq!(message(&harness).unwrap(), "its files are not updated: the disk is full");
    assert_eq!(harness.done(), [""; 0]);
    harness.now += 5_000;
    harness.event(Event::Tick);
    assert_eq!(harness.done(), ["update a of run 1 of /a~0.1"]);
    updated(&mut harness, Ok(()));
    assert_eq!(message(&harness), None);
}

#[test]
fn an_instance_that_is_not_assigned_stops_only_by_order() {
    let mut agent = Harness::new();
    agent.event(Event::Connected);
    agent.assign_explicitly(vec![run("a", json!({}))], &[]);
    agent.started("a", 1);
    agent.done();
    // A server that does not know the instance: its store is another one.
    agent.assign_explicitly(vec![run("b", json!({}))], &[]);
    assert_eq!(agent.done(), [""; 0], "and nothing starts next to it");
    assert_eq!(agent.status("a").phase, Phase::Running, "it is reported");
    agent.exited("a", 1);
    assert_eq!(agent.wait().1, ["start run 2 of /a~0.1"], "it is kept running");
    agent.started("a", 2);
    let memory = agent.memory();
    assert!(memory.assignments.iter().any(|known| known.instance == id("a")));
    agent.assign_explicitly(vec![run("b", json!({}))], &["a"]);
    assert_eq!(agent.done(), ["stop run 2 of /a~0.1 within 10s"]);
    agent.exited("a", 2);
    assert_eq!(agent.done(), ["forget /a~0.1", "start run 1 of /b~0.1"]);
}

#[test]
fn a_run_that_is_found_and_not_assigned_stops_only_by_order() {
    let mut agent = Harness::unadopted(Memory::default());
    agent.event(Event::Connected);
    agent.assign_explicitly(vec![], &[]);
    let found = vec![found("a", 3, None)];
    agent.event(Event::Adopted { driver: Kind::Process, found });
    assert_eq!(agent.done(), [""; 0]);
    agent.assign_explicitly(vec![], &["a"]);
    assert_eq!(agent.done().len(), 1, "it is stopped");
}
