//! The only way to change the state. [`State::apply`] is deterministic and total: it re-checks the
//! assumptions of the proposer and rejects a stale proposal. A rejected proposal leaves the state
//! unchanged.
//!
//! `change` has the commands on services, `steer` those on deployments; commands on nodes and the
//! planner's steps are here.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::changeset::{Changeset, Outcome};
use crate::deployment::{MoveState, Stage};
use crate::event::{About, What};
use crate::id::{DeploymentId, GatewayId, InstanceId, NodeId, RevisionNumber, ServiceId};
use crate::nearest::nearest;
use crate::node::{Availability, Node};
use crate::object::Key;
use crate::outcome::ChangeKind;
use crate::pause::Pause;
use crate::principal::{Origin, Principal};
use crate::proposal::{Command, Guard, Proposal};
use crate::refusal::Refusal;
use crate::registration::Registration;
use crate::revision::RevisionOutcome;
use crate::run::Run;
use crate::service::{Given, Goal, Placement, Service, StopReason};
use crate::size::json_bytes;
use crate::state::State;
use crate::step::Step;
use crate::unit::Timestamp;
use crate::usage::NodeUsage;

impl State {
    /// Applies a proposal. `at` is the timestamp that its proposer assigned. A request that was
    /// executed before has no effect and its first outcome.
    pub fn apply(&mut self, proposal: Proposal, at: Timestamp) -> Outcome {
        let Proposal { id, by, via, guard, command } = proposal;
        self.permits(&by, &command)?;
        if let Some(first) = id.as_ref().and_then(|id| self.first_outcome(id, &by)) {
            return first;
        }
        self.check(&guard)?;
        if !guard.force {
            self.check_frozen(&command)?;
        }
        let mut applied = self.execute(command, &guard, at)?;
        // A step of the planner is an action of the cluster itself, so its events have no author.
        if by != Principal::Planner {
            self.record_author(&by, via.as_ref(), guard.force, &mut applied);
        }
        if let Some(id) = id {
            let outcome = Ok(applied.changes.clone());
            applied.changed.append(&mut self.record_request(id, by, outcome, at));
        }
        Ok(applied)
    }

    fn record_author(
        &mut self,
        by: &Principal,
        via: Option<&Origin>,
        forced: bool,
        applied: &mut Changeset,
    ) {
        for event in &mut applied.events {
            event.by = Some(by.clone());
        }
        for id in applied.changes.iter().filter_map(|change| change.deployment) {
            if let Some(deployment) = self.deployments.get_mut(&id) {
                let deployment = Arc::make_mut(deployment);
                deployment.by = Some(by.clone());
                deployment.via = via.cloned();
                deployment.forced = forced;
            }
        }
    }

    fn execute(&mut self, command: Command, guard: &Guard, at: Timestamp) -> Outcome {
        match command {
            Command::Adopt(step) => self.adopt(step, at),
            Command::Register(registration) => {
                let problems = registration.problems();
                if !problems.is_empty() {
                    let problems = problems.into_iter().map(|problem| (0, problem)).collect();
                    return Err(Refusal::Invalid { problems });
                }
                Ok(self.register(registration, at))
            }
            Command::SetAvailability { node, availability } => {
                self.set_availability(node, availability, at)
            }
            Command::RemoveNode(node) => self.remove_node(node, guard.force, at),
            Command::RemoveGateway(gateway) => self.remove_gateway(gateway, at),
            Command::BecomeLeader => Ok(self.become_leader(at)),
            Command::BeginTerm(start) => Ok(self.begin_term(start)),
            Command::AcceptLoss { lost, start } => Ok(self.accept_loss(lost, start, at)),
            Command::StopUnknown { node, instances } => self.stop_unknown(node, instances, at),
            Command::Steer { deployment, how } => self.steer(deployment, how, at),
            Command::Apply(documents) => self.apply_documents(documents, guard.retry, at),
            Command::Scale { service, instances } => self.scale(service, instances, at),
            Command::ScaleBy { service, by } => self.scale_by(service, by, at),
            Command::Restart { service } => self.restart(service, at),
            Command::Undo { service, to } => self.undo(service, to, at),
            Command::SetRun { services, run } => self.set_run(services, run, at),
            Command::SetFrozen { services, resources, frozen } => {
                self.set_frozen(services, &resources, frozen, at)
            }
            Command::RemoveServices(services) => self.remove_services(services, at),
            Command::Kill { instances, scale } => self.kill(instances, scale, at),
            Command::ResetDelay { service } => self.reset_delay(service, at),
        }
    }

    fn check(&self, guard: &Guard) -> Result<(), Refusal> {
        let present = |id| self.services.get(id).filter(|service| !service.removing);
        for (id, seen) in &guard.seen {
            if present(id).map(|service| service.target) != *seen {
                return Err(Refusal::Changed { service: id.clone() });
            }
        }
        let moving = |id| {
            let deployment = self.services.get(id)?.deployment?;
            let stage = &self.deployments.get(&deployment)?.stage;
            // A paused deployment moves nothing.
            (*stage != Stage::Paused).then_some((id, deployment))
        };
        let moving: Vec<_> = guard.still.iter().filter_map(moving).collect();
        let by: BTreeSet<_> = moving.iter().map(|(_, deployment)| *deployment).collect();
        match moving.first() {
            None => Ok(()),
            Some((service, _)) => Err(Refusal::Moving {
                service: ServiceId::clone(service),
                by: by.into_iter().collect(),
            }),
        }
    }

    fn check_frozen(&self, command: &Command) -> Result<(), Refusal> {
        let is_frozen = |id: &ServiceId| self.service(id).is_some_and(|service| service.frozen);
        match command.acts_on().into_iter().find(|id| is_frozen(id)) {
            None => Ok(()),
            Some(id) => Err(Refusal::Frozen { service: id.clone() }),
        }
    }

    pub(crate) fn unknown_service(&self, id: &ServiceId) -> Refusal {
        let known = self.services.keys().map(ServiceId::as_str);
        let nearest = nearest(id.as_str(), known);
        Refusal::Unknown { kind: "service".into(), name: id.to_string(), nearest }
    }

    fn unknown_node(&self, id: &NodeId) -> Refusal {
        let nearest = nearest(id.as_str(), self.nodes.keys().map(NodeId::as_str));
        Refusal::Unknown { kind: "node".into(), name: id.to_string(), nearest }
    }

    pub(crate) fn service_mut(&mut self, id: &ServiceId) -> Result<&mut Service, Refusal> {
        match self.services.get_mut(id) {
            Some(service) => Ok(Arc::make_mut(service)),
            None => Err(Refusal::Stale("the service is gone")),
        }
    }

    fn register(&mut self, registration: Registration, at: Timestamp) -> Changeset {
        let mut applied = Changeset::default();
        let id = registration.node;
        let known = self.nodes.get(&id).map(|node| NodeUsage::clone(node));
        let mut next = known.clone().unwrap_or_else(|| NodeUsage::new(Node::new(id.clone())));
        match registration.agent {
            None => {
                next.node.gateway = true;
                // The address is that of the instances, which only their agent knows.
                if next.node.capacity.is_none() {
                    next.node.address = registration.address;
                }
            }
            Some(agent) => {
                next.node.address = registration.address;
                next.node.agent_id = agent.id;
                next.node.agent_port = agent.port;
                next.node.labels = agent.labels;
                next.node.capabilities = agent.capabilities;
                next.node.ports = agent.ports;
                next.node.software = agent.software;
                // A node may have shrunk below the usage of its instances. They keep their
                // allocation, and nothing is placed there until enough of them have left.
                let mut capacity = agent.capacity;
                capacity.cpu = capacity.cpu.max(next.used.cpu);
                capacity.memory = capacity.memory.max(next.used.memory);
                next.node.capacity = Some(capacity);
            }
        }
        if known.as_ref() == Some(&next) {
            return applied;
        }
        let change = applied.change("node", &id, ChangeKind::Updated);
        if known.is_none() {
            change.verdict = ChangeKind::Created;
            applied.event(at, About::Node(id.clone()), What::NodeJoined);
        }
        applied.changed.insert(Key::Node(id.clone()));
        self.nodes.insert_mut(id.clone(), Arc::new(next));
        self.refresh(&id);
        self.recount_on(&id);
        applied
    }

    fn set_availability(&mut self, id: NodeId, to: Availability, at: Timestamp) -> Outcome {
        let Some(node) = self.nodes.get_mut(&id) else { return Err(self.unknown_node(&id)) };
        let mut applied = Changeset::default();
        if node.node.availability == to {
            applied.change("node", &id, ChangeKind::Unchanged);
            return Ok(applied);
        }
        Arc::make_mut(node).node.availability = to;
        self.refresh(&id);
        self.recount_on(&id);
        applied.changed.insert(Key::Node(id.clone()));
        applied.change("node", &id, ChangeKind::Updated);
        let what = match to {
            Availability::Active => What::NodeActive,
            Availability::Cordoned => What::NodeCordoned,
            Availability::Draining => What::NodeDraining,
        };
        applied.event(at, About::Node(id), what);
        Ok(applied)
    }

    fn remove_node(&mut self, id: NodeId, force: bool, at: Timestamp) -> Outcome {
        let Some(node) = self.nodes.get(&id) else { return Err(self.unknown_node(&id)) };
        if !node.instances.is_empty() && !force {
            let count = node.instances.len();
            let message = format!(
                "{count} instances are placed on {id}: drain it first or, if it is gone for good, \
                 use `muster node rm {id} --force`"
            );
            return Err(Refusal::Conflict { message });
        }
        let mut applied = Changeset::default();
        for instance in node.instances.clone() {
            applied.extend(self.forget(instance, StopReason::Lost, at)?);
        }
        self.nodes.remove_mut(&id);
        self.refresh(&id);
        applied.changed.insert(Key::Node(id.clone()));
        applied.change("node", &id, ChangeKind::Removed);
        applied.event(at, About::Node(id), What::NodeRemoved);
        Ok(applied)
    }

    fn stop_unknown(
        &mut self,
        id: NodeId,
        instances: BTreeSet<InstanceId>,
        at: Timestamp,
    ) -> Outcome {
        let Some(node) = self.nodes.get_mut(&id) else { return Err(self.unknown_node(&id)) };
        let placed = instances.iter().find(|instance| node.instances.contains(instance));
        if let Some(placed) = placed {
            let message = format!("{placed} is placed on {id}: `muster kill` stops it");
            return Err(Refusal::Conflict { message });
        }
        let mut applied = Changeset::default();
        let count = instances.len();
        Arc::make_mut(node).node.stop_unknown = instances;
        applied.changed.insert(Key::Node(id.clone()));
        applied.change("node", &id, ChangeKind::Updated);
        applied.event(at, About::Node(id), What::UnknownStopped { count });
        Ok(applied)
    }

    fn remove_gateway(&mut self, id: GatewayId, at: Timestamp) -> Outcome {
        let mut applied = Changeset::default();
        if !self.drop_gateway(id.clone(), at, &mut applied) {
            let nearest = nearest(id.as_str(), self.gateways.keys().map(GatewayId::as_str));
            return Err(Refusal::Unknown { kind: "gateway".into(), name: id.to_string(), nearest });
        }
        Ok(applied)
    }

    fn adopt(&mut self, step: Step, at: Timestamp) -> Outcome {
        match step {
            Step::Place { instance, revision, node, given } => {
                self.place(instance, revision, node, given, at)
            }
            Step::Drain { instance, until, why } => {
                self.leave(instance, Goal::Drain { until, why }, why, at)
            }
            Step::Stop { instance, why } => self.leave(instance, Goal::Stop { why }, why, at),
            Step::Pause { instance, pause } => self.pause(instance, pause, at),
            Step::Resume { instance } => self.resume(instance, at),
            Step::Forget { instance, why } => self.forget(instance, why, at),
            Step::Progress { service, ready } => self.progress(service, ready, at),
            Step::Arrive { service } => self.arrive(service, at),
            Step::Fail { deployment, service, reason } => {
                self.fail(deployment, &service, reason, at)
            }
        }
    }

    fn place(
        &mut self,
        id: InstanceId,
        revision: RevisionNumber,
        node: NodeId,
        given: Given,
        at: Timestamp,
    ) -> Outcome {
        let Some(service) = self.services.get(&id.service) else {
            return Err(Refusal::Stale("the service is gone"));
        };
        let slot = service.slot(id.replica.slot);
        if id.replica.slot >= service.spec().instances {
            return Err(Refusal::Stale("the service wants fewer instances"));
        }
        if service.target != revision || service.is_leaving() {
            return Err(Refusal::Stale("the service aims for another revision"));
        }
        if service.is_paused() {
            return Err(Refusal::Stale("the service is paused"));
        }
        if id.replica.attempt != slot.attempts + 1 {
            return Err(Refusal::Stale("the slot has been placed meanwhile"));
        }
        let spec = Arc::clone(service.spec());
        let requirements = self.requirements(service);
        let Some(host) = self.nodes.get(&node) else {
            return Err(Refusal::Stale("the node is gone"));
        };
        if host.rejection(&requirements).is_some() {
            return Err(Refusal::Stale("the node cannot take it any more"));
        }
        if !host.ports_available(&given.ports, &spec) {
            return Err(Refusal::Stale("a port has been taken meanwhile"));
        }
        // Drop this reference to the shared counts first, or changing them would copy them.
        drop(requirements);
        let goal = Goal::Run;
        let placement =
            Placement { revision, node: node.clone(), given, goal, pause: None, placed_at: at };
        if let Some(service) = self.allocate(id.clone(), placement) {
            let slot = id.replica.slot as usize;
            if service.slots.len() <= slot {
                let unused = service.slot(id.replica.slot);
                service.slots.resize(slot + 1, unused);
            }
            service.slots[slot].attempts = id.replica.attempt;
        }
        self.count_placed(&id.service, revision, &node);
        let mut applied = Changeset::default();
        applied.changed.insert(Key::Service(id.service.clone()));
        applied.changed.insert(Key::Instance(id.clone()));
        applied.event(at, About::Instance(id), What::Placed { node, revision });
        Ok(applied)
    }

    pub(crate) fn leave(
        &mut self,
        id: InstanceId,
        goal: Goal,
        why: StopReason,
        at: Timestamp,
    ) -> Outcome {
        let service = self.service_mut(&id.service)?;
        let restart = service.spec().restart.clone();
        let current = service.target().template;
        let Some(placement) = service.placements.get_mut(&id.replica) else {
            return Err(Refusal::Stale("the instance is gone"));
        };
        let is_forward = matches!(
            (&placement.goal, &goal),
            (Goal::Run, _) | (Goal::Drain { .. }, Goal::Stop { .. })
        );
        if !is_forward {
            return Err(Refusal::Stale("the instance is terminating already"));
        }
        let was_wanted = placement.is_wanted();
        let (revision, placed_at) = (placement.revision, placement.placed_at);
        let node = placement.node.clone();
        placement.goal = goal;
        let mut applied = Changeset::default();
        applied.changed.insert(Key::Instance(id.clone()));
        if was_wanted && why == StopReason::Unhealthy && service.template(revision) == current {
            // Repeated failures delay the next placement of this slot.
            if let Some(slot) = service.slots.get_mut(id.replica.slot as usize) {
                slot.fail(placed_at, at, &restart);
                applied.changed.insert(Key::Service(id.service.clone()));
            }
        }
        let what = match service.placements[&id.replica].goal {
            Goal::Drain { .. } => What::Draining { why },
            _ => What::Stopping { why },
        };
        if was_wanted {
            self.count_left(&id.service, revision, &node);
        }
        applied.event(at, About::Instance(id), what);
        Ok(applied)
    }

    fn pause(&mut self, id: InstanceId, pause: Pause, at: Timestamp) -> Outcome {
        let service = self.service_mut(&id.service)?;
        if !service.is_paused() {
            return Err(Refusal::Stale("the service is not paused"));
        }
        let placement = running(service, &id)?;
        let is_forward = matches!(
            (placement.pause, pause),
            (None, _) | (Some(Pause::Drain { .. }), Pause::Suspend)
        );
        if !is_forward {
            return Err(Refusal::Stale("the instance is paused already"));
        }
        placement.pause = Some(pause);
        let what = match pause {
            Pause::Drain { .. } => What::Pausing,
            Pause::Suspend => What::Paused,
        };
        Ok(changed_instance(id, what, at))
    }

    fn resume(&mut self, id: InstanceId, at: Timestamp) -> Outcome {
        let service = self.service_mut(&id.service)?;
        if service.is_paused() {
            return Err(Refusal::Stale("the service is paused"));
        }
        match running(service, &id)?.pause.take() {
            Some(_) => Ok(changed_instance(id, What::Resumed, at)),
            None => Err(Refusal::Stale("the instance is not paused")),
        }
    }

    fn forget(&mut self, id: InstanceId, why: StopReason, at: Timestamp) -> Outcome {
        let Some(placement) = self.release(&id) else {
            return Err(Refusal::Stale("the instance is gone"));
        };
        if placement.is_wanted() {
            self.count_left(&id.service, placement.revision, &placement.node);
        }
        let mut applied =
            Changeset { changed: [Key::Instance(id.clone())].into(), ..Changeset::default() };
        let what = match why {
            StopReason::Lost => What::Lost,
            why => What::Stopped { why },
        };
        self.prune_revisions(&id.service, &mut applied);
        applied.event(at, About::Instance(id), what);
        Ok(applied)
    }

    fn progress(&mut self, id: ServiceId, ready: u32, at: Timestamp) -> Outcome {
        let deployment = self.deployment_moving(&id)?;
        let deployment = Arc::make_mut(deployment);
        let number = deployment.id;
        let moving = deployment.move_mut(&id).filter(|m| m.state == MoveState::Moving);
        let Some(moving) = moving else {
            return Err(Refusal::Stale("the service has stopped moving"));
        };
        if moving.progressed_at.is_some() && moving.ready >= ready {
            return Err(Refusal::Stale("the progress is known"));
        }
        moving.ready = moving.ready.max(ready);
        moving.progressed_at = Some(at);
        Ok(Changeset { changed: [Key::Deployment(number)].into(), ..Changeset::default() })
    }

    fn arrive(&mut self, id: ServiceId, at: Timestamp) -> Outcome {
        let service = self.services.get(&id).ok_or(Refusal::Stale("the service is gone"))?;
        let is_there = |p: &Placement| match service.is_paused() {
            // What is missing or outdated is replaced once it is started.
            true => p.is_wanted() && p.is_suspended(),
            false => p.may_serve() && service.is_current(p.revision),
        };
        let is_complete =
            service.is_paused() || service.placements.len() == service.wanted() as usize;
        if !is_complete || !service.placements.values().all(is_there) {
            return Err(Refusal::Stale("the service has further to go"));
        }
        let deployment = self.deployment_moving(&id)?;
        if deployment.stage.is_suspended() {
            return Err(Refusal::Stale("the deployment is suspended"));
        }
        let deployment = Arc::make_mut(deployment);
        let number = deployment.id;
        let mut applied =
            Changeset { changed: [Key::Deployment(number)].into(), ..Changeset::default() };
        if let Some(moving) = deployment.move_mut(&id) {
            moving.state = MoveState::Done;
        }
        let over = self.end_if_complete(number, at);
        let service = self.service_mut(&id)?;
        applied.changed.insert(Key::Service(id.clone()));
        if service.removing {
            for number in service.revisions.keys() {
                applied.changed.insert(Key::Revision(id.clone(), *number));
            }
            let attempts = service.slots.iter().map(|slot| slot.attempts).max();
            let attempts = attempts.unwrap_or(0).max(service.attempts_before);
            if attempts > self.meta.attempts {
                self.meta.attempts = attempts;
                applied.changed.insert(Key::Meta);
            }
            self.services.remove_mut(&id);
            applied.event(at, About::Service(id), What::Removed);
        } else {
            let (run, revision) = (service.run, service.target);
            service.deployment = None;
            // A service that is paused or stopped has not shown that its revision works.
            if run == Run::Started {
                service.settled = Some(revision);
                if !service.target().has_succeeded() {
                    let outcome = RevisionOutcome::Succeeded { at };
                    self.conclude(&id, revision, outcome, &mut applied);
                }
            }
            self.prune_revisions(&id, &mut applied);
            if run == Run::Started {
                applied.event(at, About::Service(id), What::Arrived { revision });
            }
        }
        // The service's own event precedes the event of the deployment that it completes.
        if let Some(what) = over {
            applied.event(at, About::Deployment(number), what);
        }
        self.prune_deployments(&mut applied);
        Ok(applied)
    }

    pub(crate) fn deployment_moving(
        &mut self,
        service: &ServiceId,
    ) -> Result<&mut Arc<crate::deployment::Deployment>, Refusal> {
        let id = self.services.get(service).and_then(|service| service.deployment);
        let id: DeploymentId = id.ok_or(Refusal::Stale("the service does not move"))?;
        self.deployments.get_mut(&id).ok_or(Refusal::Stale("the deployment is gone"))
    }

    /// Drops old revisions that nothing refers to.
    pub(crate) fn prune_revisions(&mut self, id: &ServiceId, applied: &mut Changeset) {
        const KEPT: usize = 10;
        // Of all but the newest two, which an undo needs.
        const BYTES_MAX: usize = 4 << 20;
        let Some(service) = self.services.get(id) else { return };
        if service.revisions.len() <= 2 {
            return;
        }
        let mut bytes = 0;
        let newest_first = service.revisions.iter().rev().enumerate();
        let recent = newest_first.take_while(|(newer, (_, revision))| {
            bytes += json_bytes(revision);
            *newer < KEPT && (*newer < 2 || bytes <= BYTES_MAX)
        });
        let recent: Vec<_> = recent.map(|(_, (number, _))| *number).collect();
        if recent.len() == service.revisions.len() {
            return;
        }
        let placed = service.placements.values().map(|placement| placement.revision);
        // A deployment that is not over may roll back, including services that have arrived.
        let going = self.deployments.values().filter(|deployment| !deployment.stage.is_over());
        let from = going.filter_map(|deployment| deployment.move_of(id)?.from);
        let mut kept: BTreeSet<RevisionNumber> =
            recent.into_iter().chain(placed).chain(from).collect();
        let undo = service.last_success().map(|revision| revision.number);
        kept.extend([Some(service.target), service.settled, undo].into_iter().flatten());
        // A template is the number of the first revision that has it, so it is kept with its users.
        kept.extend(kept.clone().iter().map(|number| service.template(*number)));
        let dropped: Vec<_> =
            service.revisions.keys().filter(|number| !kept.contains(number)).copied().collect();
        let Ok(service) = self.service_mut(id) else { return };
        for number in dropped {
            service.revisions.remove(&number);
            applied.changed.insert(Key::Revision(id.clone(), number));
        }
    }

    /// Drops old deployments that are over.
    pub(crate) fn prune_deployments(&mut self, applied: &mut Changeset) {
        const KEPT: usize = 200;
        let excess = self.deployments.size().saturating_sub(KEPT);
        let over = self.deployments.values().filter(|deployment| deployment.stage.is_over());
        let dropped: Vec<_> = over.take(excess).map(|deployment| deployment.id).collect();
        for id in dropped {
            self.deployments.remove_mut(&id);
            applied.changed.insert(Key::Deployment(id));
        }
    }
}

/// The placement of an instance of `service` that does not terminate.
fn running<'s>(service: &'s mut Service, id: &InstanceId) -> Result<&'s mut Placement, Refusal> {
    let placement = service.placements.get_mut(&id.replica);
    let placement = placement.ok_or(Refusal::Stale("the instance is gone"))?;
    match placement.is_wanted() {
        true => Ok(placement),
        false => Err(Refusal::Stale("the instance is terminating already")),
    }
}

fn changed_instance(id: InstanceId, what: What, at: Timestamp) -> Changeset {
    let changed = [Key::Instance(id.clone())].into();
    let mut applied = Changeset { changed, ..Changeset::default() };
    applied.event(at, About::Instance(id), what);
    applied
}
