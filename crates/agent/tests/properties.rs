//! The core under random events: a made-up node plays drivers, probes and server, obeys the
//! effects with delays and failures, and checks after each event what must always hold. In the
//! end the faults stop, and everything must have been handled.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Assigned, Assignment, Assignments};
use model::{
    Ending, Exit, Given, InstanceId, InstanceResource, Phase, Piece, ResourceId, Spec, Status,
    Timestamp,
};
use muster_agent::core::{Core, Effect, Event, Memory, Outcome};
use muster_agent::drivers::{DriverEvent, Found, Kind};
use proptest::prelude::*;
use serde_json::json;

/// One move of the world against the core.
#[derive(Debug, Clone)]
enum Step {
    /// A whole document with these goals, by number of the instance.
    Whole(Vec<(u8, bool)>),
    /// A delta.
    Delta(Vec<(u8, bool)>, Vec<u8>),
    /// What the node owes is answered: the nth open debt, well or badly.
    Answer(usize, bool),
    /// The nth run that is there ends by itself.
    Exit(usize),
    /// Time passes.
    Pass(u64),
    /// The agent is killed and started again, with what it has persisted.
    Restart,
    /// The process driver goes away and comes back.
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
        8 => (0usize..8, prop::bool::weighted(0.7)).prop_map(|(n, well)| Step::Answer(n, well)),
        2 => (0usize..8).prop_map(Step::Exit),
        4 => (1u64..4000).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => Just(Step::Flap),
        1 => Just(Step::Connected),
    ]
}

/// Something that the node was asked for and has not answered.
#[derive(Debug, Clone)]
enum Debt {
    Start(Piece),
    Stop(Piece),
    Probe(Piece, muster_agent::core::CheckId),
    Report(u64),
}

struct World {
    core: Core,
    now: u64,
    memory: Memory,
    debts: Vec<Debt>,
    /// The runs that are there, of processes; what the driver would find.
    running: BTreeMap<InstanceId, u32>,
    /// Ended runs that the driver still knows of.
    ended: BTreeMap<InstanceId, (u32, Exit)>,
    wake_at: Option<Timestamp>,
    generation: u64,
    /// What a server wants, all documents taken together.
    wanted: BTreeMap<InstanceId, Assigned>,
    /// Instances that were ever told to stop.
    stopped: BTreeSet<InstanceId>,
    /// The highest run seen, and the phase then.
    seen: BTreeMap<InstanceId, (u32, Phase)>,
    /// What the reports that have arrived say.
    told: BTreeMap<InstanceId, Status>,
    whole_was_told: bool,
}

fn spec() -> Arc<Spec> {
    let document = json!({
        "service": "/a", "process": {"command": "x"}, "ports": [{}],
        "health": [{"probe": {"tcp": {}}, "interval": "1s", "grace": "2s", "failures": 2}],
        "readiness": {"probe": {"tcp": {}}, "interval": "500ms"},
    });
    Arc::new(serde_json::from_value(document).unwrap())
}

fn id(number: u8) -> InstanceId {
    InstanceId::new("/a".parse().unwrap(), u32::from(number), 1)
}

fn piece(instance: &InstanceId, run: u32) -> Piece {
    Piece { instance: instance.clone(), resource: ResourceId::main(), run }
}

fn exit(at: u64) -> Exit {
    Exit { at: Timestamp(at), how: Ending::Code { code: 1 } }
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
            debts: Vec::new(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            wake_at: None,
            generation: 0,
            wanted: BTreeMap::new(),
            stopped: BTreeSet::new(),
            seen: BTreeMap::new(),
            told: BTreeMap::new(),
            whole_was_told: false,
        };
        world.adopt();
        world.handle(Event::Connected);
        world
    }

    fn found(&self) -> Vec<Found> {
        let found = |instance: &InstanceId, run: u32, exit: Option<Exit>| Found {
            piece: piece(instance, run),
            started_at: Timestamp(self.now),
            exit,
        };
        let running = self.running.iter().map(|(id, run)| found(id, *run, None));
        let ended = self.ended.iter().map(|(id, (run, exit))| found(id, *run, Some(exit.clone())));
        running.chain(ended).collect()
    }

    fn adopt(&mut self) {
        self.handle(Event::Adopted { driver: Kind::Process, found: self.found() });
        let message = "this node runs no containers".into();
        self.handle(Event::Away { driver: Kind::Docker, message });
    }

    fn handle(&mut self, event: Event) {
        let effects = self.core.handle(event, Timestamp(self.now));
        for effect in effects {
            match effect {
                Effect::Start(launch) => {
                    let instance = &launch.piece.instance;
                    assert!(!self.stopped.contains(instance), "started after a stop");
                    assert!(!self.running.contains_key(instance), "{instance} runs already");
                    let twice =
                        |debt: &Debt| matches!(debt, Debt::Start(s) if s.instance == *instance);
                    assert!(!self.debts.iter().any(twice), "a start is under way");
                    self.debts.push(Debt::Start(launch.piece));
                }
                Effect::Stop { piece, .. } => self.debts.push(Debt::Stop(piece)),
                Effect::Probe { launch, check, .. } => {
                    self.debts.push(Debt::Probe(launch.piece, check));
                }
                Effect::RemoveDirectory(instance) => {
                    assert!(!self.running.contains_key(&instance), "removed while it runs");
                }
                Effect::Forget { of: InstanceResource { instance, .. }, .. } => {
                    assert!(!self.running.contains_key(&instance), "forgotten while it runs");
                    self.ended.remove(&instance);
                    self.seen.remove(&instance);
                    // Gone for good: only now may the same id mean something new.
                    self.stopped.remove(&instance);
                }
                Effect::Persist(memory) => self.memory = memory,
                Effect::Report(report) => {
                    if report.whole {
                        self.told.clear();
                    }
                    self.told.extend(report.instances);
                    self.debts.push(Debt::Report(report.number));
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

    fn assignments(&self, goals: &[(u8, bool)]) -> Vec<Assignment> {
        // The server never takes back a stop, and never names an instance twice.
        let goals: BTreeMap<_, _> = goals.iter().copied().collect();
        let assignment = |(number, run): (u8, bool)| {
            let instance = id(number);
            let stop = !run || self.stopped.contains(&instance);
            Assignment {
                instance,
                revision: 1,
                goal: if stop { Assigned::Stop } else { Assigned::Run },
                given: Given { ports: vec![20000] },
                retries: 0,
                env: Default::default(),
                spec: spec(),
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
            self.whole_was_told = true;
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
            unreadable: vec![],
        }));
    }

    fn told(&mut self, told: DriverEvent) {
        self.handle(Event::Driver(told));
    }

    fn end(&mut self, instance: &InstanceId) {
        if let Some(run) = self.running.remove(instance) {
            let exit = exit(self.now);
            self.ended.insert(instance.clone(), (run, exit.clone()));
            self.told(DriverEvent::Exited { piece: piece(instance, run), exit });
        }
    }

    fn answer(&mut self, index: usize, well: bool) {
        if self.debts.is_empty() {
            return;
        }
        match self.debts.remove(index % self.debts.len()) {
            Debt::Start(piece) if well => {
                let Piece { instance, run, .. } = piece.clone();
                self.running.insert(instance.clone(), run);
                self.ended.remove(&instance);
                let at = Timestamp(self.now);
                self.told(DriverEvent::Started { piece, at });
            }
            Debt::Start(piece) => {
                let (message, driver_away) = ("no".into(), false);
                self.told(DriverEvent::NotStarted { piece, message, driver_away });
            }
            Debt::Stop(piece) => {
                let Piece { instance, run, .. } = piece.clone();
                let starting = |debt: &Debt| matches!(debt, Debt::Start(s) if *s == piece);
                if let Some(at) = self.debts.iter().position(starting) {
                    self.debts.remove(at);
                    let (message, driver_away) = ("given up".into(), false);
                    self.told(DriverEvent::NotStarted { piece, message, driver_away });
                } else if self.running.get(&instance) != Some(&run) {
                    // Of a run of before: nothing to stop.
                } else if well {
                    self.end(&instance);
                } // else it is lost: the core asks again
            }
            Debt::Probe(piece, check) => {
                let outcome = match (well, index % 2) {
                    (true, _) => Outcome::Pass,
                    (false, 0) => Outcome::Fail("no".into()),
                    (false, _) => Outcome::CannotRun("busy".into()),
                };
                self.handle(Event::Probed { piece, check, outcome });
            }
            Debt::Report(number) if well => {
                self.handle(Event::ReportSent { number, resync: false });
            }
            Debt::Report(number) => self.handle(Event::ReportFailed { number }),
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
            Step::Delta(goals, removed) if self.whole_was_told => {
                self.document(false, &goals, &removed);
            }
            Step::Delta(..) => {}
            Step::Answer(index, well) => self.answer(index, well),
            Step::Exit(index) => {
                let nth = index.checked_rem(self.running.len());
                let instance = nth.and_then(|nth| self.running.keys().nth(nth).cloned());
                if let Some(instance) = instance {
                    self.end(&instance);
                }
            }
            Step::Pass(span) => self.pass(span),
            Step::Restart => self.restart(),
            Step::Flap => {
                let driver = Kind::Process;
                self.handle(Event::Away { driver, message: "away".into() });
                self.pass(100);
                self.adopt();
            }
            Step::Connected => self.handle(Event::Connected),
        }
    }

    fn restart(&mut self) {
        // Starts that were asked for have happened or not, nobody was told; stops too.
        for debt in std::mem::take(&mut self.debts) {
            match debt {
                Debt::Start(Piece { instance, run, .. }) => {
                    self.ended.remove(&instance);
                    self.running.insert(instance, run);
                }
                Debt::Stop(Piece { instance, .. }) => {
                    if let Some(run) = self.running.remove(&instance) {
                        self.ended.insert(instance, (run, exit(self.now)));
                    }
                }
                Debt::Probe(..) | Debt::Report(_) => {}
            }
        }
        let node = "n1".parse().unwrap();
        self.core = Core::new(node, self.memory.clone(), Timestamp(self.now));
        // A new core may see an earlier phase of the same run before its driver has looked.
        self.seen.clear();
        self.wake_at = None;
        self.adopt();
        self.handle(Event::Connected);
    }

    /// No more faults: everything is answered well, and time passes.
    fn settle(&mut self) {
        self.generation += 1;
        let goals: Vec<_> = self
            .wanted
            .iter()
            .map(|(id, goal)| (u8::try_from(id.replica.slot).unwrap(), *goal == Assigned::Run))
            .collect();
        self.document(true, &goals, &[]);
        for _ in 0..150 {
            while !self.debts.is_empty() {
                self.answer(0, true);
            }
            self.pass(1000);
        }
        while !self.debts.is_empty() {
            self.answer(0, true);
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_rules_hold_and_in_the_end_all_is_handled(
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
            match goal {
                Assigned::Run => {
                    prop_assert_eq!(status.phase, Phase::Running, "{}: {:?}", id, status);
                    prop_assert_eq!((status.healthy, status.ready), (Some(true), true));
                    prop_assert_eq!(world.running.get(id), Some(&status.run));
                }
                Assigned::Stop => {
                    prop_assert_eq!(status.phase, Phase::Stopped, "{}: {:?}", id, status);
                    prop_assert!(!world.running.contains_key(id));
                }
            }
        }
        prop_assert_eq!(statuses.len(), world.wanted.len(), "nothing else is left");
        let told: BTreeMap<_, _> = world.told.iter().filter(|(id, _)| statuses.contains_key(*id))
            .map(|(id, status)| (id.clone(), (status.phase, status.run, status.healthy)))
            .collect();
        let is: BTreeMap<_, _> = statuses.iter()
            .map(|(id, status)| (id.clone(), (status.phase, status.run, status.healthy)))
            .collect();
        prop_assert_eq!(told, is, "the server knows all of it");
    }
}
