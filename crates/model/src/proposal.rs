//! The commands that change the state, and the conditions under which they apply.

use serde::{Deserialize, Serialize};

use crate::deployment::Origin;
use crate::document::Document;
use crate::id::{DeploymentId, GatewayId, InstanceId, NodeId, RevisionNumber, ServiceId};
use crate::node::Availability;
use crate::registration::Registration;
use crate::step::Step;

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
