//! The core under random events: a simulated node plays drivers, probes and server, performs the
//! effects with delays and failures, and checks the invariants after each event. At the end the
//! faults stop, and every request must have been handled.
//!
//! Instances with an even number have one resource, those with an odd number a stack: the task
//! `init`, then `db`, then `web` and `log` together, of which `log` is optional.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Assigned, Assignment, Assignments};
use model::{
    Ending, Exit, Given, InstanceId, InstanceResource, Phase, Piece, Spec, Status, Timestamp,
};
use muster_agent::core::{Core, Effect, Event, Memory, Outcome};
use muster_agent::drivers::{DriverEvent, Found, Kind};
use proptest::prelude::*;
use serde_json::json;

/// One step of the simulated node.
#[derive(Debug, Clone)]
enum Step {
    /// A complete document with these goals, by number of the instance.
    Whole(Vec<(u8, bool)>),
    /// An incremental document: goals by number of the instance, and removed numbers.
    Delta(Vec<(u8, bool)>, Vec<u8>),
    /// The nth pending request is completed, successfully or not.
    Complete(usize, bool),
    /// The nth running run ends by itself.
    Exit(usize),
    /// Time passes, in milliseconds.
    Pass(u64),
    /// The agent is killed and started again with its persisted memory.
    Restart,
    /// The process driver becomes unavailable and available again.
    Flap,
    Connected,
}

fn goals() -> impl Strategy<Value = Vec<(u8, bool)>> {
    prop::collection::vec((0u8..6, prop::bool::weighted(0.8)), 0..6)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => goals().prop_map(Step::Whole),
        2 => (goals(), prop::collection::vec(0u8..6, 0..3)).prop_map(|(s, r)| Step::Delta(s, r)),
        8 => (0usize..8, prop::bool::weighted(0.7)).prop_map(|(n, well)| Step::Complete(n, well)),
        2 => (0usize..8).prop_map(Step::Exit),
        4 => (1u64..4000).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => Just(Step::Flap),
        1 => Just(Step::Connected),
    ]
}

/// A request of the core that is still pending.
#[derive(Debug, Clone)]
enum PendingRequest {
    Start(Piece),
    Stop(Piece),
    Probe(Piece, muster_agent::core::CheckId),
    Report(u64),
}

struct World {
    core: Core,
    now: u64,
    memory: Memory,
    pending: Vec<PendingRequest>,
    /// The runs of processes that exist and that the driver would list.
    running: BTreeMap<InstanceResource, u32>,
    /// Ended runs that the driver still lists.
    ended: BTreeMap<InstanceResource, (u32, Exit)>,
    wake_at: Option<Timestamp>,
    generation: u64,
    /// The desired state, from all documents so far.
    wanted: BTreeMap<InstanceId, Assigned>,
    /// Instances whose stop was ever requested.
    stopped: BTreeSet<InstanceId>,
    /// Instances with a start or task that has failed, which may roll back.
    failed: BTreeSet<InstanceId>,
    /// The highest run number seen, and the phase at that time.
    seen: BTreeMap<InstanceId, (u32, Phase)>,
    /// The statuses of all reports sent since the last complete one, inclusive.
    reported: BTreeMap<InstanceId, Status>,
    full_report_sent: bool,
}

const STACK: [&str; 4] = ["init", "db", "web", "log"];

fn is_stacked(instance: &InstanceId) -> bool {
    instance.replica.slot % 2 == 1
}

/// The position of a resource in the order of its stack.
fn place(of: &InstanceResource) -> usize {
    match of.resource.as_str() {
        "init" => 0,
        "db" => 1,
        _ => 2,
    }
}

fn is_task(of: &InstanceResource) -> bool {
    of.resource.as_str() == "init"
}

fn of(instance: &InstanceId, resource: &str) -> InstanceResource {
    InstanceResource { instance: instance.clone(), resource: resource.parse().unwrap() }
}

fn spec(instance: &InstanceId) -> Arc<Spec> {
    let health = json!([{"probe": {"tcp": {}}, "interval": "1s", "grace": "2s", "failures": 2}]);
    let readiness = json!({"probe": {"tcp": {}}, "interval": "500ms"});
    let process = json!({"command": "x"});
    let document = match is_stacked(instance) {
        false => json!({
            "service": "/a", "process": process, "ports": [{}], "health": health,
            "readiness": readiness,
        }),
        true => json!({
            "service": "/a",
            "stack": [
                {"name": "init", "task": {"process": process}, "retries": 1},
                {"name": "db", "process": process, "ports": [{}], "health": health,
                 "readiness": readiness},
                {"name": "web", "process": process, "subset": "front"},
                {"name": "log", "process": process, "subset": "front", "optional": true},
            ],
        }),
    };
    Arc::new(serde_json::from_value(document).unwrap())
}

fn id(number: u8) -> InstanceId {
    InstanceId::new("/a".parse().unwrap(), u32::from(number), 1)
}

fn exit(at: u64, code: i32) -> Exit {
    Exit { at: Timestamp(at), how: Ending::Code { code } }
}

impl World {
    fn new() -> World {
        let now = 1_000_000;
        let memory = Memory::default();
        let core = Core::new("n1".parse().unwrap(), memory.clone(), Timestamp(now));
        let mut world = World {
            core,
            now,
            memory,
            pending: Vec::new(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            wake_at: None,
            generation: 0,
            wanted: BTreeMap::new(),
            stopped: BTreeSet::new(),
            failed: BTreeSet::new(),
            seen: BTreeMap::new(),
            reported: BTreeMap::new(),
            full_report_sent: false,
        };
        world.adopt();
        world.handle(Event::Connected);
        world
    }

    fn found(&self) -> Vec<Found> {
        let found = |of: &InstanceResource, run: u32, exit: Option<Exit>| Found {
            piece: of.run(run),
            started_at: Timestamp(self.now),
            exit,
            suspended: false,
        };
        let running = self.running.iter().map(|(of, run)| found(of, *run, None));
        let ended = self.ended.iter().map(|(of, (run, exit))| found(of, *run, Some(exit.clone())));
        running.chain(ended).collect()
    }

    fn adopt(&mut self) {
        self.handle(Event::Adopted { driver: Kind::Process, found: self.found() });
        let message = "this node runs no containers".into();
        self.handle(Event::Unavailable { driver: Kind::Docker, message });
    }

    fn handle(&mut self, event: Event) {
        let effects = self.core.handle(event, Timestamp(self.now));
        for effect in effects {
            match effect {
                Effect::Start(launch) => {
                    let piece = launch.piece;
                    assert!(!self.stopped.contains(&piece.instance), "started after a stop");
                    assert!(!self.running.contains_key(&piece.of()), "{piece} runs already");
                    let twice = |request: &PendingRequest| matches!(request, PendingRequest::Start(s) if s.of() == piece.of());
                    assert!(!self.pending.iter().any(twice), "a start is under way");
                    self.check_start_order(&piece);
                    self.pending.push(PendingRequest::Start(piece));
                }
                Effect::Stop { piece, .. } => {
                    self.check_stop_order(&piece);
                    self.pending.push(PendingRequest::Stop(piece));
                }
                Effect::Probe { launch, check, .. } => {
                    self.pending.push(PendingRequest::Probe(launch.piece, check));
                }
                Effect::Forget { of, .. } => {
                    assert!(!self.running.contains_key(&of), "forgotten while it runs");
                    self.ended.remove(&of);
                }
                Effect::RemoveDirectory(instance) => {
                    let runs = |of: &&InstanceResource| of.instance == instance;
                    assert_eq!(self.running.keys().find(runs), None, "removed while it runs");
                    self.seen.remove(&instance);
                    self.failed.remove(&instance);
                    // The instance is gone for good, so its id may be reused.
                    self.stopped.remove(&instance);
                }
                Effect::UpdateFiles { .. } => {}
                Effect::Suspend { .. } => panic!("nothing is paused"),
                Effect::Persist(memory) => self.memory = memory,
                Effect::Report(report) => {
                    if report.whole {
                        self.reported.clear();
                    }
                    self.reported.extend(report.instances);
                    self.pending.push(PendingRequest::Report(report.number));
                }
                Effect::WakeAt(at) => self.wake_at = Some(at),
            }
        }
        for (id, status) in self.core.statuses() {
            let now = (status.run, status.phase);
            if let Some(before) = self.seen.insert(id.clone(), now) {
                assert!(before <= now, "{id} went from {before:?} to {now:?}");
            }
        }
    }

    /// Invariant: a resource of a stack first starts once the ones before it are up.
    fn check_start_order(&self, piece: &Piece) {
        let of_piece = piece.of();
        if !is_stacked(&piece.instance) || piece.run > 1 {
            return;
        }
        for before in STACK.map(|name| of(&piece.instance, name)) {
            let completed =
                || self.ended.get(&before).is_some_and(|(_, exit)| exit.code() == Some(0));
            let is_up = match is_task(&before) {
                true => completed(),
                false => self.running.contains_key(&before),
            };
            assert!(place(&before) >= place(&of_piece) || is_up, "{piece} before {before}");
        }
    }

    /// Invariant: a resource of a stack stops only after the ones after it have ended.
    fn check_stop_order(&self, piece: &Piece) {
        let is_after =
            |of: &InstanceResource| of.instance == piece.instance && place(of) > place(&piece.of());
        let starts = |request: &PendingRequest| matches!(request, PendingRequest::Start(start) if is_after(&start.of()));
        assert!(!self.running.keys().any(is_after), "{piece} stops before what follows it");
        assert!(!self.pending.iter().any(starts), "{piece} stops before what follows it");
        let may_stop = self.stopped.contains(&piece.instance)
            || self.failed.contains(&piece.instance)
            || !self.wanted.contains_key(&piece.instance);
        assert!(may_stop, "{piece} stops for no reason");
    }

    fn assignments(&self, goals: &[(u8, bool)]) -> Vec<Assignment> {
        // The server never revokes a stop, and never names an instance twice.
        let goals: BTreeMap<_, _> = goals.iter().copied().collect();
        let assignment = |(number, run): (u8, bool)| {
            let instance = id(number);
            let stop = !run || self.stopped.contains(&instance);
            let spec = spec(&instance);
            Assignment {
                instance,
                revision: 1,
                revision_created_at: model::Timestamp(0),
                goal: if stop { Assigned::Stop } else { Assigned::Run },
                given: Given { ports: vec![20000] },
                frozen: false,
                frozen_resources: Default::default(),
                paused: false,
                retries: 0,
                env: Default::default(),
                spec,
            }
        };
        goals.into_iter().map(assignment).collect()
    }

    fn document(&mut self, whole: bool, goals: &[(u8, bool)], removed: &[u8]) {
        self.generation += 1;
        let set = self.assignments(goals);
        let mut removed: Vec<_> = removed.iter().map(|number| id(*number)).collect();
        removed.retain(|id| !set.iter().any(|assignment| assignment.instance == *id));
        if whole {
            self.full_report_sent = true;
            let left: Vec<_> = self.wanted.keys().cloned().collect();
            self.wanted.clear();
            self.stopped.extend(
                left.into_iter()
                    .filter(|id| !set.iter().any(|assignment| assignment.instance == *id)),
            );
        }
        for id in &removed {
            if self.wanted.remove(id).is_some() {
                self.stopped.insert(id.clone());
            }
        }
        for assignment in &set {
            if assignment.goal == Assigned::Stop {
                self.stopped.insert(assignment.instance.clone());
            }
            self.wanted.insert(assignment.instance.clone(), assignment.goal);
        }
        let generation = self.generation;
        self.handle(Event::Assignments(Assignments {
            generation,
            whole,
            set,
            removed,
            explicit: false,
            unreadable: vec![],
        }));
    }

    fn driver_event(&mut self, event: DriverEvent) {
        self.handle(Event::Driver(event));
    }

    fn end(&mut self, of: &InstanceResource, code: i32) {
        if let Some(run) = self.running.remove(of) {
            let exit = exit(self.now, code);
            if is_task(of) && code != 0 {
                self.failed.insert(of.instance.clone());
            }
            self.ended.insert(of.clone(), (run, exit.clone()));
            self.driver_event(DriverEvent::Exited { piece: of.run(run), exit });
        }
    }

    fn complete(&mut self, index: usize, well: bool) {
        if self.pending.is_empty() {
            return;
        }
        match self.pending.remove(index % self.pending.len()) {
            PendingRequest::Start(piece) if well => {
                self.running.insert(piece.of(), piece.run);
                self.ended.remove(&piece.of());
                let at = Timestamp(self.now);
                self.driver_event(DriverEvent::Started { piece, at });
            }
            PendingRequest::Start(piece) => {
                self.failed.insert(piece.instance.clone());
                let (message, driver_unavailable) = ("no".into(), false);
                self.driver_event(DriverEvent::NotStarted { piece, message, driver_unavailable });
            }
            PendingRequest::Stop(piece) => {
                let starting = |request: &PendingRequest| matches!(request, PendingRequest::Start(s) if *s == piece);
                if let Some(at) = self.pending.iter().position(starting) {
                    self.pending.remove(at);
                    let (message, driver_unavailable) = ("cancelled".into(), false);
                    self.driver_event(DriverEvent::NotStarted {
                        piece,
                        message,
                        driver_unavailable,
                    });
                } else if self.running.get(&piece.of()) != Some(&piece.run) {
                    // A stop of an earlier run: there is nothing to stop.
                } else if well {
                    self.end(&piece.of(), 1);
                } // otherwise the stop is lost, and the core repeats it
            }
            PendingRequest::Probe(piece, check) => {
                let outcome = match (well, index % 2) {
                    (true, _) => Outcome::Pass,
                    (false, 0) => Outcome::Fail("no".into()),
                    (false, _) => Outcome::CannotRun("busy".into()),
                };
                self.handle(Event::Probed { piece, check, outcome });
            }
            PendingRequest::Report(number) if well => {
                self.handle(Event::ReportSent { number, resync: false });
            }
            PendingRequest::Report(number) => self.handle(Event::ReportFailed { number }),
        }
    }

    fn pass(&mut self, span: u64) {
        let until = self.now + span;
        while let Some(at) = self.wake_at.filter(|at| at.0 <= until) {
            self.now = self.now.max(at.0);
            self.wake_at = None;
            self.handle(Event::Tick);
        }
        self.now = until;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Whole(goals) => self.document(true, &goals, &[]),
            Step::Delta(goals, removed) if self.full_report_sent => {
                self.document(false, &goals, &removed);
            }
            Step::Delta(..) => {}
            Step::Complete(index, well) => self.complete(index, well),
            Step::Exit(index) => {
                let nth = index.checked_rem(self.running.len());
                let of = nth.and_then(|nth| self.running.keys().nth(nth).cloned());
                if let Some(of) = of {
                    // Half of the tasks complete.
                    self.end(&of, if is_task(&of) && index % 2 == 0 { 0 } else { 1 });
                }
            }
            Step::Pass(span) => self.pass(span),
            Step::Restart => self.restart(),
            Step::Flap => {
                let driver = Kind::Process;
                self.handle(Event::Unavailable { driver, message: "away".into() });
                self.pass(100);
                self.adopt();
            }
            Step::Connected => self.handle(Event::Connected),
        }
    }

    fn restart(&mut self) {
        // Pending starts and stops take effect without any event reaching the agent.
        for request in std::mem::take(&mut self.pending) {
            match request {
                PendingRequest::Start(piece) => {
                    self.ended.remove(&piece.of());
                    self.running.insert(piece.of(), piece.run);
                }
                PendingRequest::Stop(piece) => {
                    if let Some(run) = self.running.remove(&piece.of()) {
                        if is_task(&piece.of()) {
                            self.failed.insert(piece.instance.clone());
                        }
                        self.ended.insert(piece.of(), (run, exit(self.now, 1)));
                    }
                }
                PendingRequest::Probe(..) | PendingRequest::Report(_) => {}
            }
        }
        let node = "n1".parse().unwrap();
        self.core = Core::new(node, self.memory.clone(), Timestamp(self.now));
        // A new core may report an earlier phase of the same run until its driver has listed its
        // runs.
        self.seen.clear();
        self.wake_at = None;
        self.adopt();
        self.handle(Event::Connected);
    }

    /// No more faults: every request succeeds, and time passes.
    fn settle(&mut self) {
        self.generation += 1;
        let goals: Vec<_> = self
            .wanted
            .iter()
            .map(|(id, goal)| (u8::try_from(id.replica.slot).unwrap(), *goal == Assigned::Run))
            .collect();
        self.document(true, &goals, &[]);
        for _ in 0..150 {
            while !self.pending.is_empty() {
                self.complete(0, true);
            }
            let tasks: Vec<_> = self.running.keys().filter(|of| is_task(of)).cloned().collect();
            for task in tasks {
                self.end(&task, 0);
            }
            self.pass(1000);
        }
        while !self.pending.is_empty() {
            self.complete(0, true);
        }
    }
}

proptest! {
    #[test]
    fn invariants_hold_for_every_history_and_it_settles(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        let statuses: BTreeMap<_, _> =
            world.core.statuses().map(|(id, status)| (id.clone(), status.clone())).collect();
        for (id, goal) in &world.wanted {
            let status = &statuses[id];
            let runs = |of: &&InstanceResource| of.instance == *id;
            match goal {
                Assigned::Run if is_stacked(id) && status.phase == Phase::Failed => {
                    prop_assert!(world.failed.contains(id), "{} failed for no reason", id);
                    prop_assert_eq!(world.running.keys().find(runs), None, "it was rolled back");
                }
                Assigned::Run => {
                    prop_assert_eq!(status.phase, Phase::Running, "{}: {:?}", id, status);
                    prop_assert_eq!((status.healthy, status.ready), (Some(true), true));
                    for resource in &status.resources {
                        let of = of(id, resource.name.as_str());
                        let run = (!is_task(&of)).then_some(&resource.run);
                        let phase = if is_task(&of) { Phase::Completed } else { Phase::Running };
                        prop_assert_eq!(resource.phase, phase, "{}: {:?}", of, resource);
                        prop_assert_eq!(world.running.get(&of), run);
                    }
                    if !is_stacked(id) {
                        prop_assert_eq!(world.running.get(&of(id, "main")), Some(&status.run));
                    }
                }
                Assigned::Stop => {
                    let over = matches!(status.phase, Phase::Stopped | Phase::Failed);
                    prop_assert!(over, "{}: {:?}", id, status);
                    prop_assert_eq!(world.running.keys().find(runs), None);
                }
            }
        }
        prop_assert_eq!(statuses.len(), world.wanted.len(), "nothing else is left");
        let reported: BTreeMap<_, _> = world.reported.iter().filter(|(id, _)| statuses.contains_key(*id))
            .map(|(id, status)| (id.clone(), (status.phase, status.run, status.healthy)))
            .collect();
        let is: BTreeMap<_, _> = statuses.iter()
            .map(|(id, status)| (id.clone(), (status.phase, status.run, status.healthy)))
            .collect();
        prop_assert_eq!(reported, is, "the server knows all of it");
    }
}
