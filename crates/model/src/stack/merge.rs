//! How the states of an instance's resources determine the state of the instance: one table, the
//! same for agents, simulator and tests.
//!
//! The first line that applies decides the phase:
//!
//! | resources | instance |
//! |---|---|
//! | none | stopped |
//! | one is stopping, of whatever kind | stopping |
//! | all have ended, and a required one has failed | failed |
//! | all have ended, and one was stopped, or all are tasks that completed | stopped |
//! | a required one has failed or was stopped, while another one has not ended | stopping |
//! | a required one is lost, pending, placed or starting | the earliest of these |
//! | otherwise | running |
//!
//! A required resource is one that is not optional. Where all are optional, they count as
//! required. A task that completed counts as a resource that runs, is healthy and is ready.

use crate::phase::Phase;

/// The state of one resource of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceState {
    /// Its own phase.
    pub phase: Phase,
    /// The result of its health checks; `None` until the first one counts.
    pub healthy: Option<bool>,
    /// Whether it has health checks, so that `None` is a result to wait for.
    pub has_health_checks: bool,
    /// Whether it passed its readiness check, or has none and runs.
    pub ready: bool,
    /// Whether the instance does without it.
    pub optional: bool,
}

/// The state of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// Its phase.
    pub phase: Phase,
    /// The merged result of all health checks that count.
    pub healthy: Option<bool>,
    /// Whether all resources that count are ready.
    pub ready: bool,
    /// The index of the resource that decides the phase, or that is not healthy or not ready;
    /// `None` if there is no such resource.
    pub because: Option<usize>,
}

/// The state of an instance whose resources are in `states`, in the order of its stack.
pub fn merge(states: &[PieceState]) -> Merged {
    let all_optional = states.iter().all(|state| state.optional);
    let required = || {
        let counts = move |state: &PieceState| all_optional || !state.optional;
        states.iter().enumerate().filter(move |(_, state)| counts(state))
    };
    let find = |phases: &[Phase]| {
        required().find(|(_, state)| phases.contains(&state.phase)).map(|(index, _)| index)
    };
    let (phase, because) = phase(states, &find);
    let unready = || required().find(|(_, state)| !is_ready(state)).map(|(index, _)| index);
    let unhealthy = || required().find(|(_, state)| verdict(state) == Some(false));
    let undecided = || required().find(|(_, state)| is_undecided(state));
    let healthy = match (unhealthy(), undecided()) {
        (Some(_), _) => Some(false),
        (None, Some(_)) => None,
        (None, None) => required().any(|(_, state)| verdict(state).is_some()).then_some(true),
    };
    let because = because
        .or_else(|| unhealthy().or_else(undecided).map(|(index, _)| index))
        .or_else(unready)
        .filter(|_| !states.is_empty());
    Merged { phase, healthy, ready: !states.is_empty() && unready().is_none(), because }
}

fn phase(
    states: &[PieceState],
    find: &dyn Fn(&[Phase]) -> Option<usize>,
) -> (Phase, Option<usize>) {
    if let Some(index) = states.iter().position(|state| state.phase == Phase::Stopping) {
        return (Phase::Stopping, Some(index));
    }
    let failed = find(&[Phase::Failed]);
    if states.iter().all(|state| state.phase.is_over()) {
        return match failed {
            Some(index) => (Phase::Failed, Some(index)),
            None => (Phase::Stopped, None),
        };
    }
    if let Some(index) = failed.or_else(|| find(&[Phase::Stopped])) {
        return (Phase::Stopping, Some(index));
    }
    for earliest in [Phase::Lost, Phase::Pending, Phase::Placed, Phase::Starting] {
        if let Some(index) = find(&[earliest]) {
            return (earliest, Some(index));
        }
    }
    (Phase::Running, None)
}

fn is_ready(state: &PieceState) -> bool {
    state.ready || state.phase == Phase::Completed
}

fn verdict(state: &PieceState) -> Option<bool> {
    match state.phase == Phase::Completed || !state.has_health_checks {
        true => None,
        false => state.healthy,
    }
}

fn is_undecided(state: &PieceState) -> bool {
    state.has_health_checks && state.healthy.is_none() && state.phase != Phase::Completed
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Phase; 9] = [
        Phase::Pending,
        Phase::Placed,
        Phase::Starting,
        Phase::Running,
        Phase::Completed,
        Phase::Stopping,
        Phase::Stopped,
        Phase::Failed,
        Phase::Lost,
    ];

    /// A state such as `running`, `running+` (healthy), `running-` (unhealthy), `running?` (not
    /// yet checked), `running!` (not ready), each with `~` in front where it is optional.
    fn state(text: &str) -> PieceState {
        let (optional, text) = match text.strip_prefix('~') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let word = text.trim_end_matches(['+', '-', '?', '!']);
        let phase = ALL.into_iter().find(|phase| phase.word() == word).unwrap();
        let (has_health_checks, healthy) = match text.as_bytes().last() {
            Some(b'+') => (true, Some(true)),
            Some(b'-') => (true, Some(false)),
            Some(b'?') => (true, None),
            _ => (false, None),
        };
        let ready = phase == Phase::Running && !text.ends_with('!');
        PieceState { phase, healthy, has_health_checks, ready, optional }
    }

    fn merged(states: &str) -> Merged {
        merge(&states.split_whitespace().map(state).collect::<Vec<_>>())
    }

    #[test]
    fn the_merge_table() {
        for (states, phase, healthy, ready, because) in [
            ("", "stopped", None, false, None),
            ("running", "running", None, true, None),
            ("starting", "starting", None, false, Some(0)),
            ("running starting", "starting", None, false, Some(1)),
            ("running running", "running", None, true, None),
            ("running+ running", "running", Some(true), true, None),
            ("running+ running?", "running", None, true, Some(1)),
            ("running? running-", "running", Some(false), true, Some(1)),
            ("running+ running!", "running", Some(true), false, Some(1)),
            // Tasks.
            ("completed running", "running", None, true, None),
            ("completed running+", "running", Some(true), true, None),
            ("starting completed", "starting", None, false, Some(0)),
            // Optional resources.
            ("running ~failed", "running", None, true, None),
            ("running ~starting", "running", None, true, None),
            ("running+ ~running-", "running", Some(true), true, None),
            ("running ~running!", "running", None, true, None),
            ("~running ~starting", "starting", None, false, Some(1)),
            // A required resource that ended for good: the others are about to be stopped.
            ("running failed", "stopping", None, false, Some(1)),
            ("running stopped", "stopping", None, false, Some(1)),
            ("~running failed", "stopping", None, false, Some(1)),
            // While anything is being stopped the instance has not ended.
            ("stopping failed", "stopping", None, false, Some(0)),
            ("stopped ~stopping", "stopping", None, false, Some(1)),
            ("stopped ~running", "stopping", None, false, Some(0)),
            ("running stopping", "stopping", None, false, Some(1)),
            // All have ended.
            ("stopped failed stopped", "failed", None, false, Some(1)),
            ("stopped stopped", "stopped", None, false, Some(0)),
            ("stopped ~failed", "stopped", None, false, Some(0)),
            ("~failed ~stopped", "failed", None, false, Some(0)),
            ("completed stopped", "stopped", None, false, Some(1)),
            ("completed", "stopped", None, true, None),
            // States that only a server knows.
            ("lost running", "lost", None, false, Some(0)),
            ("placed starting", "placed", None, false, Some(0)),
            ("starting pending", "pending", None, false, Some(1)),
        ] {
            let merged = merged(states);
            let found = (merged.phase.word(), merged.healthy, merged.ready, merged.because);
            assert_eq!(found, (phase, healthy, ready, because), "{states}");
        }
    }

    /// With one resource, the state of the instance is the state of the resource.
    #[test]
    fn an_instance_of_one_resource_has_the_phase_of_the_resource() {
        for phase in ALL.into_iter().filter(|phase| *phase != Phase::Completed) {
            for healthy in [None, Some(true), Some(false)] {
                let ready = phase == Phase::Running;
                for optional in [false, true] {
                    let has_health_checks = true;
                    let one = PieceState { phase, healthy, has_health_checks, ready, optional };
                    let merged = merge(&[one]);
                    let found = (merged.phase, merged.healthy, merged.ready);
                    assert_eq!(found, (phase, healthy, ready));
                }
            }
        }
    }

    #[test]
    fn an_instance_has_ended_only_when_every_resource_has() {
        for first in ALL {
            for second in ALL {
                for optional in [false, true] {
                    let of = |phase| PieceState { optional, ..state(Phase::word(phase)) };
                    let all_over = first.is_over() && second.is_over();
                    let merged = merge(&[of(first), PieceState { optional: true, ..of(second) }]);
                    assert_eq!(merged.phase.is_over(), all_over, "{first:?} {second:?}");
                }
            }
        }
    }
}
