//! What changes the state. Every change is a [`Command`]; its proposer stamps the time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::deployment::Origin;
use crate::gateway::Gateway;
use crate::group::Group;
use crate::id::{DeploymentId, GatewayId, InstanceId, NodeId, RevisionNumber, ServiceId};
use crate::node::Availability;
use crate::object::Key;
use crate::problem::Problem;
use crate::service::{Source, StopReason};
use crate::spec::{Resources, Spec};
use crate::unit::Timestamp;

/// A change to the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Make services and gateways as the documents say, as one deployment.
    Apply(Vec<Document>),
    /// Change the number of instances.
    Scale {
        /// The service.
        service: ServiceId,
        /// How many should run.
        instances: u32,
    },
    /// Start all instances anew, within the rollout's budget.
    Restart {
        /// The service.
        service: ServiceId,
    },
    /// Go back to an earlier revision, with as many instances as now.
    Undo {
        /// The service.
        service: ServiceId,
        /// That revision; by default the one before.
        to: Option<RevisionNumber>,
    },
    /// Stop and forget services, as one deployment.
    RemoveServices(Vec<ServiceId>),
    /// Let instances leave at once, whatever their service's budget says.
    Kill {
        /// The instances; those that are gone already are passed over.
        instances: Vec<InstanceId>,
        /// Whether their services shall have that many fewer from now on; else they are replaced.
        scale: bool,
    },
    /// Let a service's next placements, and the next starts of its instances, not wait for what
    /// failed before.
    ResetDelay {
        /// The service.
        service: ServiceId,
    },
    /// Carry out a command and remember with its deployment who asked for it.
    Asked {
        /// Who.
        by: Origin,
        /// The command.
        then: Box<Command>,
    },
    /// Carry out a command if things are as its proposer saw them.
    If {
        /// What must hold.
        guard: Guard,
        /// The command.
        then: Box<Command>,
    },
    /// Forget a gateway document.
    RemoveGateway(GatewayId),
    /// Steer a deployment.
    Steer {
        /// The deployment.
        deployment: DeploymentId,
        /// What to do with it.
        how: Steer,
    },
    /// A daemon on a node has called: what the node is and has.
    Register(Registration),
    /// Say what may happen on a node.
    SetAvailability {
        /// The node.
        node: NodeId,
        /// What may happen.
        availability: Availability,
    },
    /// Forget a node that runs nothing.
    RemoveNode(NodeId),
    /// A server has taken the lead.
    Lead,
    /// Carry out a step of the planner's.
    Adopt(Step),
}

/// A document that people apply.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is named after its content")]
pub enum Document {
    Service(Box<Spec>),
    /// A service that was described by another system's document.
    Foreign(Box<Spec>, Source),
    Gateway(Gateway),
    Group(Group),
    /// A service that shall not be there.
    NoService(ServiceId),
    /// A group that shall not be there; what is in it stays.
    NoGroup(ServiceId),
}

impl Document {
    /// The service it describes.
    pub fn spec(&self) -> Option<&Spec> {
        match self {
            Document::Service(spec) | Document::Foreign(spec, _) => Some(spec),
            _ => None,
        }
    }
}

/// What a command takes for granted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guard {
    /// Services, and the revision each must aim for still; `None`: it must not be there.
    pub seen: Vec<(ServiceId, Option<RevisionNumber>)>,
    /// Services that no deployment may be moving.
    pub still: Vec<ServiceId>,
}

/// What to do with a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Steer {
    /// Stay as it is.
    Pause,
    /// Go on; a held one tries again.
    Resume,
    /// Go back.
    Abort,
}

/// What a daemon tells of its node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The node.
    pub node: NodeId,
    /// The address by which instances on it are reached.
    pub address: String,
    /// What an agent tells; a gateway leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentRegistration>,
}

impl Registration {
    /// Everything wrong with it: what it says is put into routes and counted with.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if self.address.is_empty() || !self.address.chars().all(is_part) {
            let message = format!("`{}` is not an address or a host name", self.address);
            problems.push(Problem::new("address", message));
        }
        if let Some((first, last)) = self.agent.as_ref().map(|agent| agent.ports)
            && (first == 0 || first > last)
        {
            let message = format!("{first} to {last} is not a range of ports");
            problems.push(Problem::new("agent.ports", message));
        }
        problems
    }
}

/// What an agent tells of its node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRegistration {
    /// Which agent it is: what it keeps in its data directory, and no other has. Empty if it does
    /// not say.
    #[serde(default)]
    pub id: String,
    /// The port of its API for logs.
    pub port: u16,
    /// What it can give to instances.
    pub capacity: Resources,
    /// Attributes that constraints look at.
    pub labels: BTreeMap<String, String>,
    /// What it can do.
    pub capabilities: BTreeSet<String>,
    /// The ports that may be assigned, first and last.
    pub ports: (u16, u16),
}

/// One thing the planner wants done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// Put a new instance on a node.
    Place {
        /// The instance.
        instance: InstanceId,
        /// The revision it starts from.
        revision: RevisionNumber,
        /// The node.
        node: NodeId,
        /// Its ports there.
        ports: Vec<u16>,
    },
    /// Let an instance finish its requests.
    Drain {
        /// The instance.
        instance: InstanceId,
        /// When it is stopped all the same.
        until: Timestamp,
        /// Why it leaves.
        why: StopReason,
    },
    /// Stop an instance.
    Stop {
        /// The instance.
        instance: InstanceId,
        /// Why it leaves.
        why: StopReason,
    },
    /// Forget an instance that has ended or is lost.
    Forget {
        /// The instance.
        instance: InstanceId,
        /// Why it left.
        why: StopReason,
    },
    /// A service has begun to move, or more of its instances are ready than ever before.
    Progress {
        /// The service.
        service: ServiceId,
        /// So many are ready.
        ready: u32,
    },
    /// A service has arrived at its target.
    Arrive {
        /// The service.
        service: ServiceId,
    },
    /// A deployment has failed.
    Fail {
        /// The deployment.
        deployment: DeploymentId,
        /// The service that failed.
        service: ServiceId,
        /// What was wrong.
        reason: String,
    },
}

impl Step {
    /// The service it is about, or whose deployment it is.
    pub fn service(&self) -> &ServiceId {
        match self {
            Step::Place { instance, .. }
            | Step::Drain { instance, .. }
            | Step::Stop { instance, .. }
            | Step::Forget { instance, .. } => &instance.service,
            Step::Progress { service, .. }
            | Step::Arrive { service }
            | Step::Fail { service, .. } => service,
        }
    }
}

/// What became of a command.
pub type Outcome = Result<Changeset, Refusal>;

/// What a command has changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changeset {
    /// The objects to store again, or to delete.
    pub changed: BTreeSet<Key>,
    /// What to tell about it.
    pub events: Vec<Event>,
    /// What became of each thing that was asked for.
    pub changes: Vec<Change>,
}

/// What became of one thing that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `service` or `gateway`, `node`, `deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The revision it is at now, for services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionNumber>,
    /// The deployment that carries it out, if it takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// What one should know about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is new.
    Created,
    /// It has changed.
    Updated,
    /// It is as it was.
    Unchanged,
    /// It is gone, or going.
    Removed,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What, in one word: `placed`, `healthy`, `deployment-succeeded`.
    pub kind: String,
    /// What it is about: the name of a service, instance, node, deployment or gateway.
    pub subject: String,
    /// The service concerned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// Said in words.
    pub message: String,
}

/// Why a command was refused. The state is as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing.
    #[error("there is no {kind} `{name}`{}", hint(.nearest))]
    Unknown {
        /// What kind of thing.
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// The most similar name there is.
        nearest: Option<String>,
    },
    /// What was handed in is wrong.
    #[error("{}", in_words(.problems))]
    Invalid {
        /// What is wrong, with the index of the document.
        problems: Vec<(usize, Problem)>,
    },
    /// A deployment is moving a service that should stand still.
    #[error("{service} is being moved by {}", named(.by))]
    Moving {
        /// The first such service.
        service: ServiceId,
        /// The deployments that move it and others that should stand still.
        by: Vec<DeploymentId>,
    },
    /// A service has changed since it was looked at.
    #[error("{service} has changed meanwhile: look at it again")]
    Changed {
        /// The service.
        service: ServiceId,
    },
    /// It cannot be done as things are.
    #[error("{message}")]
    Conflict {
        /// Why, and what to do.
        message: String,
    },
    /// What the planner assumed no longer holds. Never shown: it plans again.
    #[error("overtaken: {0}")]
    Stale(&'static str),
}

fn in_words(problems: &[(usize, Problem)]) -> String {
    let mut lines =
        problems.iter().map(|(_, problem)| format!("{}: {}", problem.key, problem.message));
    lines.next().map_or_else(String::new, |first| match lines.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    })
}

fn named(ids: &[DeploymentId]) -> String {
    ids.iter().map(DeploymentId::to_string).collect::<Vec<_>>().join(", ")
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_one_can_do_about_them() {
        let unknown = |nearest: Option<&str>| {
            let nearest = nearest.map(String::from);
            Refusal::Unknown { kind: "service", name: "/wev".into(), nearest }
        };
        let invalid = |count: usize| {
            let problem = Problem::new("instances", "at most 100000 instances");
            Refusal::Invalid { problems: vec![(0, problem); count] }
        };
        let service: ServiceId = "/web".parse().expect("a path");
        let by = vec![DeploymentId(2), DeploymentId(5)];
        for (refusal, expected) in [
            (unknown(None), "there is no service `/wev`"),
            (unknown(Some("/web")), "there is no service `/wev`; did you mean `/web`?"),
            (invalid(1), "instances: at most 100000 instances"),
            (invalid(3), "instances: at most 100000 instances (and 2 more)"),
            (Refusal::Moving { service, by }, "/web is being moved by d-2, d-5"),
        ] {
            assert_eq!(refusal.to_string(), expected);
        }
    }
}
