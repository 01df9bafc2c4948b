//! The commands that change the state, and the conditions under which they apply.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::cluster::{Start, Term};
use crate::document::Document;
use crate::id::{DeploymentId, GatewayId, InstanceId, NodeId, RevisionNumber, ServiceId};
use crate::node::Availability;
use crate::principal::{Origin, Principal};
use crate::refusal::Refusal;
use crate::registration::Registration;
use crate::request::RequestId;
use crate::run::Run;
use crate::selection::Selection;
use crate::state::State;
use crate::step::Step;

/// A command with its author and the conditions under which it applies.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The identity of the request. A request with an id is executed once, however often it is
    /// proposed.
    pub id: Option<RequestId>,
    /// The author. It is recorded in the events and the deployment that the command causes.
    pub by: Principal,
    /// The request of the author, for adapters that show it.
    pub via: Option<Origin>,
    /// The assumptions of the author.
    pub guard: Guard,
    /// The change.
    pub command: Command,
}

impl Proposal {
    /// A proposal without conditions.
    pub fn new(by: Principal, command: Command) -> Proposal {
        Proposal { id: None, by, via: None, guard: Guard::default(), command }
    }

    /// A proposal of the only user while requests are not authenticated.
    pub fn operator(command: Command) -> Proposal {
        Proposal::new(Principal::operator(), command)
    }

    /// A proposal of the planner.
    pub fn step(step: Step) -> Proposal {
        Proposal::new(Principal::Planner, Command::Adopt(step))
    }

    /// The registration of a daemon, proposed by that daemon.
    pub fn registration(registration: Registration) -> Proposal {
        let by = Principal::Daemon(registration.node.clone());
        Proposal::new(by, Command::Register(registration))
    }

    /// A proposal by the usual author of such a command. For scenarios and tests that have no other
    /// users.
    pub fn usual(command: Command) -> Proposal {
        match command {
            Command::Adopt(step) => Proposal::step(step),
            Command::Register(registration) => Proposal::registration(registration),
            Command::BecomeLeader | Command::BeginTerm(_) => {
                Proposal::new(Principal::Server, command)
            }
            command => Proposal::operator(command),
        }
    }
}

impl State {
    /// Whether a principal may propose a command. Pure; [`State::apply`] checks it first.
    ///
    /// Users may propose all commands except those of the planner and of daemons. A daemon must
    /// register only its own node, so that it cannot impersonate another one.
    pub fn permits(&self, by: &Principal, command: &Command) -> Result<(), Refusal> {
        let permitted = match (by, command) {
            (Principal::Daemon(node), Command::Register(registration)) => {
                registration.node == *node
            }
            (Principal::Planner, Command::Adopt(_))
            | (Principal::Server, Command::BecomeLeader | Command::BeginTerm(_)) => true,
            (Principal::User(_), command) => {
                !matches!(command, Command::Adopt(_) | Command::Register(_) | Command::BeginTerm(_))
            }
            (Principal::Daemon(_) | Principal::Planner | Principal::Server, _) => false,
        };
        match permitted {
            true => Ok(()),
            false => Err(Refusal::Forbidden { by: by.clone(), operation: command.word() }),
        }
    }
}

impl Command {
    /// The name of the operation, for messages.
    pub fn word(&self) -> &'static str {
        match self {
            Command::Apply(_) => "apply documents",
            Command::Scale { .. } | Command::ScaleBy { .. } => "scale a service",
            Command::Restart { .. } => "restart a service",
            Command::Undo { .. } => "undo a revision",
            Command::SetRun { .. } => "start, pause or stop services",
            Command::SetFrozen { .. } => "freeze or thaw services",
            Command::RemoveServices(_) => "remove services",
            Command::Kill { .. } => "kill instances",
            Command::ResetDelay { .. } => "reset the delay of a service",
            Command::RemoveGateway(_) => "remove a gateway",
            Command::Steer { .. } => "steer a deployment",
            Command::Register(_) => "register a node",
            Command::SetAvailability { .. } => "set the availability of a node",
            Command::RemoveNode(_) => "remove a node",
            Command::BecomeLeader => "become leader",
            Command::BeginTerm(_) => "begin a term",
            Command::AcceptLoss { .. } => "accept the loss of changes",
            Command::StopUnknown { .. } => "stop unknown instances",
            Command::Adopt(_) => "adopt a step",
        }
    }
}

/// A change to the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Create or change services and gateways as documents describe them, in one deployment.
    Apply(Vec<Document>),
    /// Change the number of instances.
    Scale {
        /// The service.
        service: ServiceId,
        /// The new number.
        instances: u32,
    },
    /// Change the number of instances relative to the number at that moment.
    ScaleBy {
        /// The service.
        service: ServiceId,
        /// As many more; fewer if it is negative.
        by: i32,
    },
    /// Restart all instances, within the rollout's budget.
    Restart {
        /// The service.
        service: ServiceId,
    },
    /// Return to an earlier revision, with the present number of instances.
    Undo {
        /// The service.
        service: ServiceId,
        /// The revision; by default the previous one.
        to: Option<RevisionNumber>,
    },
    /// Start, pause or stop the instances of services, in one deployment.
    SetRun {
        /// The services.
        services: Vec<ServiceId>,
        /// Whether their instances should run.
        run: Run,
    },
    /// Freeze or thaw services, at once and without a deployment.
    SetFrozen {
        /// The services.
        services: Vec<ServiceId>,
        /// The resources that are meant, or the services as a whole.
        resources: Selection,
        /// Whether they are frozen.
        frozen: bool,
    },
    /// Stop and remove services, in one deployment.
    RemoveServices(Vec<ServiceId>),
    /// Terminate instances at once, regardless of their service's budget.
    Kill {
        /// The instances. Those that have already ended are skipped.
        instances: Vec<InstanceId>,
        /// Whether to scale down their services by as many; otherwise they are replaced.
        scale: bool,
    },
    /// Cancel the back-off of a service: its next placements, and the next starts of its instances,
    /// do not wait.
    ResetDelay {
        /// The service.
        service: ServiceId,
    },
    /// Remove a gateway document.
    RemoveGateway(GatewayId),
    /// Pause, resume or abort a deployment.
    Steer {
        /// The deployment.
        deployment: DeploymentId,
        /// The operation.
        how: Steer,
    },
    /// Register a daemon and its node.
    Register(Registration),
    /// Set the availability of a node.
    SetAvailability {
        /// The node.
        node: NodeId,
        /// The new availability.
        availability: Availability,
    },
    /// Remove a node that runs nothing. If it is forced, the instances on it count as lost.
    RemoveNode(NodeId),
    /// Record that a server became leader.
    BecomeLeader,
    /// Record that a server has opened the store.
    BeginTerm(Start),
    /// Continue from a store that is older than daemons know.
    AcceptLoss {
        /// The newest terms that they know and the store does not have.
        lost: BTreeSet<Term>,
        /// The term that begins.
        start: Start,
    },
    /// Stop instances on a node that were not placed by this history.
    StopUnknown {
        /// The node.
        node: NodeId,
        /// The instances.
        instances: BTreeSet<InstanceId>,
    },
    /// Perform a step of the planner.
    Adopt(Step),
}

/// The assumptions of a command.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guard {
    /// Services and the target that each must still have; `None`: it must not exist.
    pub seen: Vec<(ServiceId, Option<RevisionNumber>)>,
    /// Services that no deployment may be moving.
    pub still: Vec<ServiceId>,
    /// Whether the command also acts on frozen services.
    pub force: bool,
    /// Whether documents of revisions that failed are tried again.
    pub retry: bool,
}

impl Command {
    /// The services that the command acts on at once. Documents are not among these commands: they
    /// change the target of a frozen service, which takes effect once it is thawed.
    pub(crate) fn acts_on(&self) -> Vec<&ServiceId> {
        match self {
            Command::Scale { service, .. }
            | Command::ScaleBy { service, .. }
            | Command::Restart { service }
            | Command::Undo { service, .. }
            | Command::ResetDelay { service } => vec![service],
            Command::SetRun { services, .. } | Command::RemoveServices(services) => {
                services.iter().collect()
            }
            Command::Kill { instances, .. } => {
                instances.iter().map(|instance| &instance.service).collect()
            }
            Command::Apply(_)
            | Command::SetFrozen { .. }
            | Command::RemoveGateway(_)
            | Command::Steer { .. }
            | Command::Register(_)
            | Command::SetAvailability { .. }
            | Command::RemoveNode(_)
            | Command::BecomeLeader
            | Command::BeginTerm(_)
            | Command::AcceptLoss { .. }
            | Command::StopUnknown { .. }
            | Command::Adopt(_) => Vec::new(),
        }
    }
}

/// How to steer a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Steer {
    /// Stop moving services until it is resumed.
    Pause,
    /// Continue. A held deployment tries again.
    Resume,
    /// Roll back.
    Abort,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::Timestamp;

    fn registration(node: &str) -> Command {
        let registration = format!(r#"{{"node": "{node}", "address": "{node}"}}"#);
        Command::Register(serde_json::from_str(&registration).expect("a registration"))
    }

    #[test]
    fn each_principal_is_permitted_its_own_commands() {
        let service: ServiceId = "/web".parse().expect("a path");
        let scale = || Command::Scale { service: service.clone(), instances: 2 };
        let adopt = || Command::Adopt(Step::Arrive { service: service.clone() });
        let daemon = || Principal::Daemon("n1".parse().expect("a name"));
        let user = Principal::operator;
        for (by, command, permitted) in [
            (user(), scale(), true),
            (user(), Command::BecomeLeader, true),
            (user(), adopt(), false),
            (user(), registration("n1"), false),
            (daemon(), registration("n1"), true),
            (daemon(), registration("n2"), false),
            (daemon(), scale(), false),
            (daemon(), Command::BecomeLeader, false),
            (Principal::Planner, adopt(), true),
            (Principal::Planner, scale(), false),
            (Principal::Server, Command::BecomeLeader, true),
            (Principal::Server, adopt(), false),
        ] {
            let answer = State::new().permits(&by, &command);
            assert_eq!(answer.is_ok(), permitted, "{by} may {}", command.word());
        }
    }

    #[test]
    fn a_forbidden_command_changes_nothing() {
        let mut state = State::new();
        let by = Principal::Daemon("n1".parse().expect("a name"));
        let refusal = state.apply(Proposal::new(by, registration("n2")), Timestamp(1));
        let refusal = refusal.expect_err("it is another node");
        assert_eq!(refusal.to_string(), "node n1 is not permitted to register a node");
        assert_eq!(state.objects().count(), State::new().objects().count());
    }
}
