//! Whether an instance receives traffic.

use crate::id::ReplicaId;
use crate::not_serving::NotServing;
use crate::pause::PauseReport;
use crate::phase::Phase;
use crate::service::{Placement, Service};
use crate::status::Status;

/// Why an instance receives no traffic; `None` if it may receive some or is not placed.
pub fn not_serving(
    service: &Service,
    replica: ReplicaId,
    status: Option<&Status>,
) -> Option<NotServing> {
    let placement = service.placements.get(&replica)?;
    let spec = service.running_spec(placement.revision);
    let Some(status) = status else { return Some(NotServing::Unreported) };
    if !placement.is_wanted() {
        return Some(NotServing::Leaving);
    }
    if let Some(pause) = paused(placement, status) {
        return Some(pause);
    }
    let detail = || status.message.clone();
    if status.phase != Phase::Running {
        let Status { phase, failures, retry_after, .. } = *status;
        let detail = detail();
        return Some(NotServing::NotRunning { phase, failures, detail, retry_after });
    }
    if spec.has_health_checks() && status.healthy != Some(true) {
        let cause = status.all_checks().find_map(|check| check.last_failure_cause.clone());
        let cause = cause.or_else(detail);
        return Some(match status.healthy {
            None => NotServing::Unjudged { cause },
            Some(_) => NotServing::Unhealthy { cause },
        });
    }
    (!status.ready).then(|| NotServing::NotReady { detail: detail() })
}

/// The state of a pause, if the instance is or was paused.
fn paused(placement: &Placement, status: &Status) -> Option<NotServing> {
    let failure = match &status.pause {
        Some(PauseReport::Failed { message }) => Some(message.clone()),
        _ => None,
    };
    match (&placement.pause, &status.pause) {
        (None, None) => None,
        (None, Some(_)) => Some(NotServing::Resuming { failure }),
        (Some(_), Some(PauseReport::Suspended)) => Some(NotServing::Paused),
        (Some(_), _) => Some(NotServing::Pausing { failure }),
    }
}
