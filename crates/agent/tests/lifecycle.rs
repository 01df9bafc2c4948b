//! The core, event by event: restarts, adoption, and removal.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use api::{Assigned, Assignment, Assignments, Unreadable};
use model::{Ending, Exit, Given, InstanceId, Millis, Phase, Piece, ResourceId, Status, Timestamp};
use muster_agent::core::{Core, Effect, Event, Memory, Outcome};
use muster_agent::drivers::{DriverEvent, Found, Kind};
use serde_json::{Value, json};

/// A core with its process driver adopted, and the effects that it has returned.
struct Rig {
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
        retries: 0,
        env: Default::default(),
        spec,
    }
}

fn run(name: &str, document: Value) -> Assignment {
    assignment(name, document, Assigned::Run)
}

fn found(name: &str, run: u32, exit: Option<Exit>) -> Found {
    Found { piece: piece(name, run), started_at: Timestamp(START - 60_000), exit }
}

fn exit(at: u64) -> Exit {
    Exit { at: Timestamp(at), how: Ending::Code { code: 1 } }
}

impl Rig {
    fn new() -> Rig {
        let mut rig = Rig::unadopted(Memory::default());
        rig.event(Event::Adopted { driver: Kind::Process, found: vec![] });
        rig
    }

    fn unadopted(memory: Memory) -> Rig {
        Rig { core: core(memory), now: START, effects: Vec::new(), generation: 0 }
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
            Effect::RemoveDirectory(_)
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

    fn not_started(&mut self, name: &str, run: u32, driver_away: bool) {
        let message = "no image".into();
        let piece = piece(name, run);
        self.event(Event::Driver(DriverEvent::NotStarted { piece, message, driver_away }));
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
fn a_run_that_ends_is_started_again_at_once_then_ever_later() {
    let mut rig = Rig::new();
    let restart = json!({"backoff": "100ms", "factor": 2, "max": "300ms", "reset_after": "10s"});
    rig.assign(true, vec![run("a", json!({"restart": restart}))]);
    assert_eq!(rig.done(), ["start run 1 of /a~0.1"]);
    rig.started("a", 1);
    rig.exited("a", 1);
    assert_eq!(rig.done(), ["start run 2 of /a~0.1"]);
    let mut waits = Vec::new();
    for run in 2..6 {
        rig.started("a", run);
        rig.exited("a", run);
        let status = rig.status("a");
        assert_eq!((status.phase, status.run), (Phase::Starting, run + 1));
        let (waited, done) = rig.wait();
        assert_eq!(done, [format!("start run {} of /a~0.1", run + 1)]);
        waits.push(waited);
    }
    assert_eq!(waits, [100, 200, 300, 300]);
    assert_eq!(rig.status("a").failures, 5);
    // A long run resets the number of consecutive failures, also in the reported status.
    rig.started("a", 6);
    rig.now += 10_000;
    rig.event(Event::Tick);
    assert_eq!(rig.status("a").failures, 0);
    rig.exited("a", 6);
    assert_eq!(rig.done(), ["start run 7 of /a~0.1"]);
}

#[test]
fn who_is_asked_to_try_again_waits_no_longer() {
    let mut rig = Rig::new();
    let failing = run("a", json!({"restart": {"first": "1h"}}));
    rig.assign(true, vec![failing.clone()]);
    rig.started("a", 1);
    rig.exited("a", 1);
    rig.assign(false, vec![failing.clone()]);
    assert_eq!(rig.done(), ["start run 1 of /a~0.1"], "the same assignment again asks for nothing");
    rig.assign(false, vec![Assignment { retries: 1, ..failing }]);
    assert_eq!(rig.done(), ["start run 2 of /a~0.1"]);
    assert_eq!(rig.status("a").failures, 0);
}

#[test]
fn a_start_that_fails_counts_but_not_when_the_driver_is_away() {
    let mut rig = Rig::new();
    rig.assign(true, vec![run("a", json!({"restart": {"first": "40ms", "backoff": "70ms"}}))]);
    rig.done();
    rig.not_started("a", 1, false);
    let status = rig.status("a");
    assert_eq!(status.message.as_deref(), Some("no image"));
    assert_eq!(status.retry_after, Some(Millis(40)));
    let sentence = "no image; waits 1s before it is started again";
    assert_eq!(status.explanation().as_deref(), Some(sentence));
    assert_eq!(rig.wait(), (40, vec!["start run 2 of /a~0.1".to_string()]));
    rig.not_started("a", 2, true);
    assert_eq!((rig.status("a").failures, rig.status("a").run), (1, 2));
    let driver = Kind::Process;
    rig.event(Event::Away { driver, message: "it is away".into() });
    rig.now += 60_000;
    rig.event(Event::Tick);
    assert_eq!(rig.done(), [""; 0]);
    assert_eq!(rig.status("a").explanation().as_deref(), Some("it is away"));
    rig.event(Event::Adopted { driver, found: vec![] });
    assert_eq!(rig.done(), ["start run 2 of /a~0.1"]);
}

#[test]
fn what_cannot_run_where_it_was_placed_ends_and_says_why() {
    let mut rig = Rig::new();
    rig.assign(true, vec![run("a", json!({}))]);
    assert_eq!(rig.done(), ["start run 1 of /a~0.1"]);
    let message = "port 20001 is taken by another program on this node".to_string();
    let misplaced = DriverEvent::Misplaced { piece: piece("a", 1), message: message.clone() };
    rig.event(Event::Driver(misplaced));
    let status = rig.status("a");
    assert_eq!((status.phase, status.message), (Phase::Failed, Some(message)));
    for _ in 0..100 {
        rig.now += 1000;
        rig.event(Event::Tick);
    }
    assert_eq!(rig.done(), [""; 0], "it is for the server to place another one");
}

#[test]
fn what_is_told_to_stop_never_starts_again() {
    let mut rig = Rig::new();
    let stop = json!({"stop": {"grace": "3s"}});
    rig.assign(true, vec![run("a", stop.clone())]);
    rig.started("a", 1);
    rig.done();
    rig.assign(false, vec![assignment("a", stop.clone(), Assigned::Stop)]);
    assert_eq!(rig.done(), ["stop run 1 of /a~0.1 within 3s"]);
    // No end is reported, so the stop is requested again.
    assert_eq!(rig.wait().0, 8000);
    rig.exited("a", 1);
    assert_eq!(rig.status("a").phase, Phase::Stopped);
    rig.assign(false, vec![run("a", stop)]);
    assert_eq!((rig.done(), rig.status("a").phase), (vec![], Phase::Stopped));
    rig.assign(true, vec![]);
    assert_eq!(rig.done(), ["forget /a~0.1"]);
    assert!(rig.core.is_empty());
}

#[test]
fn what_runs_already_is_adopted_and_stays_as_healthy_as_it_was() {
    let check = json!({"health": [{"probe": {"tcp": {}}}], "ports": [{}]});
    let mut rig = Rig::new();
    rig.assign(true, vec![run("a", check.clone()), run("b", check.clone()), run("c", check)]);
    for name in ["a", "b", "c"] {
        rig.started(name, 1);
    }
    let probes: Vec<_> = std::mem::take(&mut rig.effects)
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Probe { launch, check, .. } => Some((launch.piece, check)),
            _ => None,
        })
        .collect();
    for (piece, check) in probes {
        rig.event(Event::Probed { piece, check, outcome: Outcome::Pass });
    }
    let memory = rig.memory();
    let written = serde_json::to_string(&memory).unwrap();
    let mut rig = Rig::unadopted(serde_json::from_str(&written).unwrap());
    assert_eq!(rig.done(), [""; 0], "nothing before the driver has looked");
    let found = vec![found("a", 1, None), found("b", 1, Some(exit(START - 10)))];
    rig.event(Event::Adopted { driver: Kind::Process, found });
    let mut done = rig.done();
    done.sort();
    // `c` has left no trace, but it must not start before the other driver has listed its runs:
    // one of those may hold its ports and resources.
    assert_eq!(done, ["probe /a~0.1", "start run 2 of /b~0.1"]);
    let message = "this node runs no containers".into();
    rig.event(Event::Away { driver: Kind::Docker, message });
    assert_eq!(rig.done(), ["start run 2 of /c~0.1"]);
    let a = rig.status("a");
    assert_eq!((a.phase, a.healthy, a.ready), (Phase::Running, Some(true), true));
    let b = rig.status("b");
    assert_eq!((b.phase, b.healthy, b.failures), (Phase::Starting, None, 1));
}

#[test]
fn a_stranger_is_left_alone_until_a_server_has_said_all() {
    let mut rig = Rig::unadopted(Memory::default());
    let found = vec![found("a", 3, None), found("b", 2, None)];
    rig.event(Event::Adopted { driver: Kind::Process, found });
    rig.assign(false, vec![]);
    assert_eq!(rig.done(), [""; 0]);
    rig.assign(true, vec![run("b", json!({}))]);
    assert_eq!(rig.done(), ["stop run 3 of /a~0.1 within 10s"]);
    assert_eq!((rig.status("b").phase, rig.status("b").run), (Phase::Running, 2));
    rig.exited("a", 3);
    assert_eq!(rig.done(), ["forget /a~0.1"]);
}

#[test]
fn what_was_lost_while_the_driver_was_away_is_started_again() {
    let mut rig = Rig::new();
    rig.assign(true, vec![run("a", json!({})), run("b", json!({}))]);
    rig.started("a", 1);
    rig.started("b", 1);
    rig.done();
    let driver = Kind::Process;
    rig.event(Event::Away { driver, message: "it is away".into() });
    assert_eq!(rig.status("a").phase, Phase::Running, "it may well run");
    rig.event(Event::Adopted { driver, found: vec![found("b", 1, None)] });
    assert_eq!(rig.done(), ["start run 2 of /a~0.1"]);
    assert_eq!(rig.status("b").run, 1);
}

#[test]
fn old_news_change_nothing() {
    let mut rig = Rig::new();
    rig.assign(true, vec![run("a", json!({}))]);
    rig.started("a", 1);
    rig.exited("a", 1);
    rig.started("a", 2);
    rig.done();
    let before = rig.status("a");
    rig.exited("a", 1);
    rig.not_started("a", 1, false);
    rig.generation = 0;
    rig.assign(false, vec![assignment("a", json!({}), Assigned::Stop)]);
    assert_eq!((rig.done(), rig.status("a")), (vec![], before));
    // A complete document of a new connection is applied regardless of its generation.
    rig.generation = 0;
    rig.assign(true, vec![]);
    assert_eq!(rig.done(), ["stop run 2 of /a~0.1 within 10s"]);
}

#[test]
fn reports_go_one_at_a_time_and_what_failed_is_told_again() {
    fn reports(rig: &mut Rig) -> Vec<(bool, usize)> {
        let reports = std::mem::take(&mut rig.effects).into_iter();
        let reports = reports.filter_map(|effect| match effect {
            Effect::Report(report) => Some((report.whole, report.instances.len())),
            _ => None,
        });
        reports.collect()
    }
    let mut rig = Rig::new();
    rig.event(Event::Connected);
    assert_eq!(reports(&mut rig), [], "the assignments come first");
    rig.assign(true, vec![run("a", json!({})), run("b", json!({}))]);
    assert_eq!(reports(&mut rig), [(true, 2)]);
    rig.started("a", 1);
    rig.started("b", 1);
    assert_eq!(reports(&mut rig), []);
    rig.event(Event::ReportSent { number: 1, resync: false });
    assert_eq!(reports(&mut rig), [(false, 2)]);
    rig.exited("a", 1);
    rig.event(Event::ReportFailed { number: 2 });
    rig.now += 250;
    rig.event(Event::Tick);
    assert_eq!(reports(&mut rig), [(false, 2)]);
    rig.event(Event::ReportSent { number: 3, resync: true });
    assert_eq!(reports(&mut rig), [(true, 2)]);
    rig.event(Event::ReportSent { number: 4, resync: false });
    rig.now += 2000;
    rig.event(Event::Tick);
    assert_eq!(reports(&mut rig), [(false, 0)], "a sign of life");
}

#[test]
fn the_fate_of_a_report_that_was_given_up_says_nothing_of_the_next() {
    let mut rig = Rig::new();
    rig.event(Event::Connected);
    rig.assign(true, vec![run("a", json!({}))]);
    // The connection is replaced while the first report is in flight.
    rig.event(Event::Connected);
    rig.assign(true, vec![run("a", json!({}))]);
    rig.event(Event::ReportSent { number: 1, resync: false });
    rig.effects.clear();
    rig.event(Event::ReportFailed { number: 2 });
    rig.now += 250;
    rig.event(Event::Tick);
    let told = rig.effects.iter().find_map(|effect| match effect {
        Effect::Report(report) => Some((report.number, report.whole, report.instances.len())),
        _ => None,
    });
    assert_eq!(told, Some((3, true, 1)), "what the second one said is still to be told");
}

#[test]
fn the_end_of_an_ephemeral_agent_stops_and_forgets_all() {
    let mut rig = Rig::new();
    rig.assign(true, vec![run("a", json!({})), run("b", json!({}))]);
    rig.started("a", 1);
    rig.done();
    rig.event(Event::End);
    assert_eq!(rig.done(), ["stop run 1 of /a~0.1 within 10s", "stop run 1 of /b~0.1 within 10s"]);
    rig.exited("a", 1);
    rig.not_started("b", 1, false);
    assert_eq!(rig.done(), ["forget /a~0.1", "forget /b~0.1"]);
    assert!(rig.core.is_empty());
    rig.assign(true, vec![run("c", json!({}))]);
    assert!(rig.core.is_empty(), "nothing begins any more");
}

#[test]
fn what_is_new_waits_until_what_nobody_wants_has_ended() {
    let mut rig = Rig::new();
    rig.assign(true, vec![run("a", json!({}))]);
    rig.started("a", 1);
    rig.done();
    // The node was unreachable until `a` was given up, and another instance is placed on it.
    rig.assign(true, vec![run("b", json!({}))]);
    assert_eq!(rig.done(), ["stop run 1 of /a~0.1 within 10s"]);
    let why = rig.status("b").message.clone().unwrap();
    assert_eq!(why, "waits for /a~0.1 to end, which is not wanted here");
    rig.exited("a", 1);
    assert_eq!(rig.done(), ["forget /a~0.1", "start run 1 of /b~0.1"]);
}

#[test]
fn what_may_have_begun_while_its_driver_was_away_is_looked_for_before_it_is_over() {
    let mut rig = Rig::new();
    rig.assign(true, vec![run("a", json!({}))]);
    rig.done();
    let (piece, message) = (piece("a", 1), "no answer".to_string());
    let event = DriverEvent::NotStarted { piece, message: message.clone(), driver_away: true };
    rig.event(Event::Driver(event));
    rig.event(Event::Away { driver: Kind::Process, message });
    rig.assign(true, vec![]);
    assert_eq!(rig.done(), [""; 0], "nobody knows whether it runs");
    let found = vec![found("a", 1, None)];
    rig.event(Event::Adopted { driver: Kind::Process, found });
    assert_eq!(rig.done(), ["stop run 1 of /a~0.1 within 10s"]);
}

/// A node must stay connected when one of its instances needs a newer agent.
#[test]
fn an_assignment_that_cannot_be_read_is_reported_as_failed_and_others_are_started() {
    let mut rig = Rig::new();
    rig.event(Event::Connected);
    rig.assign_unreadable("new", false, vec![run("web", json!({}))]);
    let reported = rig.reported();
    assert_eq!(rig.done(), ["start run 1 of /web~0.1"]);
    let (_, status) = reported.iter().find(|(instance, _)| *instance == id("new")).unwrap();
    assert_eq!(status.phase, Phase::Failed);
    assert_eq!(status.message.as_deref(), Some("this agent is too old for it: unknown variant"));
    assert!(reported.iter().any(|(instance, _)| *instance == id("web")));
}

#[test]
fn a_running_instance_goes_on_when_its_new_assignment_cannot_be_read() {
    let mut rig = Rig::new();
    rig.assign(true, vec![run("web", json!({}))]);
    rig.started("web", 1);
    rig.done();
    rig.assign_unreadable("web", false, vec![]);
    assert_eq!(rig.done(), [""; 0]);
    rig.assign_unreadable("web", true, vec![]);
    let stopped = rig.done();
    assert!(stopped[0].starts_with("stop run 1 of /web~0.1"), "{stopped:?}");
}

/// A service with a file that takes effect in place.
fn with_file(text: &str) -> Assignment {
    let file = json!({"path": "a", "text": text, "on_change": {"signal": "SIGHUP"}});
    assignment("a", json!({"files": [file]}), Assigned::Run)
}

fn updated(rig: &mut Rig, outcome: Result<(), &str>) {
    let outcome = outcome.map_err(String::from);
    rig.event(Event::FilesUpdated { piece: piece("a", 1), outcome });
}

#[test]
fn a_changed_file_is_written_while_its_resource_runs() {
    let mut rig = Rig::new();
    rig.assign(true, vec![with_file("1")]);
    assert_eq!(rig.done(), ["start run 1 of /a~0.1"]);
    // The start in progress writes the previous content.
    rig.assign(true, vec![with_file("2")]);
    assert_eq!(rig.done(), [""; 0]);
    rig.started("a", 1);
    assert_eq!(rig.done(), ["update a of run 1 of /a~0.1"]);
    rig.assign(true, vec![with_file("3")]);
    assert_eq!(rig.done(), [""; 0], "one update at a time");
    updated(&mut rig, Ok(()));
    assert_eq!(rig.done(), ["update a of run 1 of /a~0.1"]);
    updated(&mut rig, Ok(()));
    rig.assign(true, vec![with_file("3")]);
    assert_eq!(rig.done(), [""; 0]);
}

#[test]
fn an_update_that_an_agent_did_not_finish_is_repeated_by_the_next_one() {
    let mut rig = Rig::new();
    rig.assign(true, vec![with_file("1")]);
    rig.started("a", 1);
    rig.assign(true, vec![with_file("2")]);
    let memory = rig.memory();
    let read: Memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
    assert_eq!(read, memory);
    let mut next = Rig::unadopted(read);
    let found = Found { piece: piece("a", 1), started_at: Timestamp(START), exit: None };
    next.event(Event::Adopted { driver: Kind::Process, found: vec![found] });
    assert_eq!(next.done(), ["update a of run 1 of /a~0.1"]);
    updated(&mut next, Ok(()));
    assert!(next.memory().stale_files.is_empty());
}

#[test]
fn an_update_that_fails_is_explained_and_repeated() {
    let mut rig = Rig::new();
    rig.assign(true, vec![with_file("1")]);
    rig.started("a", 1);
    rig.assign(true, vec![with_file("2")]);
    rig.done();
    updated(&mut rig, Err("the disk is full"));
    let message = |rig: &Rig| rig.core.statuses().next().unwrap().1.message.clone();
    assert_eq!(message(&rig).unwrap(), "its files are not updated: the disk is full");
    assert_eq!(rig.done(), [""; 0]);
    rig.now += 5_000;
    rig.event(Event::Tick);
    assert_eq!(rig.done(), ["update a of run 1 of /a~0.1"]);
    updated(&mut rig, Ok(()));
    assert_eq!(message(&rig), None);
}
