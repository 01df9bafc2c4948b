//! Events that may happen to a cluster, and a cluster that processes them, with a work queue that
//! is notified like that of a server.

use std::collections::BTreeMap;

use muster_planner::scenario::World;
use muster_planner::{Plan, WorkQueue};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::model::{
    AgentRegistration, Availability, Bytes, Changeset, Command, Cpu, Goal, InstanceId, Key, Millis,
    NodeId, PORTS, Phase, Resources, Status,
};
use super::{generate, oracle};

/// An event in the history of a cluster.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Join(NodeId, AgentRegistration),
    JoinGateway(NodeId),
    UserCommand(Command),
    Report(usize, ReportedStatus),
    Busy(NodeId, usize),
    Work,
    /// Everything works until no plan has steps.
    Rest,
    Tick(Millis),
    Lose(NodeId),
    Find(NodeId),
    ForgetAll,
    TellAll,
    Adopt,
    AdoptAll,
}

/// A status that an agent may report of an instance.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReportedStatus {
    Starting,
    Running,
    Well,
    Healthy,
    Unhealthy,
    Failed,
    Stopped,
}

/// Events that must not cause any step.
#[derive(Debug, Clone)]
pub(crate) enum Idle {
    Tick,
    Cordon(NodeId, bool),
    NewNode,
    ForgetAndTell,
    Repeat,
}

pub(crate) fn join() -> impl Strategy<Value = Event> {
    (generate::node(), generate::agent()).prop_map(|(node, agent)| Event::Join(node, agent))
}

fn reported_status() -> impl Strategy<Value = ReportedStatus> {
    prop::sample::select(vec![
        ReportedStatus::Starting,
        ReportedStatus::Running,
        ReportedStatus::Well,
        ReportedStatus::Well,
        ReportedStatus::Healthy,
        ReportedStatus::Unhealthy,
        ReportedStatus::Unhealthy,
        ReportedStatus::Failed,
        ReportedStatus::Stopped,
        ReportedStatus::Stopped,
    ])
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let spans = prop::sample::select(vec![0u64, 500, 1_000, 4_000, 15_000, 30_000, 61_000]);
    prop_oneof![
        2 => join(),
        1 => generate::node().prop_map(Event::JoinGateway),
        8 => generate::user_command().prop_map(Event::UserCommand),
        14 => (any::<usize>(), reported_status()).prop_map(|(nth, reported_status)| Event::Report(nth, reported_status)),
        1 => (generate::node(), any::<usize>()).prop_map(|(node, nth)| Event::Busy(node, nth)),
        6 => Just(Event::Work),
        4 => Just(Event::Rest),
        8 => spans.prop_map(|span| Event::Tick(Millis(span))),
        2 => generate::node().prop_map(Event::Lose),
        2 => generate::node().prop_map(Event::Find),
        1 => Just(Event::ForgetAll),
        2 => Just(Event::TellAll),
        6 => Just(Event::Adopt),
        10 => Just(Event::AdoptAll),
    ]
}

pub(crate) fn idle() -> impl Strategy<Value = Idle> {
    prop_oneof![
        4 => Just(Idle::Tick),
        2 => (generate::node(), any::<bool>()).prop_map(|(node, on)| Idle::Cordon(node, on)),
        1 => Just(Idle::NewNode),
        1 => Just(Idle::ForgetAndTell),
        2 => Just(Idle::Repeat),
    ]
}

pub(crate) fn big_agent() -> AgentRegistration {
    AgentRegistration {
        id: String::new(),
        port: 4041,
        capacity: Resources { cpu: Cpu(64_000), memory: Bytes::mib(65_536) },
        labels: BTreeMap::new(),
        capabilities: Default::default(),
        ports: PORTS,
        software: model::Software::current(),
    }
}

/// A cluster that processes events.
pub(crate) struct Run {
    pub(crate) world: World,
    work_queue: WorkQueue,
}

/// Maximum number of rounds of adoption; more than any plan needs.
const ROUNDS_MAX: usize = 40;

/// Maximum number of seconds of rest; more than most rollouts take.
const SETTLED_MAX: usize = 20;

impl Run {
    pub(crate) fn new() -> Run {
        Run { world: World::new(), work_queue: WorkQueue::everything() }
    }

    /// Processes an event and checks all properties.
    pub(crate) fn apply_event(&mut self, event: Event) -> Result<(), TestCaseError> {
        let shown = format!("{event:?}");
        let check = |error: TestCaseError| match error {
            TestCaseError::Fail(why) => TestCaseError::fail(format!("{why}\n after {shown}")),
            other => other,
        };
        match event {
            Event::Adopt => drop(self.adopt_checked().map_err(check)?),
            Event::AdoptAll => self.adopt_all_checked().map_err(check)?,
            other => self.apply_event_unchecked(other),
        }
        prop_assert_eq!(self.world.state.violations(), vec![], "after {}", shown);
        self.check_work_queue().map_err(check)?;
        oracle::holds_until_its_wake(&self.world).map_err(check)
    }

    pub(crate) fn apply_event_unchecked(&mut self, event: Event) {
        let outcome = match event {
            Event::Join(node, agent) => {
                self.work_queue.touch_all();
                let known = self.world.state.node(&node).is_some_and(|n| n.node.capacity.is_some());
                if known {
                    // A restarted agent reports to the server which instances still run.
                    let address = format!("{node}.example");
                    let agent = Some(agent);
                    let registration = super::model::Registration { node, address, agent };
                    self.world.apply(Command::Register(registration))
                } else {
                    self.world.join(&node, agent)
                }
            }
            Event::JoinGateway(node) => {
                self.work_queue.touch_all();
                self.world.join_gateway(&node)
            }
            Event::UserCommand(command) => self.world.apply(command),
            Event::Report(nth, reported_status) => {
                self.report(nth, reported_status);
                Ok(Changeset::default())
            }
            Event::Busy(node, nth) => {
                let instance = self.nth(nth);
                if let Some(gateway) = self.world.observed.gateways.get_mut(&node) {
                    gateway.busy = instance.into_iter().collect();
                }
                Ok(Changeset::default())
            }
            Event::Work => {
                self.work();
                Ok(Changeset::default())
            }
            Event::Rest => {
                self.rest();
                Ok(Changeset::default())
            }
            Event::Tick(span) => {
                self.world.tick(span);
                Ok(Changeset::default())
            }
            Event::Lose(node) => {
                self.world.lose(&node);
                Ok(Changeset::default())
            }
            Event::Find(node) => {
                self.work_queue.touch_all();
                self.world.find(&node);
                Ok(Changeset::default())
            }
            Event::ForgetAll => {
                self.work_queue.touch_all();
                self.world.drop_observations();
                Ok(Changeset::default())
            }
            Event::TellAll => {
                self.resync();
                Ok(Changeset::default())
            }
            Event::Adopt => {
                let plan = self.world.plan();
                self.adopt(&plan);
                Ok(Changeset::default())
            }
            Event::AdoptAll => {
                self.adopt_all();
                Ok(Changeset::default())
            }
        };
        if let Ok(applied) = outcome {
            self.touch(&applied);
        }
    }

    /// Puts the services that a change concerns on the work queue, as a server does.
    fn touch(&mut self, applied: &Changeset) {
        for key in &applied.changed {
            match key {
                Key::Service(id) | Key::Revision(id, _) => self.work_queue.touch(id),
                Key::Instance(id) => self.work_queue.touch(&id.service),
                Key::Node(id) => self.work_queue.touch_node(&self.world.state, id),
                Key::Deployment(id) => {
                    let deployment = self.world.state.deployment(*id);
                    for m in deployment.iter().flat_map(|deployment| &deployment.moves) {
                        self.work_queue.touch(&m.service);
                    }
                }
                Key::Gateway(_) => self.work_queue.touch_all(),
                Key::Bundle(..) | Key::Request(_) | Key::Meta | Key::Cluster => {}
            }
        }
    }

    fn resync(&mut self) {
        self.work_queue.touch_all();
        let nodes: Vec<_> = self.world.state.nodes().map(|node| node.id.clone()).collect();
        for node in nodes {
            if self.world.is_reporting(&node) {
                self.world.report_all(&node);
            }
        }
    }

    fn work(&mut self) {
        let services: Vec<_> = self.world.state.services().map(|s| s.id.clone()).collect();
        self.world.work();
        services.iter().for_each(|service| self.work_queue.touch(service));
    }

    fn rest(&mut self) {
        for _ in 0..SETTLED_MAX {
            let moves = !self.world.plan().steps.is_empty();
            self.adopt_all();
            self.work();
            self.world.tick(Millis::secs(1));
            if !moves {
                break;
            }
        }
    }

    fn nth(&self, nth: usize) -> Option<InstanceId> {
        let services = self.world.state.services();
        let all: Vec<_> = services
            .flat_map(|service| {
                let replicas = service.placements.keys();
                replicas
                    .map(|replica| InstanceId { service: service.id.clone(), replica: *replica })
            })
            .collect();
        (!all.is_empty()).then(|| all[nth % all.len()].clone())
    }

    /// Makes an agent report a status that is possible.
    fn report(&mut self, nth: usize, reported_status: ReportedStatus) {
        let Some(instance) = self.nth(nth) else { return };
        let goal = self.world.state.placement(&instance).map(|p| p.goal.clone());
        let mut status = self.world.status(&instance);
        if status.phase.is_over() {
            return;
        }
        let now = self.world.now;
        let run = |status: &mut Status| {
            if status.phase != Phase::Running {
                status.phase = Phase::Running;
                status.started_at = Some(now);
                status.healthy = None;
                status.ready = false;
            }
        };
        match reported_status {
            ReportedStatus::Starting => status.phase = Phase::Starting,
            ReportedStatus::Running => run(&mut status),
            ReportedStatus::Well => {
                run(&mut status);
                (status.healthy, status.ready) = (Some(true), true);
            }
            ReportedStatus::Healthy => {
                run(&mut status);
                status.healthy = Some(true);
            }
            ReportedStatus::Unhealthy => {
                run(&mut status);
                status.healthy = Some(false);
            }
            ReportedStatus::Failed => status.phase = Phase::Failed,
            ReportedStatus::Stopped if matches!(goal, Some(Goal::Stop { .. })) => {
                status.phase = Phase::Stopped;
            }
            ReportedStatus::Stopped => return,
        }
        self.work_queue.touch(&instance.service);
        self.world.report(&instance, status);
    }

    fn adopt(&mut self, plan: &Plan) {
        for step in &plan.steps {
            self.work_queue.touch(step.service());
            if let Ok(applied) = self.world.apply(Command::Adopt(step.clone())) {
                self.touch(&applied);
            }
        }
        self.world.tick(Millis(0));
    }

    fn adopt_all(&mut self) -> bool {
        for _ in 0..ROUNDS_MAX {
            let plan = self.world.plan();
            if plan.steps.is_empty() {
                return true;
            }
            self.adopt(&plan);
        }
        false
    }

    /// Checks every property of one plan and adopts it.
    fn adopt_checked(&mut self) -> Result<Plan, TestCaseError> {
        let plan = self.world.plan();
        prop_assert_eq!(&plan, &self.world.plan(), "planning twice differs");
        prop_assert!(plan.wake_at.is_none_or(|at| at > self.world.now), "a wake in the past");
        let before = self.world.clone();
        let mut checked = self.world.clone();
        for step in &plan.steps {
            oracle::may_be_placed(&checked, step)?;
            let outcome = checked.apply(Command::Adopt(step.clone()));
            prop_assert!(outcome.is_ok(), "{:?} was refused: {:?}", step, outcome);
        }
        // One plan contains all consequences of an observation, except those that its adoption
        // enables.
        let next = checked.plan().steps;
        prop_assert!(
            next.is_empty() || oracle::opens_up(&plan),
            "adopted {:?}\n but then {:?}",
            plan,
            next
        );
        self.adopt(&plan);
        oracle::keeps_within_the_budget(&before, &self.world)?;
        oracle::only_advances(&before, &self.world)?;
        Ok(plan)
    }

    fn adopt_all_checked(&mut self) -> Result<(), TestCaseError> {
        for round in 0.. {
            prop_assert!(round < ROUNDS_MAX, "planning does not end: {:?}", self.world.plan());
            let plan = self.adopt_checked()?;
            if plan.steps.is_empty() {
                break;
            }
        }
        oracle::every_open_slot_waits(&self.world)
    }

    /// The work queue returns the same plan as planning all services.
    fn check_work_queue(&mut self) -> Result<(), TestCaseError> {
        let World { state, observed, now, .. } = &self.world;
        let planned = self.work_queue.plan(state, observed, *now);
        let everything = self.world.plan();
        prop_assert_eq!(&planned.steps, &everything.steps);
        prop_assert_eq!(&planned.waits, &everything.waits);
        // It may request an earlier wake-up, but never a later one.
        let wakes = (planned.wake_at, everything.wake_at);
        prop_assert!(wakes.0 == wakes.1 || wakes.0.is_some_and(|at| at > *now), "{:?}", wakes);
        if let (at, Some(wanted)) = wakes {
            prop_assert!(at.is_some_and(|at| at <= wanted), "{:?}", wakes);
        }
        // The steps were not adopted.
        planned.steps.iter().for_each(|step| self.work_queue.touch(step.service()));
        Ok(())
    }

    /// Ends all faults: nodes return, gateways finish their requests, started instances work. Time
    /// advances until no plan has steps.
    pub(crate) fn heal(&mut self) {
        let nodes: Vec<_> = self.world.state.nodes().map(|node| node.id.clone()).collect();
        nodes.iter().for_each(|node| self.world.find(node));
        self.world.observed.gateways.values_mut().for_each(|gateway| gateway.busy.clear());
        let mut idle = 0;
        for _ in 0..2_000 {
            let mut moved = !self.world.plan().steps.is_empty();
            self.adopt_all();
            moved |= self.make_healthy();
            moved |= self.world.work();
            idle = if moved { 0 } else { idle + 1 };
            if idle > 400 {
                break;
            }
            self.world.tick(Millis::secs(1));
        }
    }

    /// Lets more time pass than the deadlines of all deployments, one after the other, without
    /// repairing anything.
    pub(crate) fn pass_deadlines(&mut self) {
        for _ in 0..100 {
            self.adopt_all();
            self.world.work();
            self.world.tick(Millis::secs(11 * 60));
        }
        self.adopt_all();
    }

    /// Makes unhealthy instances healthy.
    fn make_healthy(&mut self) -> bool {
        let services = self.world.state.services();
        let all = services.flat_map(|service| {
            let replicas = service.placements.keys();
            replicas.map(|replica| InstanceId { service: service.id.clone(), replica: *replica })
        });
        let mut moved = false;
        for instance in all.collect::<Vec<_>>() {
            let mut status = self.world.status(&instance);
            if status.healthy == Some(false) {
                status.healthy = Some(true);
                self.world.report(&instance, status);
                moved = true;
            }
        }
        moved
    }

    pub(crate) fn idle(&mut self, idle: Idle) {
        let outcome = match idle {
            Idle::Tick => {
                self.world.tick(Millis::secs(10));
                return;
            }
            Idle::Cordon(node, on) => {
                let known = self.world.state.node(&node).map(|n| n.node.availability);
                if known.is_none_or(|availability| availability == Availability::Draining) {
                    return;
                }
                let availability = if on { Availability::Cordoned } else { Availability::Active };
                // A service that waits for capacity may be placed if there is more.
                if !self.world.plan().waits.is_empty() {
                    return;
                }
                self.world.apply(Command::SetAvailability { node, availability })
            }
            Idle::NewNode => {
                if !self.world.plan().waits.is_empty() {
                    return;
                }
                self.world.join(&"n9".parse().unwrap(), big_agent())
            }
            Idle::ForgetAndTell => {
                self.world.drop_observations();
                self.resync();
                return;
            }
            Idle::Repeat => {
                let services: Vec<_> = self.world.state.services().cloned().collect();
                for service in services.iter().filter(|service| service.deployment.is_none()) {
                    let spec = super::model::Spec::clone(service.spec());
                    let document = super::model::Document::service(spec);
                    drop(self.world.apply(Command::Apply(vec![document])));
                }
                return;
            }
        };
        drop(outcome);
    }
}
