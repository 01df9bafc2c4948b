//! The reports of agents on instances and their resources.

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::id::ResourceId;
use crate::pause::PauseReport;
use crate::phase::Phase;
use crate::retry::with_retry;
use crate::spec::Spec;
use crate::unit::{Millis, Timestamp};

/// The report of an agent on one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The phase.
    pub phase: Phase,
    /// The number of starts in place, from 1; 0 before the first.
    pub run: u32,
    /// Consecutive runs that ended by themselves.
    #[serde(default)]
    pub failures: u32,
    /// When the current phase began.
    pub since: Timestamp,
    /// When the current run started, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The result of the health checks; `None` until the first one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Whether the readiness check has passed in this run; true from the start if there is none.
    #[serde(default)]
    pub ready: bool,
    /// The results of the health checks, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// How the previous run ended. Boxed, because few of the many statuses have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Box<Exit>>,
    /// Why it is in this phase, if the phase alone does not explain it: an image that cannot be
    /// pulled, the end of the previous run. While it runs: why it is not ready, or a check that
    /// cannot run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The back-off before the next start, counted from the end of the previous run.
    /// Earlier agents have it in `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Millis>,
    /// Whether its processes are suspended, if they are or should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseReport>,
    /// The resources, in the order of the stack. The fields above are merged from them. Empty for a
    /// service without a `stack`, whose only resource the fields above describe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceStatus>,
}

/// The report of an agent on one resource of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Its name in the stack.
    pub name: ResourceId,
    /// The phase.
    pub phase: Phase,
    /// The number of starts in place, from 1; 0 before the first.
    pub run: u32,
    /// Consecutive runs that ended by themselves.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// The result of the health checks; `None` until the first one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Whether the readiness check has passed in this run; true while it runs without one.
    #[serde(default)]
    pub ready: bool,
    /// The results of the health checks, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// How the previous run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Why it is in this phase or not ready, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// See [`Status::retry_after`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Millis>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl ResourceStatus {
    /// The message with the back-off.
    pub fn explanation(&self) -> Option<String> {
        self.message.as_ref().map(|message| with_retry(message, self.retry_after))
    }

    /// The status of a resource of which only the phase is known.
    pub fn new(name: ResourceId, phase: Phase) -> Self {
        Self {
            name,
            phase,
            run: 0,
            failures: 0,
            healthy: None,
            ready: false,
            checks: Vec::new(),
            last_exit: None,
            message: None,
            retry_after: None,
        }
    }
}

impl Status {
    /// The message with the back-off.
    pub fn explanation(&self) -> Option<String> {
        self.message.as_ref().map(|message| with_retry(message, self.retry_after))
    }

    /// The status of an instance of which only the phase is known.
    pub fn new(phase: Phase, since: Timestamp) -> Self {
        Self {
            phase,
            run: 0,
            failures: 0,
            since,
            started_at: None,
            healthy: None,
            ready: false,
            checks: Vec::new(),
            last_exit: None,
            message: None,
            retry_after: None,
            pause: None,
            resources: Vec::new(),
        }
    }
}

/// The results of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckResult {
    /// Consecutive failures up to now.
    pub consecutive_failures: u32,
    /// The first pass of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_success: Option<Timestamp>,
    /// The last pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// The message of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_cause: Option<String>,
}

impl Status {
    /// The results of all health checks, including those of the resources.
    pub fn all_checks(&self) -> impl Iterator<Item = &CheckResult> {
        self.checks.iter().chain(self.resources.iter().flat_map(|resource| &resource.checks))
    }

    /// This status without the times that change with every successful probe.
    pub fn without_timestamps(&self) -> Status {
        let without = |checks: &[CheckResult]| {
            checks.iter().map(|check| CheckResult { last_success: None, ..check.clone() }).collect()
        };
        let resources = self.resources.iter();
        let resources =
            resources.map(|one| ResourceStatus { checks: without(&one.checks), ..one.clone() });
        Status { checks: without(&self.checks), resources: resources.collect(), ..self.clone() }
    }

    /// Whether it counts as healthy: it runs, and its health checks, if any, pass.
    #[inline]
    pub fn is_healthy(&self, spec: &Spec) -> bool {
        self.runs() && (!spec.has_health_checks() || self.healthy == Some(true))
    }

    /// Whether it runs and is not suspended.
    #[inline]
    fn runs(&self) -> bool {
        self.phase == Phase::Running && self.pause.is_none()
    }

    /// Whether it counts as unhealthy: it runs, and its health checks fail. An instance without a
    /// result yet is neither healthy nor unhealthy.
    #[inline]
    pub fn is_unhealthy(&self, spec: &Spec) -> bool {
        self.runs() && spec.has_health_checks() && self.healthy == Some(false)
    }

    /// The time at which it counts as ready, for traffic and for the rollout; may lie ahead. `None`
    /// if that needs another report.
    #[inline]
    pub fn ready_at(&self, spec: &Spec) -> Option<Timestamp> {
        if !self.is_healthy(spec) || !self.ready {
            return None;
        }
        match spec.has_checks() {
            true => Some(Timestamp(0)),
            false => {
                Some(self.started_at.map_or(Timestamp(0), |at| at.after(spec.rollout.min_ready)))
            }
        }
    }
}
