//! Simulates a plan until it completes, on the assumption that every step succeeds.

use model::{
    Agent, Goal, InstanceId, Observed, Pause, PauseReport, Phase, Proposal, ServiceId, State,
    Status, Step, Timestamp, Wait,
};

use crate::plan;

/// The steps of a simulated plan, and the waits that are left.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DryRun {
    /// Waves of steps that are adopted together, each after the previous wave has succeeded.
    pub waves: Vec<Vec<Step>>,
    /// The waits of services that are left at the end.
    pub waits: Vec<(ServiceId, Wait)>,
}

/// More rounds than any rollout needs: each instance takes a few.
const ROUNDS_MAX: usize = 10_000;

/// Simulates from `state` and `observed`: started instances become ready, stopping ones terminate,
/// and gateways follow the routes.
pub fn dry_run(mut state: State, mut observed: Observed, mut now: Timestamp) -> DryRun {
    let mut dry_run = DryRun::default();
    for _ in 0..ROUNDS_MAX {
        assume_all_reported(&state, &mut observed, now);
        let plan = plan(&state, &observed, now);
        dry_run.waits = plan.waits;
        let mut wave = Vec::new();
        for step in plan.steps {
            if state.apply(Proposal::step(step.clone()), now).is_ok() {
                wave.push(step);
            }
        }
        let has_progressed = assume_success(&state, &mut observed, now);
        if wave.is_empty() && !has_progressed {
            match later(&dry_run.waits) {
                Some(at) => now = at,
                None => break,
            }
        }
        // Progress is internal and not shown.
        wave.retain(|step| !matches!(step, Step::Progress { .. }));
        if !wave.is_empty() {
            dry_run.waves.push(wave);
        }
    }
    dry_run
}

/// When a wait ends by the passage of time: the back-off after failures.
fn later(waits: &[(ServiceId, Wait)]) -> Option<Timestamp> {
    let ends = waits.iter().filter_map(|(_, wait)| match wait {
        Wait::BackOff { until } => Some(*until),
        _ => None,
    });
    ends.min()
}

/// Agents and gateways that are not overdue count as up to date: the dry run shows the plan for the
/// cluster once they have reported.
fn assume_all_reported(state: &State, observed: &mut Observed, now: Timestamp) {
    for node in state.nodes() {
        if node.capacity.is_some() && !observed.is_lost(&node.id, now) {
            let agent = Agent { seen_at: now, synced: true };
            observed.agents.insert(node.id.clone(), agent);
        }
        if node.gateway {
            let answers = observed.gateway_responds(&node.id, now);
            let gateway = observed.gateways.entry(node.id.clone()).or_default();
            if answers {
                gateway.seen_at = now;
            }
        }
    }
}

/// Moves every instance to its goal; returns whether that changed anything.
fn assume_success(state: &State, observed: &mut Observed, now: Timestamp) -> bool {
    let mut changed = false;
    for service in state.services() {
        for (replica, placement) in &service.placements {
            let known = observed.status(&service.id, *replica);
            let spec = service.running_spec(placement.revision);
            let next = match (&placement.goal, &placement.pause) {
                (Goal::Run, Some(Pause::Suspend)) => {
                    let unstarted = || Status::new(Phase::Starting, now);
                    let mut status = known.cloned().unwrap_or_else(unstarted);
                    if status.pause.replace(PauseReport::Suspended).is_some() {
                        continue;
                    }
                    status
                }
                (Goal::Run, None) => {
                    let is_ready =
                        |status: &Status| status.ready_at(spec).is_some_and(|at| at <= now);
                    if known.is_some_and(|status| is_ready(status) || status.is_unhealthy(spec)) {
                        continue;
                    }
                    let mut status = Status::new(Phase::Running, now);
                    status.started_at =
                        Some(Timestamp(now.0.saturating_sub(spec.rollout.min_ready.0)));
                    status.healthy = Some(true);
                    status.ready = true;
                    status
                }
                (Goal::Drain { .. }, _) | (Goal::Run, Some(Pause::Drain { .. })) => {
                    let id = InstanceId { service: service.id.clone(), replica: *replica };
                    let drained = observed.published.left.insert(id.clone(), 0) != Some(0);
                    observed.published.present.remove(&id);
                    observed.gateways.values_mut().for_each(|gateway| {
                        gateway.busy.remove(&id);
                    });
                    changed |= drained;
                    continue;
                }
                // The next plan reaps it.
                (Goal::Stop { .. }, _) => Status::new(Phase::Stopped, now),
            };
            observed
                .set_status(&InstanceId { service: service.id.clone(), replica: *replica }, next);
            changed = true;
        }
    }
    changed
}
