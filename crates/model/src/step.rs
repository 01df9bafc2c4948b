//! The steps of a plan: changes that the planner proposes and `apply` re-checks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::id::{DeploymentId, InstanceId, NodeId, RevisionNumber, ServiceId};
use crate::pause::Pause;
use crate::service::{Given, StopReason};
use crate::unit::Timestamp;

/// One change that the planner proposes.
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
        /// The allocation on the node.
        #[serde(flatten)]
        given: Given,
    },
    /// Stop sending requests to an instance and let it finish those in flight.
    Drain {
        /// The instance.
        instance: InstanceId,
        /// The deadline, when it is stopped in any case.
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
    /// Drain an instance in order to suspend it, or suspend its processes.
    Pause {
        /// The instance.
        instance: InstanceId,
        /// Which of both.
        pause: Pause,
    },
    /// Let the processes of a paused instance run again.
    Resume {
        /// The instance.
        instance: InstanceId,
    },
    /// Remove an instance that has ended or is lost.
    Forget {
        /// The instance.
        instance: InstanceId,
        /// Why it left.
        why: StopReason,
    },
    /// A service has begun to move, or has more ready instances than ever before.
    Progress {
        /// The service.
        service: ServiceId,
        /// The number of ready instances.
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
        /// Why it failed.
        reason: Arc<Failure>,
    },
}

impl Step {
    /// The service of the instance, of the move or of the failure.
    pub fn service(&self) -> &ServiceId {
        match self {
            Step::Place { instance, .. }
            | Step::Drain { instance, .. }
            | Step::Stop { instance, .. }
            | Step::Pause { instance, .. }
            | Step::Resume { instance }
            | Step::Forget { instance, .. } => &instance.service,
            Step::Progress { service, .. }
            | Step::Arrive { service }
            | Step::Fail { service, .. } => service,
        }
    }
}
