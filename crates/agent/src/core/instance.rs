//! One instance on its node: the ordered stack of its resources. This module decides which of them
//! may start and which must stop; `piece` is the state machine of each.
//!
//! Resources start in stack order, each once those before it are up (running and ready, or a
//! completed task), and stop in reverse. Consecutive members of a subset share one place in that
//! order. A required resource that fails for good rolls the others back: they stop in reverse
//! order, and the instance has failed. A resource that has run before restarts by its own policy,
//! independently of the others. An instance whose stop was requested never starts a resource.
//!
//! None of this is stored: it is derived from the states of the resources.

use api::{Assigned, Assignment};
use model::{
    InstanceId, InstanceResource, PauseReport, Phase, ResourceId, ResourceRef, Status, Timestamp,
};
use model::{PieceState, merge};

use super::checks::{CheckId, Outcome};
use super::piece::{Desired, PieceLife};
use super::{Effect, StalePaths};
use crate::drivers::{DriverEvent, Found, Kind};

/// Why a resource of a frozen service is not restarted.
const FROZEN: &str = "it has ended and its service is frozen";
/// Why a frozen resource is not restarted.
const FROZEN_ALONE: &str = "it has ended and is frozen";
/// Why a resource of a paused service is not started.
const PAUSED: &str = "its service is paused";

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stepped {
    /// The instance remains and must be stepped again at that time.
    Stays(Option<Timestamp>),
    /// The instance has no resources left and no assignment, so it is dropped.
    Gone,
}

/// One instance on this node.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    id: InstanceId,
    /// `None` for an instance that a driver found and no assignment contains.
    assignment: Option<Assignment>,
    /// Its stop was requested. Never reset.
    leaving: bool,
    /// No assignment contains it any more: it is removed once it has ended.
    unassigned: bool,
    /// Its resources in stack order, followed by those that were found and are not in its stack.
    pieces: Vec<PieceLife>,
    /// The status of the instance as a whole. Kept only for an instance with a stack; without one,
    /// the status of its only resource is used.
    merged: Option<Box<Status>>,
}

impl Instance {
    /// A newly assigned instance; `known` is its status before a restart of the agent.
    pub(super) fn new(assignment: Assignment, known: Option<Status>, now: Timestamp) -> Self {
        let id = assignment.instance.clone();
        let stacked = !assignment.spec.stack.is_empty();
        let pieces = stack(&assignment).into_iter().map(|(name, desired)| {
            let known = known.as_ref().and_then(|known| match stacked {
                true => status_of(known, &name),
                false => Some(known.clone()),
            });
            let of = InstanceResource { instance: id.clone(), resource: name };
            PieceLife::new(of, desired, known, now)
        });
        let mut instance = Self {
            pieces: pieces.collect(),
            leaving: assignment.goal == Assigned::Stop,
            assignment: Some(assignment),
            unassigned: false,
            merged: None,
            id,
        };
        if stacked {
            let since = known.as_ref().map_or(now, |known| known.since);
            let status = known.unwrap_or_else(|| Status::new(Phase::Starting, since));
            instance.merged = Some(Box::new(status));
        }
        instance.merge(now);
        instance
    }

    /// An instance whose run was found by a driver and that no assignment contains.
    pub(super) fn found(driver: Kind, found: &Found, now: Timestamp) -> Self {
        let piece = PieceLife::found(driver, found, now);
        let mut instance = Self {
            id: found.piece.instance.clone(),
            assignment: None,
            leaving: false,
            unassigned: true,
            merged: (!found.piece.resource.is_main()).then(|| Box::new(piece.status().clone())),
            pieces: vec![piece],
        };
        instance.merge(now);
        instance
    }

    pub(super) fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Its resources with their drivers, in stack order.
    pub(super) fn resources(&self) -> impl Iterator<Item = (&ResourceId, Kind)> {
        self.pieces.iter().map(|piece| (piece.name(), piece.driver()))
    }

    pub(super) fn has_driver(&self, driver: Kind) -> bool {
        self.pieces.iter().any(|piece| piece.driver() == driver)
    }

    pub(super) fn status(&self) -> &Status {
        match (&self.merged, &self.pieces[..]) {
            (Some(merged), _) => merged,
            (None, [only, ..]) => only.status(),
            (None, []) => unreachable!("an instance without a stack has one resource"),
        }
    }

    /// Whether one of its resources starts next and is not known to have run here.
    pub(super) fn is_new(&self) -> bool {
        !self.leaving && self.pieces.iter().any(PieceLife::is_new)
    }

    /// Whether it has no assignment but has, as far as is known, processes or containers.
    pub(super) fn is_unwanted(&self) -> bool {
        self.unassigned && self.is_held()
    }

    /// Whether it has, as far as is known, processes or containers.
    pub(super) fn is_held(&self) -> bool {
        self.pieces.iter().any(PieceLife::is_held)
    }

    /// Its assignment, unless it was unassigned.
    pub(super) fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref().filter(|_| !self.unassigned)
    }

    /// Applies a new or changed assignment.
    pub(super) fn assign(&mut self, assignment: Assignment, now: Timestamp) {
        let stack = stack(&assignment);
        if !self.can_become(&stack) {
            // The assignment describes an instance other than the one that runs here. A server
            // never reuses an id, so this cannot be applied and the running instance is stopped.
            self.unassign();
            return;
        }
        self.leaving |= assignment.goal == Assigned::Stop;
        self.unassigned = false;
        let before = self.assignment.as_ref();
        let retry = before.is_some_and(|before| before.retries != assignment.retries);
        let mut found = std::mem::take(&mut self.pieces);
        for (name, desired) in stack {
            match found.iter().position(|piece| *piece.name() == name) {
                Some(at) => {
                    let mut piece = found.remove(at);
                    piece.assign(desired, retry, now);
                    self.pieces.push(piece);
                }
                None => {
                    let of = InstanceResource { instance: self.id.clone(), resource: name };
                    self.pieces.push(PieceLife::new(of, desired, None, now));
                }
            }
        }
        found.iter_mut().for_each(PieceLife::leave);
        self.pieces.extend(found);
        if self.merged.is_none() && !assignment.spec.stack.is_empty() {
            self.merged = Some(Box::new(Status::new(Phase::Starting, now)));
        }
        self.assignment = Some(assignment);
    }

    /// Whether the resources on this node can become those of this stack.
    fn can_become(&self, stack: &[(ResourceId, Desired)]) -> bool {
        let same_driver = |piece: &PieceLife| {
            let desired = stack.iter().find(|(name, _)| name == piece.name());
            match desired {
                Some((_, desired)) => Kind::of(&desired.spec) == piece.driver(),
                // Found, and in no stack: it is stopped.
                None => piece.desired().is_none(),
            }
        };
        self.pieces.iter().all(same_driver)
    }

    /// Marks the instance as contained in no assignment; it stops and is removed.
    pub(super) fn unassign(&mut self) {
        self.leaving = true;
        self.unassigned = true;
    }

    /// Records that a driver is unavailable: the known states of its resources may be outdated.
    pub(super) fn driver_became_unavailable(&mut self, driver: Kind) {
        let of_driver = self.pieces.iter_mut().filter(|piece| piece.driver() == driver);
        of_driver.for_each(PieceLife::driver_became_unavailable);
    }

    /// Applies the complete list of runs of a driver; `found` are those of this instance.
    pub(super) fn apply_listing(&mut self, driver: Kind, found: &[&Found], now: Timestamp) {
        for piece in self.pieces.iter_mut().filter(|piece| piece.driver() == driver) {
            let own = found.iter().find(|found| found.piece.of() == *piece.of());
            piece.apply_listing(own.copied(), now);
        }
        for found in found {
            if !self.pieces.iter().any(|piece| *piece.of() == found.piece.of()) {
                let mut piece = PieceLife::found(driver, found, now);
                if self.assignment.is_some() {
                    piece.leave();
                }
                self.pieces.push(piece);
            }
        }
        if self.merged.is_none() && self.pieces.len() > 1 {
            self.merged = Some(Box::new(Status::new(Phase::Starting, now)));
        }
    }

    /// Applies an event of a driver to the resource that it names.
    pub(super) fn driver_event(&mut self, event: DriverEvent, now: Timestamp) {
        let run = event.piece().run;
        let Some(piece) = self.piece(&event.piece().resource) else { return };
        match event {
            DriverEvent::Started { at, .. } => piece.started(run, at, now),
            DriverEvent::NotStarted { message, driver_unavailable, .. } => {
                piece.not_started(run, message, driver_unavailable, now);
            }
            DriverEvent::Misplaced { message, .. } => piece.misplaced(run, message, now),
            DriverEvent::Exited { exit, .. } => piece.exited(run, exit, now),
            DriverEvent::Preparing { message, .. } => piece.preparing(run, message),
        }
    }

    /// Applies the outcome of a probe to the resource that was probed.
    pub(super) fn probed(
        &mut self,
        piece: &model::Piece,
        check: CheckId,
        outcome: Outcome,
        now: Timestamp,
    ) {
        if let Some(life) = self.piece(&piece.resource) {
            life.probed(piece.run, check, outcome, now);
        }
    }

    /// Applies the outcome of an update of files to the resource that was updated.
    pub(super) fn files_updated(
        &mut self,
        piece: &model::Piece,
        outcome: Result<(), String>,
        now: Timestamp,
    ) {
        if let Some(life) = self.piece(&piece.resource) {
            life.files_updated(piece.run, outcome, now);
        }
    }

    /// Applies the outcome of a request to suspend or resume the resource that was meant.
    pub(super) fn suspended(
        &mut self,
        piece: &model::Piece,
        suspend: bool,
        outcome: Result<(), String>,
        now: Timestamp,
    ) {
        if let Some(life) = self.piece(&piece.resource) {
            life.suspended(piece.run, suspend, outcome, now);
        }
    }

    /// The files of its resources that are not yet as the assignment says.
    pub(super) fn stale_files(&self) -> StalePaths {
        let stale = self.pieces.iter().map(|piece| (piece.name(), piece.stale_files()));
        let stale = stale.filter(|(_, paths)| !paths.is_empty());
        stale.map(|(name, paths)| (name.clone(), paths)).collect()
    }

    /// Restores the stale files that an earlier agent knew of.
    pub(super) fn restore_stale_files(&mut self, stale: StalePaths) {
        for (name, paths) in stale {
            if let Some(piece) = self.piece(&name) {
                piece.restore_stale_files(paths);
            }
        }
    }

    fn piece(&mut self, name: &ResourceId) -> Option<&mut PieceLife> {
        self.pieces.iter_mut().find(|piece| piece.name() == name)
    }

    /// Performs the steps that are due. `unavailable` returns why a driver is unavailable, if it
    /// is; `held` is why no new run may start, if none may.
    pub(super) fn step<'a>(
        &mut self,
        unavailable: impl Fn(Kind) -> Option<&'a str>,
        held: Option<&str>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Stepped {
        let wake_at = match self.must_stop() {
            true => self.step_down(unavailable, now, effects),
            false => self.step_up(unavailable, held, now, effects),
        };
        self.merge(now);
        if self.unassigned && self.pieces.iter().all(PieceLife::is_over) {
            self.pieces.iter().for_each(|piece| piece.forget(effects));
            effects.push(Effect::RemoveDirectory(self.id.clone()));
            return Stepped::Gone;
        }
        Stepped::Stays(wake_at)
    }

    fn must_stop(&self) -> bool {
        let has_failed =
            |piece: &PieceLife| piece.has_failed_instance() && self.frozen(piece).is_none();
        self.leaving || self.pieces.iter().any(has_failed)
    }

    /// Why a resource is not restarted once it has exited, and rolls back no others once it has
    /// failed, if it is frozen.
    fn frozen(&self, piece: &PieceLife) -> Option<&'static str> {
        let assignment = self.assignment.as_ref()?;
        match (assignment.frozen, assignment.frozen_resources.contains(piece.name())) {
            (true, _) => Some(FROZEN),
            (false, true) => Some(FROZEN_ALONE),
            (false, false) => None,
        }
    }

    /// Whether its processes should be suspended.
    fn is_paused(&self) -> bool {
        !self.leaving && self.assignment.as_ref().is_some_and(|assignment| assignment.paused)
    }

    /// The report on its pause, while it is paused or has not been resumed completely.
    fn pause(&self) -> Option<PauseReport> {
        if self.leaving {
            return None;
        }
        let error = |piece: &PieceLife| {
            let error = piece.suspension_error()?;
            Some(match self.merged {
                Some(_) => format!("{}: {error}", piece.name()),
                None => error.into(),
            })
        };
        if let Some(message) = self.pieces.iter().find_map(error) {
            return Some(PauseReport::Failed { message });
        }
        let all = |suspended| self.pieces.iter().all(|piece| piece.is_suspended(suspended));
        let is_suspended = if self.is_paused() { all(true) } else { !all(false) };
        is_suspended.then_some(PauseReport::Suspended)
    }

    /// Starts the resources that may start, in stack order.
    fn step_up<'a>(
        &mut self,
        unavailable: impl Fn(Kind) -> Option<&'a str>,
        held: Option<&str>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Option<Timestamp> {
        let frozen: Vec<_> = self.pieces.iter().map(|piece| self.frozen(piece)).collect();
        let paused = self.is_paused().then_some(PAUSED);
        let mut wake_at = None;
        let mut order: Option<String> = None;
        let mut from = 0;
        while from < self.pieces.len() {
            let to = self.place_end(from);
            for (piece, frozen) in self.pieces[from..to].iter_mut().zip(&frozen[from..to]) {
                let unavailable = unavailable(piece.driver());
                let frozen = frozen.filter(|_| piece.has_ended_once());
                let assignment = self.assignment.as_ref();
                let held = held.or(paused).or(frozen);
                let at = piece.step(assignment, unavailable, held, order.as_deref(), now, effects);
                wake_at = earlier(wake_at, at);
            }
            let below = self.pieces[from..to].iter().find(|piece| !piece.is_up());
            if let (None, Some(below)) = (&order, below) {
                order = Some(format!("waits until {} is up", below.name()));
            }
            from = to;
        }
        wake_at
    }

    /// Stops the topmost place that has not ended. Resources below it keep running until their
    /// turn, but are not restarted.
    fn step_down<'a>(
        &mut self,
        unavailable: impl Fn(Kind) -> Option<&'a str>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Option<Timestamp> {
        let mut places = Vec::new();
        let mut from = 0;
        while from < self.pieces.len() {
            let to = self.place_end(from);
            places.push(from..to);
            from = to;
        }
        let mut wake_at = None;
        let mut above_is_over = true;
        for place in places.into_iter().rev() {
            for piece in &mut self.pieces[place.clone()] {
                if above_is_over {
                    piece.leave();
                }
                let unavailable = unavailable(piece.driver());
                let held = Some("the instance is stopping");
                let assignment = self.assignment.as_ref();
                let at = piece.step(assignment, unavailable, held, None, now, effects);
                wake_at = earlier(wake_at, at);
            }
            above_is_over &= self.pieces[place].iter().all(PieceLife::is_over);
        }
        wake_at
    }

    /// The end (exclusive) of the place that begins with the resource at `from`: that resource
    /// alone, or all consecutive ones of its subset.
    fn place_end(&self, from: usize) -> usize {
        let subset = |piece: &PieceLife| piece.desired().and_then(|desired| desired.subset.clone());
        let Some(own) = subset(&self.pieces[from]) else { return from + 1 };
        let same =
            self.pieces[from..].iter().take_while(|piece| subset(piece).as_ref() == Some(&own));
        from + same.count()
    }

    /// Recomputes the status of an instance as a whole.
    fn merge(&mut self, now: Timestamp) {
        let pause = self.pause();
        let Some(status) = &mut self.merged else {
            self.pieces.iter_mut().for_each(|piece| piece.set_pause(pause.clone()));
            return;
        };
        status.pause = pause;
        let states: Vec<_> = self.pieces.iter().map(state).collect();
        let merged = merge(&states);
        if status.phase != merged.phase {
            status.phase = merged.phase;
            status.since = now;
        }
        let all = || self.pieces.iter().map(PieceLife::status);
        // The run number rises with each restart of a resource, so that within one number phases
        // only go forward.
        status.run = all().map(|status| status.run.saturating_sub(1)).sum::<u32>() + 1;
        status.failures = all().map(|status| status.failures).max().unwrap_or(0);
        status.started_at = match merged.phase {
            Phase::Running => all().filter_map(|status| status.started_at).max(),
            _ => None,
        };
        status.healthy = merged.healthy;
        status.ready = merged.ready;
        let exits = all().filter_map(|status| status.last_exit.as_ref());
        status.last_exit = exits.max_by_key(|exit| exit.at).cloned();
        let failed = self.pieces.iter().find(|piece| piece.has_failed_instance());
        let because = failed.or_else(|| merged.because.and_then(|index| self.pieces.get(index)));
        status.retry_after = because.and_then(|piece| piece.status().retry_after);
        status.message = because.map(|piece| {
            let (name, own) = (piece.name(), piece.status());
            match &own.message {
                Some(message) => format!("{name}: {message}"),
                None => format!("{name} is {}", own.phase.word()),
            }
        });
        status.resources = self.pieces.iter().map(PieceLife::resource_status).collect();
    }
}

/// The resources of an assignment, in stack order.
fn stack(assignment: &Assignment) -> Vec<(ResourceId, Desired)> {
    let spec = &assignment.spec;
    let in_stack = !spec.stack.is_empty();
    let desired = |resource: ResourceRef<'_>| {
        let desired = Desired {
            spec: match in_stack {
                true => spec.reduced_to(&resource).into(),
                false => spec.clone(),
            },
            first_port: resource.first_port,
            is_task: resource.is_task,
            retries: resource.retries,
            optional: resource.optional,
            monitor: resource.monitor,
            subset: resource.subset.map(String::from),
            in_stack,
        };
        (resource.name.clone(), desired)
    };
    spec.resources().map(desired).collect()
}

/// The last status of a resource, as far as the status of its instance contains it.
fn status_of(known: &Status, name: &ResourceId) -> Option<Status> {
    let resource = known.resources.iter().find(|resource| resource.name == *name)?;
    Some(Status {
        run: resource.run,
        failures: resource.failures,
        started_at: None,
        healthy: resource.healthy,
        ready: resource.ready,
        checks: resource.checks.clone(),
        last_exit: resource.last_exit.clone().map(Box::new),
        message: resource.message.clone(),
        ..Status::new(resource.phase, known.since)
    })
}

fn state(piece: &PieceLife) -> PieceState {
    let status = piece.status();
    let has_health_checks = piece.desired().is_some_and(|desired| !desired.spec.health.is_empty());
    PieceState {
        phase: status.phase,
        healthy: status.healthy,
        has_health_checks,
        ready: status.ready,
        optional: piece.is_optional() && !piece.has_failed_instance(),
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}
