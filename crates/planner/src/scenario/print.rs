//! Formats plans and clusters, one line for each element, deterministically.

use std::collections::BTreeSet;

use model::{
    Change, ChangeKind, Goal, InstanceId, Pause, PauseReport, Phase, ServiceId, Step, Timestamp,
    Wait,
};

use super::World;
use crate::Plan;

pub(super) fn plan(world: &World) -> Vec<String> {
    let (plan, now) = (world.plan(), world.now);
    if !world.observed.is_settled(&world.state, now) {
        return vec!["nothing moves until more is known".into()];
    }
    let mut lines: Vec<_> = plan.steps.iter().map(|s| step(s, now)).collect();
    lines.extend(waits(&plan, now));
    if lines.is_empty() {
        lines.push("nothing to do".into());
    }
    lines
}

pub(super) fn step(step: &Step, now: Timestamp) -> String {
    match step {
        Step::Place { instance, revision, node, .. } => {
            format!("place {instance} on {node}, revision {revision}")
        }
        Step::Drain { instance, until, why } => {
            format!("drain {instance}: {why}; at most {}", until.since(now))
        }
        Step::Stop { instance, why } => format!("stop {instance}: {why}"),
        Step::Pause { instance, pause: Pause::Drain { until } } => {
            format!("pause {instance}: at most {}", until.since(now))
        }
        Step::Pause { instance, pause: Pause::Suspend } => format!("suspend {instance}"),
        Step::Resume { instance } => format!("resume {instance}"),
        Step::Forget { instance, why } => format!("forget {instance}: {why}"),
        Step::Progress { service, ready } => format!("progress {service}: {ready} ready"),
        Step::Arrive { service } => format!("arrive {service}"),
        Step::Fail { deployment, reason, .. } => format!("fail {deployment}: {reason}"),
    }
}

pub(super) fn waits(plan: &Plan, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    for (service, wait) in &plan.waits {
        match wait {
            // The reason of every node, which the short form omits.
            Wait::NoNode { nodes } => {
                lines.push(format!("wait {service}: no node of {} can take it", nodes.len()));
                lines.extend(nodes.iter().map(|(node, reason)| format!("  {node}: {reason}")));
            }
            Wait::BackOff { until } => {
                let rest = until.since(now);
                lines.push(format!("wait {service}: repeated failures: next placement in {rest}"));
            }
            wait => lines.push(format!("wait {service}: {wait}")),
        }
    }
    lines
}

pub(super) fn change(change: &Change) -> String {
    let verdict = match change.verdict {
        ChangeKind::Created => "created",
        ChangeKind::Updated => "updated",
        ChangeKind::Unchanged => "unchanged",
        ChangeKind::Removed => "removed",
    };
    let mut line = format!("{} {} {verdict}", change.kind, change.name);
    if let Some(revision) = change.revision {
        line.push_str(&format!(", revision {revision}"));
    }
    if let Some(run) = change.run {
        line.push_str(&format!(", {run}"));
    }
    match change.frozen {
        Some(true) => line.push_str(", frozen"),
        Some(false) => line.push_str(", thawed"),
        None => {}
    }
    if let Some(deployment) = change.deployment {
        line.push_str(&format!(", {deployment}"));
    }
    if let Some(note) = &change.note {
        line.push_str(&format!(": {note}"));
    }
    line
}

/// How many instances of the services `of` live, by revision.
pub(super) fn counts(world: &World, of: &BTreeSet<ServiceId>) -> Vec<String> {
    let mut lines = Vec::new();
    for service in of.iter().filter_map(|id| world.state.service(id)) {
        let mut live = 0;
        let mut parts = Vec::new();
        for number in service.revisions.keys() {
            let of_revision = || service.placements.iter().filter(|(_, p)| p.revision == *number);
            let spec = service.running_spec(*number);
            let is_ready = |replica| {
                let status = world.observed.status(&service.id, replica);
                let at = status.and_then(|status| status.ready_at(spec));
                at.is_some_and(|at| at <= world.now)
            };
            let is_over = |replica| {
                let status = world.observed.status(&service.id, replica);
                status.is_some_and(|status| status.phase.is_over())
            };
            let present = of_revision().filter(|(replica, _)| !is_over(**replica));
            let (mut ready, mut unready, mut leaving, mut lost) = (0, 0, 0, 0);
            for (replica, placement) in present {
                if world.observed.is_lost(&placement.node, world.now) {
                    lost += 1;
                    continue;
                }
                live += 1;
                match (&placement.goal, is_ready(*replica)) {
                    (Goal::Run, true) => ready += 1,
                    (Goal::Run, false) => unready += 1,
                    _ => leaving += 1,
                }
            }
            let counts = [
                (ready, "ready"),
                (unready, "not ready"),
                (leaving, "terminating"),
                (lost, "lost"),
            ];
            let counts = counts.iter().filter(|(count, _)| *count > 0);
            let counts: Vec<_> = counts.map(|(count, word)| format!("{count} {word}")).collect();
            if !counts.is_empty() {
                parts.push(format!("@{number} {}", counts.join(", ")));
            }
        }
        let parts =
            if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) };
        lines.push(format!("= {} {live} live{parts}", service.id));
    }
    lines
}

pub(super) fn instances(world: &World) -> Vec<String> {
    let mut lines = Vec::new();
    for service in world.state.services() {
        for (replica, placement) in &service.placements {
            let instance = InstanceId { service: service.id.clone(), replica: *replica };
            // Its last report is outdated.
            let is_lost = world.observed.is_lost(&placement.node, world.now);
            let status = world.observed.status(&service.id, *replica).filter(|_| !is_lost);
            let phase = match status {
                Some(status) => status.phase,
                None if is_lost => Phase::Lost,
                None => Phase::Placed,
            };
            let phase = phase.word();
            let health = match status.and_then(|status| status.healthy) {
                Some(true) => ", healthy",
                Some(false) => ", unhealthy",
                None => "",
            };
            let ready = if status.is_some_and(|status| status.ready) { ", ready" } else { "" };
            let goal = match (&placement.goal, &placement.pause) {
                (Goal::Run, None) => "",
                (Goal::Run, Some(_)) => ", to pause",
                (Goal::Drain { .. }, _) => ", to drain",
                (Goal::Stop { .. }, _) => ", to stop",
            };
            let pause = match status.and_then(|status| status.pause.as_ref()) {
                None => "",
                Some(PauseReport::Suspended) => ", paused",
                Some(PauseReport::Failed { .. }) => ", cannot be paused",
            };
            let (node, revision) = (&placement.node, placement.revision);
            lines.push(format!(
                "{instance} @{revision} on {node}: {phase}{health}{ready}{pause}{goal}"
            ));
        }
    }
    if lines.is_empty() {
        lines.push("no instances".into());
    }
    lines
}
