//! Users: the commands that they send at random moments, and the acknowledgements of the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Availability, Change, ChangeKind, Command, Deployment, Document, NodeId, RequestId,
    RevisionNumber, Run, ServiceId, Steer, Value,
};

use crate::documents::{self, SERVICES};
use crate::environment::Environment;
use crate::event::SimEvent;
use crate::machine::DEFECT;
use crate::message::{Call, Caller, Reply};
use crate::network::Location;

/// All users of a cluster.
#[derive(Debug)]
pub(crate) struct Users {
    /// The services that they change.
    services: Vec<ServiceId>,
    /// The longest interval between two commands.
    interval_ms: u64,
    /// Commands that may still be executed.
    pending: BTreeMap<u64, Pending>,
    pub(crate) promised: Promised,
    /// Number of commands that the server acknowledged.
    pub(crate) acknowledged: u64,
}

/// The part of the cluster that users can see.
pub(crate) struct View {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) services: Vec<ServiceId>,
    pub(crate) newest_deployment: Option<Arc<Deployment>>,
}

/// A command that may still be executed.
#[derive(Debug, Clone, Default)]
struct Pending {
    removes: Vec<ServiceId>,
    steers: Option<(NodeId, Availability)>,
    /// Services and nodes that another command concerns as well, if it was sent before this one was
    /// acknowledged: which of the two is executed last is unknown.
    ambiguous: BTreeSet<String>,
}

/// The acknowledged changes that no later command may have replaced.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    /// The newest acknowledged revision of each service.
    pub(crate) revisions: BTreeMap<ServiceId, RevisionNumber>,
    pub(crate) availability: BTreeMap<NodeId, Availability>,
}

impl Users {
    pub(crate) fn new(services: usize, interval_ms: u64) -> Users {
        let services = SERVICES[..services].iter();
        Users {
            services: services.map(|name| name.parse().expect("a path")).collect(),
            interval_ms,
            pending: BTreeMap::new(),
            promised: Promised::default(),
            acknowledged: 0,
        }
    }

    /// One user sends a command.
    pub(crate) fn act(&mut self, env: &mut Environment, view: &View) {
        if env.healed {
            return;
        }
        let span = env.span(self.interval_ms / 20..=self.interval_ms);
        env.after(span, SimEvent::UserActs);
        let command = self.draw_command(env, view);
        let mut pending = Pending::default();
        match &command {
            Command::RemoveServices(services) => {
                pending.removes = services.clone();
            }
            // The abort of a deployment removes the services that are new in it.
            Command::Steer { how: Steer::Abort, .. } => {
                let moves = view.newest_deployment.iter().flat_map(|newest| &newest.moves);
                let new = moves.filter(|m| m.from.is_none()).map(|m| m.service.clone());
                pending.removes = new.collect();
            }
            Command::SetAvailability { node, availability } => {
                pending.steers = Some((node.clone(), *availability));
                self.promised.availability.remove(node);
                let others = self.pending.values().filter_map(|other| other.steers.as_ref());
                if others.clone().any(|(other, _)| other == node) {
                    pending.ambiguous.insert(node.to_string());
                }
                self.mark_ambiguous(node);
            }
            _ => {}
        }
        for service in &pending.removes {
            self.promised.revisions.remove(service);
            self.mark_ambiguous(service);
        }
        let number = env.number();
        env.note(format_args!("user: {}", describe(&command)));
        self.pending.insert(number, pending);
        let key = format!("user-{number}").parse().expect("a request key");
        let id = RequestId { key, digest: number };
        env.call(
            Location::Server,
            Caller::User(number),
            Call::Command { id, command: Box::new(command) },
        );
    }

    /// Pending commands about a service or a node may be executed before or after a new one.
    fn mark_ambiguous(&mut self, name: impl std::fmt::Display) {
        for other in self.pending.values_mut() {
            other.ambiguous.insert(name.to_string());
        }
    }

    /// The response to a command arrives.
    pub(crate) fn response(&mut self, number: u64, reply: Reply) {
        let Some(pending) = self.pending.get(&number).cloned() else { return };
        let Reply::Changeset(Ok(changeset)) = reply else {
            // A command without a response may be executed later or never: it stays pending.
            if !matches!(reply, Reply::Failed) {
                self.pending.remove(&number);
            }
            return;
        };
        self.pending.remove(&number);
        self.acknowledged += 1;
        for Change { name, verdict, revision, .. } in changeset.changes {
            let (Ok(service), Some(revision)) = (name.parse::<ServiceId>(), revision) else {
                continue;
            };
            let removed = self.pending.values().any(|other| other.removes.contains(&service));
            let removed = removed || pending.ambiguous.contains(service.as_str());
            if verdict != ChangeKind::Removed && !removed && !pending.removes.contains(&service) {
                let known = self.promised.revisions.entry(service).or_insert(revision);
                *known = revision.max(*known);
            }
        }
        if let Some((node, availability)) = pending.steers
            && !pending.ambiguous.contains(node.as_str())
        {
            self.promised.availability.insert(node, availability);
        }
    }

    fn draw_command(&self, env: &mut Environment, view: &View) -> Command {
        let bug = env.bug;
        let rng = &mut env.scheduler.rng;
        let service = rng.choice(&self.services).expect("there are services").clone();
        match rng.u32(0..35) {
            30 => Command::BecomeLeader,
            31..35 => {
                let choice = [Run::Paused, Run::Paused, Run::Started, Run::Started, Run::Stopped];
                let run = choice[rng.usize(0..choice.len())];
                Command::SetRun { services: vec![service], run }
            }
            0..14 => Command::Apply(vec![documents::service(rng, &service, bug)]),
            14..17 => {
                let mut services: BTreeSet<_> = [service].into();
                services.extend(rng.choice(&self.services).cloned());
                let documents = services.iter().map(|id| documents::service(rng, id, bug));
                Command::Apply(documents.collect())
            }
            17..20 => Command::Scale { service, instances: rng.u32(0..6) },
            20 | 21 => Command::Restart { service },
            22 => Command::Undo { service, to: None },
            23 if rng.bool() => Command::RemoveServices(view.services.clone()),
            23 => Command::RemoveServices(vec![service]),
            24 => Command::Apply(vec![documents::gateway(rng, &service)]),
            25 | 26 => {
                let choice = [
                    Availability::Active,
                    Availability::Active,
                    Availability::Cordoned,
                    Availability::Draining,
                ];
                let availability = choice[rng.usize(0..choice.len())];
                let node = rng.choice(&view.nodes).expect("there are nodes").clone();
                Command::SetAvailability { node, availability }
            }
            _ => match &view.newest_deployment {
                Some(newest) => {
                    let choice = [Steer::Pause, Steer::Resume, Steer::Resume, Steer::Abort];
                    Command::Steer {
                        deployment: newest.id,
                        how: choice[rng.usize(0..choice.len())],
                    }
                }
                None => Command::Apply(vec![documents::gateway(rng, &service)]),
            },
        }
    }
}

/// A command in one line.
fn describe(command: &Command) -> String {
    let Command::Apply(documents) = command else { return format!("{command:?}") };
    let documents = documents.iter().map(|document: &Document| match document.spec() {
        Some(spec) => format!(
            "apply {} x{} min_healthy {} max_surge {} {}",
            spec.service,
            spec.instances,
            spec.rollout.min_healthy,
            spec.rollout.max_surge,
            spec.env.get(DEFECT).and_then(Value::as_text).unwrap_or(""),
        ),
        None => format!("{document:?}"),
    });
    documents.collect::<Vec<_>>().join(", ")
}
