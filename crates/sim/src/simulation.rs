//! One simulation: takes one event after the other, passes it to the process that it concerns, and
//! checks the invariants after each.

use std::collections::{BTreeMap, BTreeSet};

use model::{NodeId, Piece, ServiceId};

use crate::bug::InjectedBug;
use crate::cluster::{Cluster, node_id};
use crate::environment::Environment;
use crate::event::SimEvent;
use crate::history::History;
use crate::inject::{self, Injector};
use crate::invariants::{Checkers, convergence};
use crate::network::Network;
use crate::process::Process;
use crate::scheduler::Scheduler;
use crate::settings::Settings;
use crate::transport::Transport;
use crate::violation::Violation;

/// The end of a simulation.
pub(crate) enum Outcome {
    /// The cluster has converged, and no invariant was violated.
    Held,
    Violated(Violation),
}

/// How far the check of convergence has come.
enum Stage {
    /// The cluster has not converged yet.
    Converging,
    /// It has, with these runs, and the server was restarted since: nothing may change.
    Restarted(BTreeMap<ServiceId, BTreeSet<(NodeId, Piece)>>),
}

/// A cluster and everything around it.
pub(crate) struct Simulation {
    pub(crate) env: Environment,
    pub(crate) cluster: Cluster,
    pub(crate) checkers: Checkers,
    pub(crate) injector: Injector,
    stage: Stage,
    /// When the cluster must have converged.
    deadline: u64,
}

const CONVERGES: &str = "the cluster converges";
const ENDS: &str = "every deployment ends or waits for a user";

impl Simulation {
    /// The cluster of a seed, before anything has happened.
    pub(crate) fn new(
        seed: u64,
        settings: &Settings,
        bug: Option<InjectedBug>,
        print: Option<fn(&str)>,
    ) -> Simulation {
        let mut rng = fastrand::Rng::with_seed(seed);
        let cluster = Cluster::new(settings, &mut rng);
        let mut scheduler = Scheduler::new(rng);
        scheduler.after(0, SimEvent::Start(Process::Server));
        for number in 1..=settings.nodes {
            for process in [Process::Agent(node_id(number)), Process::Gateway(node_id(number))] {
                let span = scheduler.rng.u64(1..500);
                scheduler.after(span, SimEvent::Start(process));
            }
        }
        scheduler.after(2_000, SimEvent::UserActs);
        scheduler.after(10_000, SimEvent::FaultBegins);
        scheduler.after(settings.fault_phase_ms, SimEvent::Heal);
        let env = Environment {
            scheduler,
            transport: Transport::new(Network::new(settings.latency_ms)),
            history: History::new(print),
            observations: Vec::new(),
            bug,
            healed: false,
            wrong_terms: BTreeSet::new(),
        };
        let Settings { faults, fault_interval_ms, outages, .. } = settings;
        Simulation {
            env,
            cluster,
            checkers: Checkers::default(),
            injector: Injector::new(faults, *fault_interval_ms, outages),
            stage: Stage::Converging,
            deadline: settings.fault_phase_ms + convergence::TIMEOUT_MS,
        }
    }

    /// Takes the next event. Returns the verdict with the last one.
    pub(crate) fn step(&mut self) -> Option<Outcome> {
        let Some(event) = self.env.scheduler.next() else {
            return Some(self.violated(Violation::new(CONVERGES, "no event is left".into())));
        };
        let verdict = event.and_then(|event| self.dispatch(event));
        for observation in std::mem::take(&mut self.env.observations) {
            let violations = self.checkers.check(&self.cluster, observation);
            if let Some(violation) = violations.into_iter().next() {
                return Some(self.violated(violation));
            }
        }
        verdict
    }

    /// Ends the simulation because of a violation.
    pub(crate) fn violated(&mut self, violation: Violation) -> Outcome {
        let Violation { invariant, detail } = &violation;
        self.env.note(format_args!("VIOLATED {invariant}: {detail}"));
        Outcome::Violated(violation)
    }

    fn dispatch(&mut self, event: SimEvent) -> Option<Outcome> {
        let Simulation { env, cluster, injector, .. } = self;
        match event {
            SimEvent::Request { from, rpc, call } => cluster.request(env, from, rpc, call),
            SimEvent::Response { rpc, reply } => {
                if let Some(caller) = env.transport.receive(&mut env.scheduler, rpc, &reply) {
                    cluster.response(env, caller, reply);
                }
            }
            SimEvent::Line(conn) => {
                if let Some(delivery) = env.transport.next_line(&mut env.scheduler, conn) {
                    cluster.line(env, conn, delivery);
                }
            }
            SimEvent::Start(process) => cluster.start(env, &process),
            SimEvent::Server(incarnation, event) => {
                cluster.present_server().handle(env, incarnation, event);
            }
            SimEvent::Agent(node, incarnation, event) => {
                cluster.agent(env, &node, incarnation, event);
            }
            SimEvent::Machine(node, event) => cluster.machine(env, &node, event),
            SimEvent::Gateway(node, incarnation, event) => {
                cluster.gateway(env, &node, incarnation, event);
            }
            SimEvent::UserActs => cluster.user_acts(env),
            SimEvent::FaultBegins => injector.inject(env, cluster),
            SimEvent::FaultEnds(end) => inject::end(env, cluster, end),
            SimEvent::Heal => {
                injector.heal(env, cluster);
                env.after(convergence::FIRST_CHECK_MS, SimEvent::CheckConvergence);
            }
            SimEvent::CheckConvergence => return self.check_convergence(),
        }
        None
    }

    /// Checks whether the cluster has converged. Once it has, the server is restarted, which must
    /// not change anything.
    fn check_convergence(&mut self) -> Option<Outcome> {
        let now = self.env.now();
        let mut differences = convergence::endless(&self.cluster);
        if !differences.is_empty() && now > self.deadline {
            let detail = differences.join("\n    ");
            return Some(self.violated(Violation::new(ENDS, detail)));
        }
        differences.extend(convergence::differences(&self.cluster, now));
        if !differences.is_empty() && now > self.deadline {
            let detail = differences.join("\n    ");
            return Some(self.violated(Violation::new(CONVERGES, detail)));
        }
        self.env.after(convergence::INTERVAL_MS, SimEvent::CheckConvergence);
        if !differences.is_empty() {
            return None;
        }
        let settled = convergence::settled(&self.cluster);
        match &self.stage {
            Stage::Converging => {
                self.env.note("the cluster has converged");
                self.deadline = now + convergence::TIMEOUT_MS;
                self.cluster.stop(&mut self.env, &Process::Server, "is restarted");
                self.env.after(1, SimEvent::Start(Process::Server));
                self.stage = Stage::Restarted(settled);
                None
            }
            Stage::Restarted(before) => {
                // A service that has begun to wait for something is not compared.
                let changed = before.iter().find_map(|(service, before)| {
                    let after = settled.get(service)?;
                    (before != after).then(|| format!("{service}: {before:?}, then {after:?}"))
                });
                let name = "a restart of the server changes nothing";
                Some(match changed {
                    None => Outcome::Held,
                    Some(detail) => self.violated(Violation::new(name, detail)),
                })
            }
        }
    }
}
