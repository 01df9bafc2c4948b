//! The state machine of one resource of an instance on its node. Methods apply events, and
//! [`PieceLife::step`] returns the effects that follow. Stepping is idempotent.
//!
//! Phases only go forward within a run. When a run ends by itself, the next one follows by the
//! restart policy of the resource. A task ends for good: completed, or failed after its retries. A
//! resource whose stop was requested never starts again.

mod pausing;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Assignment;
use model::{
    Ending, Exit, InstanceResource, Millis, Phase, Piece, ResourceId, ResourceStatus, Signal, Spec,
    Status, Stop, Timestamp,
};

use super::checks::{CheckId, Checks, Outcome};
use super::files::StaleFiles;
use super::suspension::Suspension;
use super::{Effect, LaunchSpec};
use crate::drivers::{Found, Kind};

/// The stop is requested again this long after its grace period.
const STOP_AGAIN: Millis = Millis::secs(5);
/// The wait before a start is retried because its driver was unavailable.
const UNAVAILABLE_RETRY: Millis = Millis::secs(1);

/// The state of a resource between two events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its driver has not yet reported whether it runs.
    Unknown,
    /// It starts at that time, or later if the resources before it are not up.
    Waiting(Timestamp),
    /// Its start is in progress.
    Starting,
    /// It runs.
    Running,
    /// Its stop is in progress; the request is repeated at that time.
    Stopping(Timestamp),
    /// It has ended for good.
    Over,
}

/// What is desired of a resource.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    /// The service reduced to this resource.
    pub(super) spec: Arc<Spec>,
    /// The index of its first port among those of the instance.
    pub(super) first_port: usize,
    /// Whether it is a task, which runs until it completes.
    pub(super) is_task: bool,
    /// How often a failed task is run again.
    pub(super) retries: u32,
    /// Whether the instance can run without it.
    pub(super) optional: bool,
    /// Whether the instance fails once a run of it has ended by itself.
    pub(super) monitor: bool,
    /// Consecutive resources of the same subset start and stop together.
    pub(super) subset: Option<String>,
    /// Whether its instance has a stack. A start that fails is then final, and the instance rolls
    /// back; without a stack there is nothing to roll back, and the start is retried.
    pub(super) in_stack: bool,
}

/// One resource of an instance on this node.
#[derive(Debug, Clone)]
pub(super) struct PieceLife {
    of: InstanceResource,
    driver: Kind,
    /// `None` for a resource that a driver found and no assignment contains.
    desired: Option<Desired>,
    /// Its stop was requested. Never reset.
    leaving: bool,
    /// Its driver was unavailable at some time since its last report.
    unsure: bool,
    /// It starts only once the resources before it are up: it has not run yet, or its runs were
    /// lost together with those of the whole instance.
    in_order: bool,
    stage: Stage,
    status: Status,
    checks: Checks,
    files: StaleFiles,
    suspension: Suspension,
}

impl PieceLife {
    /// A resource of an assigned instance; `known` is its status before a restart of the agent.
    pub(super) fn new(
        of: InstanceResource,
        desired: Desired,
        known: Option<Status>,
        now: Timestamp,
    ) -> Self {
        let stage = match known.as_ref().map(|status| status.phase) {
            Some(Phase::Failed | Phase::Completed) => Stage::Over,
            Some(_) => Stage::Unknown,
            None => Stage::Waiting(now),
        };
        let fresh = || Status { run: 1, ..Status::new(Phase::Starting, now) };
        Self {
            of,
            driver: Kind::of(&desired.spec),
            desired: Some(desired),
            leaving: false,
            unsure: false,
            in_order: known.is_none(),
            stage,
            status: known.unwrap_or_else(fresh),
            checks: Checks::idle(),
            files: StaleFiles::default(),
            suspension: Suspension::new(false),
        }
    }

    /// A run that a driver found and no assignment contains.
    pub(super) fn found(driver: Kind, found: &Found, now: Timestamp) -> Self {
        let mut piece = Self {
            of: found.piece.of(),
            driver,
            desired: None,
            leaving: false,
            unsure: false,
            in_order: false,
            stage: Stage::Running,
            status: Status { run: found.piece.run, ..Status::new(Phase::Running, now) },
            checks: Checks::idle(),
            files: StaleFiles::default(),
            suspension: Suspension::new(found.suspended),
        };
        piece.status.started_at = Some(found.started_at);
        if let Some(exit) = &found.exit {
            piece.status.last_exit = Some(Box::new(exit.clone()));
            piece.over(Phase::Stopped, now, None);
        }
        piece
    }

    pub(super) fn of(&self) -> &InstanceResource {
        &self.of
    }

    pub(super) fn name(&self) -> &ResourceId {
        &self.of.resource
    }

    pub(super) fn driver(&self) -> Kind {
        self.driver
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    pub(super) fn desired(&self) -> Option<&Desired> {
        self.desired.as_ref()
    }

    pub(super) fn resource_status(&self) -> ResourceStatus {
        let status = &self.status;
        ResourceStatus {
            name: self.of.resource.clone(),
            phase: status.phase,
            run: status.run,
            failures: status.failures,
            healthy: status.healthy,
            ready: status.ready,
            checks: status.checks.clone(),
            last_exit: status.last_exit.as_deref().cloned(),
            message: status.message.clone(),
            retry_after: status.retry_after,
        }
    }

    pub(super) fn is_optional(&self) -> bool {
        self.desired.as_ref().is_some_and(|desired| desired.optional)
    }

    /// Whether it starts next and is not known to have run here.
    pub(super) fn is_new(&self) -> bool {
        let waits = matches!(self.stage, Stage::Waiting(_)) && !self.leaving;
        waits && self.status.last_exit.is_none()
    }

    /// Whether one of its runs has ended, or has left no trace.
    pub(super) fn has_ended_once(&self) -> bool {
        self.status.run > 1 || self.status.last_exit.is_some()
    }

    /// Whether it has, or may have, a process or container.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Starting | Stage::Running | Stage::Stopping(_))
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether the resources after it in the stack may start.
    pub(super) fn is_up(&self) -> bool {
        match self.stage {
            Stage::Over => self.status.phase == Phase::Completed || self.is_optional(),
            Stage::Running => self.checks.ready() && !self.is_task(),
            _ => self.is_optional() && self.status.failures > 0,
        }
    }

    /// Whether it has failed for good and the instance requires it.
    pub(super) fn has_failed_instance(&self) -> bool {
        let has_failed = self.stage == Stage::Over && self.status.phase == Phase::Failed;
        has_failed && (self.is_monitored() || !self.is_optional())
    }

    fn is_monitored(&self) -> bool {
        self.desired.as_ref().is_some_and(|desired| desired.monitor)
    }

    fn is_task(&self) -> bool {
        self.desired.as_ref().is_some_and(|desired| desired.is_task)
    }

    fn spec(&self) -> Option<&Spec> {
        self.desired.as_ref().map(|desired| desired.spec.as_ref())
    }

    /// Applies a new or changed assignment of its instance.
    pub(super) fn assign(&mut self, desired: Desired, retry: bool, now: Timestamp) {
        match &self.desired {
            Some(before) => {
                self.checks.change(&before.spec, &desired.spec, now);
                if matches!(self.stage, Stage::Unknown | Stage::Starting | Stage::Running) {
                    self.files.change(&before.spec.files, &desired.spec.files);
                }
                if retry {
                    self.status.failures = 0;
                    if let Stage::Waiting(until) = self.stage {
                        self.stage = Stage::Waiting(until.min(now));
                    }
                }
            }
            None if self.stage == Stage::Running => {
                let started_at = self.status.started_at.unwrap_or(now);
                self.checks.resume(&desired.spec, started_at, &[], false, now);
            }
            None => {}
        }
        let was_unknown = self.desired.replace(desired).is_none();
        self.copy_verdicts();
        if was_unknown && self.stage == Stage::Over && !self.leaving {
            // Its run had ended before the assignment that continues it arrived.
            match self.status.last_exit.take() {
                Some(exit) => self.ended_by_itself(*exit, now, now),
                None => self.next_run(self.status.run.saturating_add(1), now, now, None),
            }
        }
    }

    /// Requests its stop; it must never start again.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Records that its driver is unavailable: its known state may be outdated.
    pub(super) fn driver_became_unavailable(&mut self) {
        // The driver itself will report the result of a start in progress.
        let stood = matches!(self.stage, Stage::Running | Stage::Stopping(_));
        self.unsure |= stood && self.status.started_at.is_some();
    }

    /// Applies the list of runs of its driver: `found` is the run of this resource, if there is
    /// one.
    pub(super) fn apply_listing(&mut self, found: Option<&Found>, now: Timestamp) {
        if matches!(self.stage, Stage::Waiting(_)) {
            self.unsure = false;
        }
        match (self.stage, found) {
            (Stage::Unknown, Some(found)) if found.exit.is_none() => self.adopt(found, now),
            (Stage::Unknown | Stage::Waiting(_), Some(found))
                if found.piece.run >= self.status.run =>
            {
                self.adopt(found, now);
            }
            (Stage::Unknown, _) => {
                // Its run has left no trace. A run number is never used twice.
                self.in_order = true;
                let run = self.status.run.saturating_add(1);
                self.next_run(run, now, now, None);
            }
            (Stage::Running | Stage::Stopping(_), Some(found))
                if found.piece.run == self.status.run =>
            {
                self.unsure = false;
                if let Some(exit) = &found.exit {
                    self.exited(found.piece.run, exit.clone(), now);
                }
            }
            (Stage::Running | Stage::Stopping(_), None) if self.unsure => {
                let absent = self.driver.capability().into();
                let exit = Exit { at: now, how: Ending::Unseen { absent } };
                self.exited(self.status.run, exit, now);
            }
            _ => {}
        }
    }

    /// Continues a run that started before the agent.
    fn adopt(&mut self, found: &Found, now: Timestamp) {
        let run = found.piece.run;
        let known = (self.status.run == run).then(|| self.status.clone());
        self.stage = Stage::Running;
        self.in_order = false;
        self.status.run = run;
        self.status.started_at = Some(found.started_at);
        self.enter(Phase::Running, found.started_at, None);
        if let Some(desired) = &self.desired {
            let (results, ready) = match &known {
                Some(known) => (known.checks.as_slice(), known.ready),
                None => (&[][..], false),
            };
            self.checks.resume(&desired.spec, found.started_at, results, ready, now);
        }
        self.suspension = Suspension::new(found.suspended);
        if found.suspended {
            self.checks.end();
        }
        self.copy_verdicts();
        if let Some(exit) = &found.exit {
            self.exited(run, exit.clone(), now);
        }
    }

    /// Records that a run has started.
    pub(super) fn started(&mut self, run: u32, at: Timestamp, now: Timestamp) {
        if run != self.status.run {
            return;
        }
        self.unsure = false;
        match self.stage {
            Stage::Starting => {
                self.stage = Stage::Running;
                self.suspension = Suspension::new(false);
                self.in_order = false;
                self.enter(Phase::Running, now, None);
                self.status.started_at = Some(at);
                if let Some(desired) = &self.desired {
                    self.checks.begin(&desired.spec, now);
                }
                self.copy_verdicts();
            }
            Stage::Stopping(_) => self.status.started_at = Some(at),
            Stage::Unknown | Stage::Waiting(_) | Stage::Running | Stage::Over => {}
        }
    }

    /// Records the progress message of a start that takes long.
    pub(super) fn preparing(&mut self, run: u32, message: String) {
        if self.stage == Stage::Starting && run == self.status.run {
            self.explain(Some(message));
        }
    }

    /// Records that a run could not start.
    pub(super) fn not_started(
        &mut self,
        run: u32,
        message: String,
        unavailable: bool,
        now: Timestamp,
    ) {
        if run != self.status.run {
            return;
        }
        match self.stage {
            Stage::Starting if unavailable => {
                // The run may have started nevertheless, so the driver must list its runs first.
                self.unsure = true;
                self.stage = Stage::Waiting(now.after(UNAVAILABLE_RETRY));
                self.explain(Some(message));
            }
            Stage::Starting => {
                let delay = self.failed();
                match self.is_final_failure() {
                    true => self.over(Phase::Failed, now, Some(message)),
                    false => {
                        let run = run.saturating_add(1);
                        self.next_run(run, now, now.after(delay), Some(message));
                        self.status.retry_after = Some(delay).filter(|delay| delay.0 > 0);
                    }
                }
            }
            Stage::Stopping(_) => self.over(Phase::Stopped, now, None),
            Stage::Unknown | Stage::Waiting(_) | Stage::Running | Stage::Over => {}
        }
    }

    /// Whether a start that just failed is not repeated.
    fn is_final_failure(&self) -> bool {
        self.desired.as_ref().is_some_and(|desired| match desired.is_task {
            true => self.status.failures > desired.retries,
            false if self.in_order => desired.in_stack && !desired.optional,
            false => desired.monitor,
        })
    }

    /// Records that a run cannot start on this node. The resource has ended for good, since the
    /// server replaces its instance.
    pub(super) fn misplaced(&mut self, run: u32, message: String, now: Timestamp) {
        if run != self.status.run {
            return;
        }
        match self.stage {
            Stage::Starting if !self.leaving => self.over(Phase::Failed, now, Some(message)),
            Stage::Starting | Stage::Stopping(_) => self.over(Phase::Stopped, now, None),
            Stage::Unknown | Stage::Waiting(_) | Stage::Running | Stage::Over => {}
        }
    }

    /// Records that a run has ended.
    pub(super) fn exited(&mut self, run: u32, exit: Exit, now: Timestamp) {
        if run != self.status.run {
            return;
        }
        match self.stage {
            Stage::Starting | Stage::Running if !self.leaving && self.desired.is_some() => {
                let until = exit.at.min(now);
                self.ended_by_itself(exit, until, now);
            }
            Stage::Starting | Stage::Running | Stage::Stopping(_) => {
                self.status.last_exit = Some(Box::new(exit));
                self.over(Phase::Stopped, now, None);
            }
            Stage::Unknown | Stage::Waiting(_) | Stage::Over => {}
        }
    }

    /// Handles a run that ended by itself; the restart delay counts from `delay_from`.
    fn ended_by_itself(&mut self, exit: Exit, delay_from: Timestamp, now: Timestamp) {
        let run = self.status.run;
        let completed = self.is_task() && exit.code() == Some(0);
        let ran = self.status.started_at.map_or(Millis(0), |at| exit.at.since(at));
        let message = exit.to_string();
        self.status.last_exit = Some(Box::new(exit));
        if completed {
            return self.over(Phase::Completed, now, None);
        }
        let reset_after = self.spec().map(|spec| spec.restart.reset_after);
        if !self.is_task() && reset_after.is_some_and(|reset_after| ran >= reset_after) {
            self.status.failures = 0;
        }
        let delay = self.failed();
        if (self.is_task() || self.is_monitored()) && self.is_final_failure() {
            return self.over(Phase::Failed, now, Some(message));
        }
        self.next_run(run.saturating_add(1), now, delay_from.after(delay), Some(message));
        self.status.retry_after = Some(delay).filter(|delay| delay.0 > 0);
    }

    /// Applies the outcome of a probe.
    pub(super) fn probed(&mut self, run: u32, check: CheckId, outcome: Outcome, now: Timestamp) {
        if run != self.status.run || self.stage != Stage::Running {
            return;
        }
        if let Some(desired) = &self.desired {
            self.checks.probed(check, outcome, &desired.spec, now);
        }
        self.copy_verdicts();
    }

    /// Applies the outcome of an update of its files.
    pub(super) fn files_updated(&mut self, run: u32, outcome: Result<(), String>, now: Timestamp) {
        if run == self.status.run
            && let Some(desired) = &self.desired
        {
            self.files.done(outcome, &desired.spec.restart, now);
            self.copy_verdicts();
        }
    }

    /// The paths of its files that are not yet as desired.
    pub(super) fn stale_files(&self) -> BTreeSet<String> {
        self.files.unfinished()
    }

    /// Restores the stale files that an earlier agent knew of.
    pub(super) fn restore_stale_files(&mut self, paths: BTreeSet<String>) {
        self.files = StaleFiles::restored(paths);
    }

    /// Performs the steps that are due; returns when it must be stepped again.
    ///
    /// `unavailable` is why its driver is unavailable, if it is. `held` is why it must not start,
    /// if it must not; `order` is the same for a resource that has not run yet.
    pub(super) fn step(
        &mut self,
        assignment: Option<&Assignment>,
        unavailable: Option<&str>,
        held: Option<&str>,
        order: Option<&str>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Option<Timestamp> {
        match self.stage {
            // Its driver has not listed it yet, for example because Docker does not respond. An
            // instance that was reported as stopping must not be reported as running again.
            Stage::Unknown if self.leaving && self.status.phase < Phase::Stopping => {
                self.enter(Phase::Stopping, now, None);
            }
            Stage::Unknown => {}
            Stage::Waiting(_) if self.leaving && self.unsure && unavailable.is_some() => {
                self.explain(unavailable.map(String::from));
            }
            Stage::Waiting(_) if self.leaving => self.over(Phase::Stopped, now, None),
            Stage::Waiting(until) => {
                let order = order.filter(|_| self.in_order);
                match unavailable.or(held).or(order) {
                    Some(why) => self.explain(Some(why.into())),
                    None if now < until => return Some(until),
                    None => self.start(assignment, effects),
                }
            }
            Stage::Starting | Stage::Running if self.leaving => {
                self.checks.pause();
                self.enter(Phase::Stopping, now, None);
                return Some(self.stop(now, effects));
            }
            Stage::Starting => {}
            Stage::Running => {
                let pause = assignment.is_some_and(|assignment| assignment.paused);
                self.suspend_or_resume(pause, now, effects);
                // While it is paused, it is neither probed nor changed.
                return match !pause && self.suspension.is(false) {
                    true => self.watch(assignment, now, effects),
                    false => self.suspension.wake_at(),
                };
            }
            Stage::Stopping(again_at) if now < again_at => return Some(again_at),
            Stage::Stopping(_) => return Some(self.stop(now, effects)),
            Stage::Over => {}
        }
        None
    }

    /// Removes its remains. Must only be called once it is over.
    pub(super) fn forget(&self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Forget { of: self.of.clone(), driver: self.driver });
    }

    fn start(&mut self, assignment: Option<&Assignment>, effects: &mut Vec<Effect>) {
        if let Some(launch) = self.launch(assignment) {
            self.stage = Stage::Starting;
            self.explain(None);
            // A start writes all files.
            self.files = StaleFiles::default();
            effects.push(Effect::Start(launch));
        }
    }

    fn stop(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> Timestamp {
        let default = Stop::default();
        let stop = self.spec().map_or(&default, |spec| &spec.stop);
        let (signal, grace): (Signal, Millis) = (stop.signal, stop.grace);
        effects.push(Effect::Stop { piece: self.piece(), driver: self.driver, signal, grace });
        let again_at = now.after(grace).after(STOP_AGAIN);
        self.stage = Stage::Stopping(again_at);
        again_at
    }

    /// Requests the probes and the updates of files that are due, and resets the failure count of a
    /// run that has lasted; returns when to do so again.
    fn watch(
        &mut self,
        assignment: Option<&Assignment>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Option<Timestamp> {
        let spec = self.desired.as_ref()?.spec.clone();
        for request in self.checks.due(&spec, now) {
            effects.push(Effect::Probe {
                launch: self.launch(assignment)?,
                check: request.check,
                probe: request.probe,
                timeout: request.timeout,
            });
        }
        if let Some(launch) = self.launch(assignment)
            && let Some(paths) = self.files.due(now)
        {
            effects.push(Effect::UpdateFiles { launch, paths });
        }
        let started_at = self.status.started_at.unwrap_or(now);
        let reset_at = started_at.after(spec.restart.reset_after);
        if now >= reset_at && !self.is_task() {
            self.status.failures = 0;
        }
        let reset_at = (self.status.failures > 0 && !self.is_task()).then_some(reset_at);
        [self.checks.wake_at(), self.files.wake_at(), reset_at].into_iter().flatten().min()
    }

    fn piece(&self) -> Piece {
        self.of.run(self.status.run)
    }

    fn launch(&self, assignment: Option<&Assignment>) -> Option<LaunchSpec> {
        let (assignment, desired) = (assignment?, self.desired.as_ref()?);
        Some(LaunchSpec {
            piece: self.piece(),
            revision: assignment.revision,
            revision_created_at: assignment.revision_created_at,
            spec: desired.spec.clone(),
            first_port: desired.first_port,
            instance: assignment.spec.clone(),
            given: assignment.given.clone(),
        })
    }

    /// Counts one more consecutive failure; returns the restart delay.
    fn failed(&mut self) -> Millis {
        self.status.failures = self.status.failures.saturating_add(1);
        self.spec().map_or(Millis(0), |spec| spec.restart.delay(self.status.failures))
    }

    fn next_run(&mut self, run: u32, now: Timestamp, until: Timestamp, message: Option<String>) {
        self.checks.end();
        self.stage = Stage::Waiting(until);
        self.status.run = run;
        self.status.started_at = None;
        self.enter(Phase::Starting, now, message);
        self.copy_verdicts();
    }

    fn over(&mut self, phase: Phase, now: Timestamp, message: Option<String>) {
        self.checks.end();
        self.stage = Stage::Over;
        self.enter(phase, now, message);
        self.copy_verdicts();
    }

    fn enter(&mut self, phase: Phase, now: Timestamp, message: Option<String>) {
        self.status.phase = phase;
        self.status.since = now;
        self.explain(message);
    }

    /// Sets the message. It replaces an earlier one with its back-off.
    fn explain(&mut self, message: Option<String>) {
        self.status.message = message;
        self.status.retry_after = None;
    }

    fn copy_verdicts(&mut self) {
        self.status.healthy = self.checks.healthy();
        self.status.ready = self.checks.ready();
        self.status.checks = self.checks.results();
        if self.status.phase == Phase::Running {
            let error =
                self.files.error().map(|error| format!("its files are not updated: {error}"));
            self.explain(error.or_else(|| self.checks.not_ready_cause()));
        }
    }
}
