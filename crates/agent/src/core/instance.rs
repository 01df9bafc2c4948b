//! The life of one instance on its node: facts come in, and [`Instance::step`] says what follows
//! from them. Stepping twice does nothing more than stepping once.
//!
//! Phases go forward within a run. A run that ends by itself makes way for the next one; an
//! instance that was once told to stop is never started again.

use api::{Assigned, Assignment};
use model::{
    Ending, Exit, InstanceId, Millis, Phase, Piece, ResourceId, Signal, Spec, Status, Stop,
    Timestamp,
};

use super::checks::{CheckId, Checks, Outcome};
use super::{Effect, LaunchSpec};
use crate::drivers::{Found, Kind};

/// How long after the grace of a stop it is asked for again, if nothing has come of it.
const STOP_AGAIN: Millis = Millis::secs(5);
/// How long after its driver was away a start is tried again.
const AWAY_RETRY: Millis = Millis::secs(1);

/// Where an instance is between two facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its driver has not said yet whether it runs.
    Unknown,
    /// To be started at that time.
    Waiting(Timestamp),
    /// Its start is under way.
    Starting,
    /// It runs.
    Running,
    /// Its stop is under way; asked for again at that time.
    Stopping(Timestamp),
    /// It has ended because it was told to.
    Over,
}

/// What became of an instance in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stepped {
    /// It stays, and wants to be looked at again at that time.
    Stays(Option<Timestamp>),
    /// Nothing is left of it and nobody wants it.
    Gone,
}

/// One instance on this node.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    id: InstanceId,
    driver: Kind,
    /// What is wanted; `None` for what was found but never assigned.
    assignment: Option<Assignment>,
    /// It was told to stop. Never taken back.
    leaving: bool,
    /// No assignment names it any more: forgotten once it has ended.
    unassigned: bool,
    /// Its driver has been away since it was last heard of.
    unsure: bool,
    stage: Stage,
    status: Status,
    checks: Checks,
}

impl Instance {
    /// A newly assigned instance; `known` is what was known of it before the agent was restarted.
    pub(super) fn new(assignment: Assignment, known: Option<Status>, now: Timestamp) -> Self {
        let stage = if known.is_some() { Stage::Unknown } else { Stage::Waiting(now) };
        let fresh = || Status { run: 1, ..Status::new(Phase::Starting, now) };
        Self {
            id: assignment.instance.clone(),
            driver: Kind::of(&assignment.spec),
            leaving: assignment.goal == Assigned::Stop,
            assignment: Some(assignment),
            unassigned: false,
            unsure: false,
            stage,
            status: known.unwrap_or_else(fresh),
            checks: Checks::idle(),
        }
    }

    /// An instance that a driver found and no assignment names.
    pub(super) fn found(driver: Kind, found: &Found, now: Timestamp) -> Self {
        let mut instance = Self {
            id: found.piece.instance.clone(),
            driver,
            assignment: None,
            leaving: false,
            unassigned: true,
            unsure: false,
            stage: Stage::Running,
            status: Status { run: found.piece.run, ..Status::new(Phase::Running, now) },
            checks: Checks::idle(),
        };
        instance.status.started_at = Some(found.started_at);
        if let Some(exit) = &found.exit {
            instance.status.last_exit = Some(Box::new(exit.clone()));
            instance.over(now);
        }
        instance
    }

    pub(super) fn id(&self) -> &InstanceId {
        &self.id
    }

    pub(super) fn driver(&self) -> Kind {
        self.driver
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// Whether it is to be started and is not known to have run here.
    pub(super) fn is_new(&self) -> bool {
        let waits = matches!(self.stage, Stage::Waiting(_)) && !self.leaving;
        waits && self.status.last_exit.is_none()
    }

    /// Whether it runs though nobody wants it here, as far as is known.
    pub(super) fn is_unwanted(&self) -> bool {
        let holds = matches!(self.stage, Stage::Starting | Stage::Running | Stage::Stopping(_));
        self.unassigned && holds
    }

    /// What is wanted, while an assignment names it.
    pub(super) fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref().filter(|_| !self.unassigned)
    }

    fn spec(&self) -> Option<&Spec> {
        self.assignment.as_ref().map(|assignment| assignment.spec.as_ref())
    }

    /// An assignment names it (again).
    pub(super) fn assign(&mut self, assignment: Assignment, now: Timestamp) {
        if Kind::of(&assignment.spec) != self.driver {
            // Not the instance that runs here: the server never reuses an id, so this is no
            // wish that can be carried out. It is left to end.
            self.unassign();
            return;
        }
        self.leaving |= assignment.goal == Assigned::Stop;
        self.unassigned = false;
        match &self.assignment {
            Some(before) => {
                self.checks.change(&before.spec, &assignment.spec, now);
                if before.retries != assignment.retries {
                    self.status.failures = 0;
                    if let Stage::Waiting(until) = self.stage {
                        self.stage = Stage::Waiting(until.min(now));
                    }
                }
            }
            None if self.stage == Stage::Running => {
                let started_at = self.status.started_at.unwrap_or(now);
                self.checks.resume(&assignment.spec, started_at, &[], false, now);
            }
            None => {}
        }
        let was_unknown = self.assignment.replace(assignment).is_none();
        self.copy_verdicts();
        if was_unknown && self.stage == Stage::Over && !self.leaving {
            // Its run had ended before it was known that it should go on.
            let exit = self.status.last_exit.as_ref().map(|exit| exit.to_string());
            let delay = self.failed();
            let message = exit.map(|exit| waits(&exit, delay));
            self.next_run(self.status.run.saturating_add(1), now, now.after(delay), message);
        }
    }

    /// No assignment names it any more.
    pub(super) fn unassign(&mut self) {
        self.leaving = true;
        self.unassigned = true;
    }

    /// Its driver cannot work: what it knows of this instance may be old.
    pub(super) fn driver_went_away(&mut self) {
        // Of a start that is still under way the driver itself will tell what became of it.
        let stood = matches!(self.stage, Stage::Running | Stage::Stopping(_));
        self.unsure |= stood && self.status.started_at.is_some();
    }

    /// Its driver has looked, and found this of it, or nothing.
    pub(super) fn looked_for(&mut self, found: Option<&Found>, now: Timestamp) {
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
                // Whatever ran has left no trace: the number of a run is never used twice.
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

    /// Goes on with a run that was there before the agent.
    fn adopt(&mut self, found: &Found, now: Timestamp) {
        let known = (self.status.run == found.piece.run).then(|| self.status.clone());
        self.stage = Stage::Running;
        self.status.run = found.piece.run;
        self.status.started_at = Some(found.started_at);
        self.enter(Phase::Running, found.started_at, None);
        if let Some(assignment) = &self.assignment {
            let (results, ready) = match &known {
                Some(known) => (known.checks.as_slice(), known.ready),
                None => (&[][..], false),
            };
            self.checks.resume(&assignment.spec, found.started_at, results, ready, now);
        }
        self.copy_verdicts();
        if let Some(exit) = &found.exit {
            self.exited(found.piece.run, exit.clone(), now);
        }
    }

    /// A run has begun.
    pub(super) fn started(&mut self, run: u32, at: Timestamp, now: Timestamp) {
        if run != self.status.run {
            return;
        }
        self.unsure = false;
        match self.stage {
            Stage::Starting => {
                self.stage = Stage::Running;
                self.enter(Phase::Running, now, None);
                self.status.started_at = Some(at);
                if let Some(assignment) = &self.assignment {
                    self.checks.begin(&assignment.spec, now);
                }
                self.copy_verdicts();
            }
            Stage::Stopping(_) => self.status.started_at = Some(at),
            Stage::Unknown | Stage::Waiting(_) | Stage::Running | Stage::Over => {}
        }
    }

    /// What is done before the start.
    pub(super) fn preparing(&mut self, run: u32, message: String) {
        if self.stage == Stage::Starting && run == self.status.run {
            self.status.message = Some(message);
        }
    }

    /// A run could not begin.
    pub(super) fn not_started(&mut self, run: u32, message: String, away: bool, now: Timestamp) {
        if run != self.status.run {
            return;
        }
        match self.stage {
            Stage::Starting if away => {
                // It may have begun all the same: nobody knows until the driver has looked.
                self.unsure = true;
                self.stage = Stage::Waiting(now.after(AWAY_RETRY));
                self.status.message = Some(message);
            }
            Stage::Starting => {
                let delay = self.failed();
                let message = waits(&message, delay);
                self.next_run(run.saturating_add(1), now, now.after(delay), Some(message));
            }
            Stage::Stopping(_) => self.over(now),
            Stage::Unknown | Stage::Waiting(_) | Stage::Running | Stage::Over => {}
        }
    }

    /// A run cannot begin here. The instance has ended for good: another one takes its place.
    pub(super) fn misplaced(&mut self, run: u32, message: String, now: Timestamp) {
        if run != self.status.run {
            return;
        }
        match self.stage {
            Stage::Starting if !self.leaving => {
                self.over(now);
                self.enter(Phase::Failed, now, Some(message));
            }
            Stage::Starting | Stage::Stopping(_) => self.over(now),
            Stage::Unknown | Stage::Waiting(_) | Stage::Running | Stage::Over => {}
        }
    }

    /// A run has ended.
    pub(super) fn exited(&mut self, run: u32, exit: Exit, now: Timestamp) {
        if run != self.status.run {
            return;
        }
        match self.stage {
            Stage::Starting | Stage::Running if !self.leaving && self.assignment.is_some() => {
                let ran = self.status.started_at.map_or(Millis(0), |at| exit.at.since(at));
                let reset_after = self.spec().map(|spec| spec.restart.reset_after);
                if reset_after.is_some_and(|reset_after| ran >= reset_after) {
                    self.status.failures = 0;
                }
                let delay = self.failed();
                let message = waits(&exit.to_string(), delay);
                let until = exit.at.min(now).after(delay);
                self.status.last_exit = Some(Box::new(exit));
                self.next_run(run.saturating_add(1), now, until, Some(message));
            }
            Stage::Starting | Stage::Running | Stage::Stopping(_) => {
                self.status.last_exit = Some(Box::new(exit));
                self.over(now);
            }
            Stage::Unknown | Stage::Waiting(_) | Stage::Over => {}
        }
    }

    /// A probe has been made.
    pub(super) fn probed(&mut self, run: u32, check: CheckId, outcome: Outcome, now: Timestamp) {
        if run != self.status.run || self.stage != Stage::Running {
            return;
        }
        if let Some(assignment) = &self.assignment {
            self.checks.probed(check, outcome, &assignment.spec, now);
        }
        self.copy_verdicts();
    }

    /// Does what is due by now. `away` is why its driver cannot be asked, if it cannot.
    pub(super) fn step(
        &mut self,
        away: Option<&str>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Stepped {
        match self.stage {
            Stage::Unknown => {}
            Stage::Waiting(_) if self.leaving && self.unsure && away.is_some() => {
                self.status.message = away.map(String::from);
            }
            Stage::Waiting(_) if self.leaving => self.over(now),
            Stage::Waiting(until) => match away {
                Some(why) => self.status.message = Some(why.into()),
                None if now < until => return Stepped::Stays(Some(until)),
                None => self.start(effects),
            },
            Stage::Starting | Stage::Running if self.leaving => {
                self.checks.pause();
                self.enter(Phase::Stopping, now, None);
                return Stepped::Stays(Some(self.stop(now, effects)));
            }
            Stage::Starting => {}
            Stage::Running => return Stepped::Stays(self.watch(now, effects)),
            Stage::Stopping(again_at) if now < again_at => return Stepped::Stays(Some(again_at)),
            Stage::Stopping(_) => return Stepped::Stays(Some(self.stop(now, effects))),
            Stage::Over => {}
        }
        if self.stage == Stage::Over && self.unassigned && self.leaving {
            let of = self.piece().of();
            effects.push(Effect::Forget { of, driver: self.driver });
            effects.push(Effect::RemoveDirectory(self.id.clone()));
            return Stepped::Gone;
        }
        Stepped::Stays(None)
    }

    fn start(&mut self, effects: &mut Vec<Effect>) {
        if let Some(launch) = self.launch() {
            self.stage = Stage::Starting;
            self.status.message = None;
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

    /// Asks for the probes that are due, ends a row of failures; says when to look again.
    fn watch(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> Option<Timestamp> {
        let launch = self.launch()?;
        for request in self.checks.due(&launch.spec, now) {
            effects.push(Effect::Probe {
                launch: launch.clone(),
                check: request.check,
                probe: request.probe,
                timeout: request.timeout,
            });
        }
        let started_at = self.status.started_at.unwrap_or(now);
        let reset_at = started_at.after(launch.spec.restart.reset_after);
        if now >= reset_at {
            self.status.failures = 0;
        }
        let reset_at = (self.status.failures > 0).then_some(reset_at);
        [self.checks.wake_at(), reset_at].into_iter().flatten().min()
    }

    fn piece(&self) -> Piece {
        let (instance, run) = (self.id.clone(), self.status.run);
        Piece { instance, resource: ResourceId::main(), run }
    }

    fn launch(&self) -> Option<LaunchSpec> {
        let assignment = self.assignment.as_ref()?;
        Some(LaunchSpec {
            piece: self.piece(),
            revision: assignment.revision,
            spec: assignment.spec.clone(),
            ports: assignment.given.ports.clone(),
            env: assignment.env.clone(),
        })
    }

    /// One more failure in a row: how long to wait.
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

    fn over(&mut self, now: Timestamp) {
        self.checks.end();
        self.stage = Stage::Over;
        self.enter(Phase::Stopped, now, None);
        self.copy_verdicts();
    }

    fn enter(&mut self, phase: Phase, now: Timestamp, message: Option<String>) {
        self.status.phase = phase;
        self.status.since = now;
        self.status.message = message;
    }

    fn copy_verdicts(&mut self) {
        self.status.healthy = self.checks.healthy();
        self.status.ready = self.checks.ready();
        self.status.checks = self.checks.results();
        if self.status.phase == Phase::Running {
            self.status.message = self.checks.remark();
        }
    }
}

fn waits(cause: &str, delay: Millis) -> String {
    match delay {
        Millis(0) => cause.into(),
        Millis(delay) => {
            let seconds = delay.div_ceil(1000);
            format!("{cause}; waits {seconds}s before it is started again")
        }
    }
}
