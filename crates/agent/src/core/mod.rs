//! The decisions of the agent. [`Core::handle`] takes an event and returns effects. It performs
//! nothing itself, never fails, reads no clock and draws no random numbers. The shell performs the
//! effects in order and returns their results as events; the simulator does the same without a
//! machine.
//!
//! `instance` decides in which order the resources of an instance start and stop, `piece` is the
//! state machine of one resource, `checks` schedules probes and derives verdicts, `files` knows which
//! files of a running resource must be written anew, `suspension` whether its processes are
//! suspended, and `report` decides when the server is sent a
//! report.

mod checks;
mod files;
mod instance;
mod piece;
mod report;
mod summary;
mod suspension;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Assigned, Assignment, Assignments, Report, Unreadable};
use model::{
    Given, InstanceId, InstanceResource, Millis, NodeId, Phase, Piece, Probe, ResourceId,
    RevisionNumber, Signal, Spec, Status, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::drivers::{DriverEvent, Found, Kind};
use instance::{Instance, Stepped};
use report::{Due, Reporter};

pub use checks::{CheckId, Outcome};

/// An input of the core.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A server has been reached; its assignments follow.
    Connected,
    /// The assignments of this node, complete or incremental.
    Assignments(Assignments),
    /// A driver has listed the runs of this agent. No run of its kind starts before this.
    Adopted {
        /// The driver.
        driver: Kind,
        /// All runs that it found.
        found: Vec<Found>,
    },
    /// A driver is unavailable; once it is available, it lists its runs again.
    Unavailable {
        /// The driver.
        driver: Kind,
        /// Why, as a message.
        message: String,
    },
    /// An event of a driver.
    Driver(DriverEvent),
    /// A probe has ended. Every [`Effect::Probe`] results in exactly one of these.
    Probed {
        /// The run that was probed.
        piece: Piece,
        /// The check that was probed.
        check: CheckId,
        /// The outcome of the probe.
        outcome: Outcome,
    },
    /// The files of a run have been written and their signals sent, or not. Every
    /// [`Effect::UpdateFiles`] results in exactly one of these.
    FilesUpdated {
        /// The run.
        piece: Piece,
        /// Why not, as a message.
        outcome: Result<(), String>,
    },
    /// The processes of a run have been suspended or resumed, or not. Every [`Effect::Suspend`]
    /// results in exactly one of these.
    Suspended {
        /// The run.
        piece: Piece,
        /// As in the effect.
        suspend: bool,
        /// Why not, as a message.
        outcome: Result<(), String>,
    },
    /// The time of the last [`Effect::WakeAt`] has been reached.
    Tick,
    /// The server has received a report.
    ReportSent {
        /// Its number.
        number: u64,
        /// The server requests a complete report.
        resync: bool,
    },
    /// A report has failed, or its delivery is unknown.
    ReportFailed {
        /// Its number.
        number: u64,
    },
    /// The agent shuts down and must leave nothing behind: everything is stopped and removed.
    End,
}

/// An action for the shell to perform.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start a run.
    Start(LaunchSpec),
    /// Stop a run. Repeated for the same run if its end is not reported.
    Stop {
        /// The run.
        piece: Piece,
        /// Its driver.
        driver: Kind,
        /// The signal to send first.
        signal: Signal,
        /// The time between the signal and killing the run.
        grace: Millis,
    },
    /// Probe a run and return the outcome as [`Event::Probed`].
    Probe {
        /// The run to probe.
        launch: LaunchSpec,
        /// The check it is for.
        check: CheckId,
        /// The probe to make.
        probe: Probe,
        /// The timeout of the probe.
        timeout: Millis,
    },
    /// Write files of a run that is running, and send it the signals that they ask for. Return the
    /// outcome as [`Event::FilesUpdated`].
    UpdateFiles {
        /// The run.
        launch: LaunchSpec,
        /// The paths of the files to write, among those of its spec.
        paths: BTreeSet<String>,
    },
    /// Suspend or resume all processes of a run and return the outcome as [`Event::Suspended`]. A
    /// stop resumes them as well.
    Suspend {
        /// The run.
        piece: Piece,
        /// Its driver.
        driver: Kind,
        /// Whether to suspend them.
        suspend: bool,
    },
    /// Remove the remains of a resource that has ended, including its output.
    Forget {
        /// The resource.
        of: InstanceResource,
        /// Its driver.
        driver: Kind,
    },
    /// Remove the directory of an instance that has no resources left.
    RemoveDirectory(InstanceId),
    /// Store this for the next start of the agent; only the newest matters.
    Persist(Memory),
    /// Send this report to the server.
    Report(Report),
    /// Send [`Event::Tick`] at that time; replaces the previous wake-up.
    WakeAt(Timestamp),
}

/// A run to start or to probe, without the environment and paths that the node adds.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchSpec {
    /// The run.
    pub piece: Piece,
    /// The revision at which its instance was placed.
    pub revision: RevisionNumber,
    /// When that revision was applied.
    pub revision_created_at: Timestamp,
    /// The spec to run: that of the service, reduced to this resource.
    pub spec: Arc<Spec>,
    /// The index of its first port among those of the instance.
    pub first_port: usize,
    /// The spec of the whole service.
    pub instance: Arc<Spec>,
    /// The ports that the server allocated to the instance on this node.
    pub given: Given,
}

impl LaunchSpec {
    /// The ports of this resource on the node, in the order of its spec.
    pub fn ports(&self) -> &[u16] {
        let rest = self.given.ports.get(self.first_port..).unwrap_or_default();
        &rest[..rest.len().min(self.spec.ports.len())]
    }
}

/// The state that an agent keeps across restarts. It can continue without a server, and an instance
/// that was healthy stays healthy until a probe fails.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The generation of the assignments.
    pub generation: u64,
    /// The last assignments.
    #[serde(deserialize_with = "api::stored_assignments")]
    pub assignments: Vec<Assignment>,
    /// The last statuses of the assigned instances.
    pub statuses: BTreeMap<InstanceId, Status>,
    /// The files of running resources that are not yet as their assignment says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stale_files: BTreeMap<InstanceId, StalePaths>,
}

/// The paths of the stale files of an instance, by resource.
pub type StalePaths = BTreeMap<ResourceId, BTreeSet<String>>;

/// The part of a status that is worth writing to disk when it changes.
type Kept = (u32, Phase, Option<bool>, bool);

/// The state machine of the agent; see the module.
#[derive(Debug)]
pub struct Core {
    node: NodeId,
    generation: u64,
    instances: BTreeMap<InstanceId, Instance>,
    /// Drivers that have listed their runs and are available.
    adopted: BTreeSet<Kind>,
    /// Drivers that have not yet listed the runs of a previous agent process.
    listing: BTreeSet<Kind>,
    /// Why the other drivers are unavailable.
    unavailable: BTreeMap<Kind, String>,
    /// A server has sent complete assignments.
    synced: bool,
    /// That server states which instances must stop. Otherwise those that it does not assign must.
    explicit: bool,
    /// Instances that are not assigned and that the server has not ordered to stop. They are
    /// reported and keep running.
    kept: BTreeSet<InstanceId>,
    ending: bool,
    /// Instances that are not assigned but run. New instances wait until these have ended,
    /// since they may have been allocated the same ports and resources.
    unwanted: BTreeSet<InstanceId>,
    /// The last unwanted instance has ended, or the last driver has listed its runs, in this event.
    is_cleared: bool,
    reporter: Reporter,
    /// Assigned instances that do not run here because this version cannot parse their assignments.
    /// They are reported as failed, so that the server places them on another node.
    unreadable: BTreeMap<InstanceId, Status>,
    /// The start of this agent by its own clock. It identifies the incarnation in reports.
    started_at: Timestamp,
    /// The times at which instances must be stepped, in order and by instance.
    wakes: BTreeSet<(Timestamp, InstanceId)>,
    wake_of: BTreeMap<InstanceId, Timestamp>,
    woken_at: Option<Timestamp>,
    memory_changed: bool,
}

impl Core {
    /// The core of the agent on `node`, restored from `memory`.
    pub fn new(node: NodeId, memory: Memory, now: Timestamp) -> Self {
        let was_here = !memory.assignments.is_empty();
        let listing = [Kind::Process, Kind::Docker].into_iter().filter(|_| was_here).collect();
        let (mut statuses, mut stale_files) = (memory.statuses, memory.stale_files);
        let mut instances = BTreeMap::new();
        for assignment in memory.assignments {
            let id = assignment.instance.clone();
            let known = statuses.remove(&id);
            let mut instance = Instance::new(assignment, known, now);
            instance.restore_stale_files(stale_files.remove(&id).unwrap_or_default());
            instances.insert(id, instance);
        }
        Self {
            node,
            generation: memory.generation,
            instances,
            adopted: BTreeSet::new(),
            listing,
            unavailable: BTreeMap::new(),
            synced: false,
            explicit: false,
            kept: BTreeSet::new(),
            ending: false,
            unwanted: BTreeSet::new(),
            is_cleared: false,
            reporter: Reporter::default(),
            unreadable: BTreeMap::new(),
            started_at: now,
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            woken_at: None,
            memory_changed: false,
        }
    }

    /// Applies an event; returns the effects to perform, in order.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Connected => self.reporter.connected(now),
            Event::Assignments(assignments) => self.assign(assignments, now, &mut effects),
            Event::Adopted { driver, found } => self.adopt(driver, &found, now, &mut effects),
            Event::Unavailable { driver, message } => {
                self.adopted.remove(&driver);
                self.unavailable.insert(driver, message);
                self.record_listing(driver);
                self.change_all(Some(driver), now, &mut effects, |instance| {
                    instance.driver_became_unavailable(driver);
                });
            }
            Event::Driver(event) => {
                let id = event.piece().instance.clone();
                self.change(&id, now, &mut effects, |instance| instance.driver_event(event, now));
            }
            Event::Probed { piece, check, outcome } => {
                self.change(&piece.instance, now, &mut effects, |instance| {
                    instance.probed(&piece, check, outcome, now);
                });
            }
            Event::FilesUpdated { piece, outcome } => {
                self.change(&piece.instance, now, &mut effects, |instance| {
                    instance.files_updated(&piece, outcome, now);
                });
            }
            Event::Suspended { piece, suspend, outcome } => {
                self.change(&piece.instance, now, &mut effects, |instance| {
                    instance.suspended(&piece, suspend, outcome, now);
                });
            }
            Event::Tick => {
                self.woken_at = None;
                while let Some((_, id)) = self.wakes.first().filter(|(at, _)| *at <= now).cloned() {
                    self.change(&id, now, &mut effects, |_| {});
                }
            }
            Event::ReportSent { number, resync } => self.reporter.sent(number, resync),
            Event::ReportFailed { number } => self.reporter.failed(number, now),
            Event::End => {
                self.ending = true;
                self.change_all(None, now, &mut effects, Instance::unassign);
            }
        }
        self.conclude(now, &mut effects);
        effects
    }

    /// Whether no instance is known on this node.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// The resources of an instance with their drivers, in stack order; empty if the instance is
    /// not on this node.
    pub fn resources_of(&self, instance: &InstanceId) -> Vec<(ResourceId, Kind)> {
        let resources = self.instances.get(instance).into_iter().flat_map(Instance::resources);
        resources.map(|(name, driver)| (name.clone(), driver)).collect()
    }

    /// All resources on this node.
    pub(crate) fn resources(&self) -> impl Iterator<Item = InstanceResource> {
        self.instances.values().flat_map(|instance| {
            instance.resources().map(|(name, _)| {
                let (instance, resource) = (instance.id().clone(), name.clone());
                InstanceResource { instance, resource }
            })
        })
    }

    /// Whether complete assignments have arrived and all processes have been listed: any other
    /// remains of instances on the node are garbage.
    pub(crate) fn knows_all(&self) -> bool {
        self.synced && self.adopted.contains(&Kind::Process)
    }

    /// The current statuses of the instances on this node.
    pub fn statuses(&self) -> impl Iterator<Item = (&InstanceId, &Status)> {
        self.instances.iter().map(|(id, instance)| (id, instance.status()))
    }

    fn assign(&mut self, assignments: Assignments, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.ending || (!assignments.whole && assignments.generation <= self.generation) {
            return;
        }
        self.generation = assignments.generation;
        self.memory_changed = true;
        let mut removed: BTreeSet<_> = assignments.removed.into_iter().collect();
        if assignments.whole {
            self.synced = true;
            self.reporter.assigned();
            self.explicit = assignments.explicit;
            match self.explicit {
                true => self.kept.extend(self.instances.keys().cloned()),
                false => removed.extend(self.instances.keys().cloned()),
            }
        }
        self.unreadable.retain(|id, _| !assignments.whole && !removed.contains(id));
        for assignment in &assignments.set {
            removed.remove(&assignment.instance);
            self.unreadable.remove(&assignment.instance);
        }
        let unreadable = assignments.unreadable.iter().map(|unreadable| &unreadable.instance);
        let set = assignments.set.iter().map(|assignment| &assignment.instance);
        for id in set.chain(unreadable).chain(&removed) {
            self.kept.remove(id);
        }
        for id in self.kept.clone() {
            self.change(&id, now, effects, |_| {});
        }
        for unreadable in assignments.unreadable {
            removed.remove(&unreadable.instance);
            self.assign_unreadable(unreadable, now, effects);
        }
        for id in removed {
            self.change(&id, now, effects, Instance::unassign);
        }
        for assignment in assignments.set {
            let id = assignment.instance.clone();
            if !self.instances.contains_key(&id) {
                let instance = Instance::new(assignment, None, now);
                self.reporter.compare(&id, None, instance.status());
                self.instances.insert(id.clone(), instance);
                self.change(&id, now, effects, |_| {});
            } else {
                self.change(&id, now, effects, |instance| instance.assign(assignment, now));
            }
        }
    }

    /// Handles an assignment that cannot be parsed: an instance that runs here keeps its previous
    /// assignment, and only a stop is applied.
    fn assign_unreadable(
        &mut self,
        unreadable: Unreadable,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let Unreadable { instance: id, stop, error } = unreadable;
        match self.instances.get(&id).map(|instance| instance.assignment().cloned()) {
            Some(Some(known)) if stop => {
                let assignment = Assignment { goal: Assigned::Stop, ..known };
                self.change(&id, now, effects, |instance| instance.assign(assignment, now));
            }
            Some(None) if stop => self.change(&id, now, effects, Instance::unassign),
            Some(_) => {}
            None => {
                let phase = if stop { Phase::Stopped } else { Phase::Failed };
                let message = format!("this agent is too old for it: {error}");
                let status = Status { message: Some(message), ..Status::new(phase, now) };
                self.reporter.compare(&id, None, &status);
                self.unreadable.entry(id).or_insert(status);
            }
        }
    }

    fn adopt(&mut self, driver: Kind, found: &[Found], now: Timestamp, effects: &mut Vec<Effect>) {
        self.adopted.insert(driver);
        self.unavailable.remove(&driver);
        self.record_listing(driver);
        let mut by_instance: BTreeMap<&InstanceId, Vec<&Found>> = BTreeMap::new();
        for found in found {
            by_instance.entry(&found.piece.instance).or_default().push(found);
        }
        for (id, found) in &by_instance {
            if let Some(first) = found.first().filter(|_| !self.instances.contains_key(*id)) {
                let mut instance = Instance::found(driver, first, now);
                if self.ending || self.synced && !self.explicit {
                    instance.unassign();
                } else if self.synced {
                    self.kept.insert((*id).clone());
                }
                self.reporter.compare(id, None, instance.status());
                if instance.is_unwanted() {
                    self.unwanted.insert((*id).clone());
                }
                self.instances.insert((*id).clone(), instance);
            }
        }
        // Includes instances whose runs of this driver have all been lost.
        let found_of = |id: &InstanceId| by_instance.get(id).map_or(&[][..], Vec::as_slice);
        let concerned = self.instances.values().filter(|instance| {
            instance.has_driver(driver) || by_instance.contains_key(instance.id())
        });
        let concerned: Vec<_> = concerned.map(|instance| instance.id().clone()).collect();
        for id in concerned {
            self.change(&id, now, effects, |instance| {
                instance.apply_listing(driver, found_of(&id), now);
            });
        }
    }

    /// Records that a driver has listed its runs or is unavailable.
    fn record_listing(&mut self, driver: Kind) {
        if self.listing.remove(&driver) {
            self.is_cleared |= self.listing.is_empty();
        }
    }

    fn change_all(
        &mut self,
        driver: Option<Kind>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
        mut how: impl FnMut(&mut Instance),
    ) {
        let of_driver = |instance: &Instance| driver.is_none_or(|kind| instance.has_driver(kind));
        let ids: Vec<_> =
            self.instances.iter().filter(|(_, i)| of_driver(i)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.change(&id, now, effects, &mut how);
        }
    }

    /// Changes one instance and performs the steps that follow. All changes of instances go through
    /// this method.
    fn change(
        &mut self,
        id: &InstanceId,
        now: Timestamp,
        effects: &mut Vec<Effect>,
        how: impl FnOnce(&mut Instance),
    ) {
        if let Some(at) = self.wake_of.remove(id) {
            self.wakes.remove(&(at, id.clone()));
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        let before = (instance.status().clone(), instance.stale_files());
        how(instance);
        let unavailable =
            |driver| match (self.adopted.contains(&driver), self.unavailable.get(&driver)) {
                (true, _) => None,
                (false, Some(why)) => Some(why.as_str()),
                (false, None) => Some("waits for its driver to list existing runs"),
            };
        let blocked_by = match self.unwanted.first() {
            _ if !instance.is_new() => None,
            Some(other) => {
                Some(format!("waits for {other} to end, which is not assigned to this node"))
            }
            None if self.listing.is_empty() => None,
            None => Some("waits until existing runs are listed".into()),
        };
        let stepped = instance.step(unavailable, blocked_by.as_deref(), now, effects);
        if instance.is_unwanted() || self.kept.contains(id) && instance.is_held() {
            self.unwanted.insert(id.clone());
        } else if self.unwanted.remove(id) {
            self.is_cleared |= self.unwanted.is_empty();
        }
        let after = instance.status();
        let (status, stale_files) = before;
        self.reporter.compare(id, Some(&status), after);
        self.memory_changed |=
            kept(&status) != kept(after) || stale_files != instance.stale_files();
        match stepped {
            Stepped::Stays(None) => {}
            Stepped::Stays(Some(at)) => {
                // This step has performed everything that is due now, so the wake-up must be later:
                // otherwise it could repeat forever.
                let at = at.max(Timestamp(now.0.saturating_add(1)));
                self.wakes.insert((at, id.clone()));
                self.wake_of.insert(id.clone(), at);
            }
            Stepped::Gone => {
                self.instances.remove(id);
                self.kept.remove(id);
                self.memory_changed = true;
            }
        }
    }

    /// Emits the effects that can follow any event: a report, the memory to store, the next
    /// wake-up.
    fn conclude(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.is_cleared) {
            self.change_all(None, now, effects, |_| {});
        }
        if let Some(due) = self.reporter.due(now) {
            effects.push(Effect::Report(self.report(&due)));
        }
        if std::mem::take(&mut self.memory_changed) {
            effects.push(Effect::Persist(self.memory()));
        }
        let first = self.wakes.first().map(|(at, _)| *at);
        let wake_at = first.into_iter().chain(self.reporter.wake_at()).min();
        if wake_at != self.woken_at {
            self.woken_at = wake_at;
            effects.extend(wake_at.map(Effect::WakeAt));
        }
    }

    fn report(&self, due: &Due) -> Report {
        let status =
            |(id, instance): (&InstanceId, &Instance)| (id.clone(), instance.status().clone());
        let unreadable = self.unreadable.iter().map(|(id, status)| (id.clone(), status.clone()));
        let instances = match due {
            Due::Whole => self.instances.iter().map(status).chain(unreadable).collect(),
            Due::Changed(ids) => {
                let changed = ids.iter().filter_map(|id| self.instances.get_key_value(id));
                let unreadable = unreadable.filter(|(id, _)| ids.contains(id));
                changed.map(status).chain(unreadable).collect()
            }
        };
        Report {
            node: self.node.clone(),
            life: self.started_at.0,
            number: self.reporter.count(),
            generation: self.generation,
            whole: *due == Due::Whole,
            instances,
        }
    }

    fn memory(&self) -> Memory {
        let assigned = || self.instances.values().filter_map(Instance::assignment);
        let statuses = assigned().filter_map(|assignment| {
            let instance = self.instances.get(&assignment.instance)?;
            Some((assignment.instance.clone(), instance.status().clone()))
        });
        let stale_files = self.instances.iter().filter_map(|(id, instance)| {
            let stale_files = instance.stale_files();
            (!stale_files.is_empty()).then(|| (id.clone(), stale_files))
        });
        Memory {
            generation: self.generation,
            assignments: assigned().cloned().collect(),
            statuses: statuses.collect(),
            stale_files: stale_files.collect(),
        }
    }
}

fn kept(status: &Status) -> Kept {
    (status.run, status.phase, status.healthy, status.ready)
}
