//! The columns of each kind of object.

use api::{
    DeploymentView, EventView, GatewayView, InstanceView, NodeState, NodeView, ServiceState,
    ServiceView,
};
use model::{
    Availability, ChangeKind, Goal, PauseReport, Phase, Revision, RevisionOutcome, Stage,
    Timestamp, What,
};

use super::age;
use super::table::{Row, plain};
use super::tone::Tone;

type Cell = (String, Tone);

fn ratio(part: u32, whole: u32) -> Cell {
    (format!("{part}/{whole}"), if part == whole { Tone::Plain } else { Tone::Warn })
}

fn numbers(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

/// A service's state in one word.
pub(crate) fn service_state(state: ServiceState) -> (&'static str, Tone) {
    match state {
        ServiceState::Running => ("running", Tone::Good),
        ServiceState::Deploying => ("deploying", Tone::Warn),
        ServiceState::Degraded => ("degraded", Tone::Bad),
        ServiceState::Unknown => ("unknown", Tone::Warn),
        ServiceState::Stopped => ("stopped", Tone::Dim),
        ServiceState::Paused => ("paused", Tone::Dim),
        ServiceState::Removing => ("removing", Tone::Warn),
    }
}

/// The tone of a phase.
pub(crate) fn phase_tone(phase: Phase) -> Tone {
    match phase {
        Phase::Running => Tone::Good,
        Phase::Failed | Phase::Lost => Tone::Bad,
        Phase::Stopped | Phase::Completed => Tone::Dim,
        _ => Tone::Warn,
    }
}

/// The tone of a deployment's stage.
pub(crate) fn stage_tone(stage: &Stage) -> Tone {
    match stage {
        Stage::Succeeded { .. } => Tone::Good,
        Stage::Superseded { .. } => Tone::Dim,
        Stage::RolledBack { .. }
        | Stage::RollbackFailed { .. }
        | Stage::RollingBack { .. }
        | Stage::Held { .. } => Tone::Bad,
        Stage::Running | Stage::Paused => Tone::Warn,
    }
}

/// The kind of a change, as a word.
pub(crate) fn verdict(verdict: ChangeKind) -> (&'static str, Tone) {
    match verdict {
        ChangeKind::Created => ("created", Tone::Good),
        ChangeKind::Updated => ("updated", Tone::Warn),
        ChangeKind::Unchanged => ("unchanged", Tone::Dim),
        ChangeKind::Removed => ("removed", Tone::Bad),
    }
}

/// A command or similar text for a table: in one line, and cut if it is long.
pub(crate) fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl Row for ServiceView {
    const HEAD: &'static [&'static str] = &["SERVICE", "STATE", "READY", "REVISION", "AGE", "RUNS"];
    const WIDE: &'static [&'static str] = &["RUNNING", "HEALTHY", "OLD", "DEPLOYMENT", "WAITS FOR"];

    fn name(&self) -> String {
        self.service.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let (state, tone) = service_state(self.state);
        let frozen = if self.frozen { ", frozen" } else { "" };
        let blocked = if self.failed.is_some() { " (blocked)" } else { "" };
        vec![
            plain(&self.service),
            (format!("{state}{frozen}{blocked}"), tone),
            ratio(self.ready, self.instances),
            plain(self.revision),
            plain(age::since(self.applied_at, now)),
            plain(one_line(&self.runs)),
        ]
    }

    fn wide(&self, _: Timestamp) -> Vec<Cell> {
        let waits: Vec<_> = self.waits.iter().map(|wait| wait.message.as_str()).collect();
        vec![
            plain(self.running),
            plain(self.healthy),
            plain(self.outgoing),
            plain(self.deployment.map(|id| id.to_string()).unwrap_or_default()),
            plain(waits.join("; ")),
        ]
    }
}

/// The state of an instance, in one or two words.
pub(crate) fn instance_state(view: &InstanceView) -> (String, Tone) {
    let word = view.phase.word();
    let report = view.status.as_ref().and_then(|status| status.pause.as_ref());
    match (&view.goal, view.phase, &view.not_serving) {
        (Goal::Drain { .. }, ..) => (format!("{word}, draining"), Tone::Warn),
        (Goal::Stop { .. }, Phase::Running, _) => ("running, to stop".into(), Tone::Warn),
        (Goal::Run, ..) if view.pause.is_some() || report.is_some() => {
            let is_suspended = matches!(report, Some(PauseReport::Suspended));
            let (condition, tone) = match (view.pause.is_some(), is_suspended) {
                (true, true) => ("paused", Tone::Dim),
                (true, false) => ("pausing", Tone::Warn),
                (false, _) => ("resuming", Tone::Warn),
            };
            (format!("{word}, {condition}"), tone)
        }
        (Goal::Run, Phase::Running, Some(_)) => {
            let unhealthy = view.status.as_ref().and_then(|s| s.healthy) == Some(false);
            match unhealthy {
                true => ("running, unhealthy".into(), Tone::Bad),
                false => ("running, not ready".into(), Tone::Warn),
            }
        }
        _ => (word.into(), phase_tone(view.phase)),
    }
}

impl Row for InstanceView {
    const HEAD: &'static [&'static str] =
        &["INSTANCE", "STATE", "NODE", "PORTS", "REVISION", "RUN", "AGE"];
    const WIDE: &'static [&'static str] = &["ADDRESS", "LAST EXIT", "NO TRAFFIC BECAUSE"];

    fn name(&self) -> String {
        self.instance.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let run = self.status.as_ref().map(|status| status.run.to_string());
        vec![
            plain(&self.instance),
            instance_state(self),
            plain(&self.node),
            plain(numbers(&self.ports)),
            if self.current {
                plain(self.revision)
            } else {
                (format!("{} (old)", self.revision), Tone::Dim)
            },
            plain(run.unwrap_or_default()),
            plain(age::since(self.placed_at, now)),
        ]
    }

    fn wide(&self, now: Timestamp) -> Vec<Cell> {
        let exit = self.status.as_ref().and_then(|status| status.last_exit.as_ref());
        let exit = exit.map(|exit| format!("{}, {} ago", exit, age::since(exit.at, now)));
        vec![
            plain(&self.address),
            plain(exit.unwrap_or_default()),
            plain(self.not_serving.clone().unwrap_or_default()),
        ]
    }
}

/// The state of a node, in one or two words.
pub(crate) fn node_state(view: &NodeView) -> (String, Tone) {
    let (word, tone) = match view.state {
        NodeState::Ready => ("ready", Tone::Good),
        NodeState::Silent => ("silent", Tone::Warn),
        NodeState::Lost => ("lost", Tone::Bad),
    };
    match view.node.availability {
        _ if view.unknown > 0 => {
            let instances = if view.unknown == 1 { "instance" } else { "instances" };
            (format!("{word}, {} unknown {instances}", view.unknown), Tone::Warn)
        }
        Availability::Active => (word.into(), tone),
        Availability::Cordoned => (format!("{word}, cordoned"), Tone::Warn),
        Availability::Draining if view.instances == 0 => (format!("{word}, drained"), Tone::Warn),
        Availability::Draining => (format!("{word}, draining"), Tone::Warn),
    }
}

/// The instances of a node.
pub(crate) fn node_roles(view: &NodeView) -> String {
    match (view.node.capacity.is_some(), view.node.gateway) {
        (true, true) => "agent,gateway".into(),
        (true, false) => "agent".into(),
        (false, true) => "gateway".into(),
        (false, false) => String::new(),
    }
}

impl Row for NodeView {
    const HEAD: &'static [&'static str] =
        &["NODE", "STATE", "ROLES", "INSTANCES", "CPU", "MEMORY", "SEEN"];
    const WIDE: &'static [&'static str] = &["ADDRESS", "CAPABILITIES", "LABELS"];

    fn name(&self) -> String {
        self.node.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let capacity = self.node.capacity.as_ref();
        let cpu = capacity.map(|capacity| format!("{}/{}", self.used.cpu, capacity.cpu));
        let memory = capacity
            .map(|capacity| format!("{}/{}MiB", self.used.memory.0 >> 20, capacity.memory.0 >> 20));
        let seen = self.seen_at.map(|seen| format!("{} ago", age::since(seen, now)));
        vec![
            plain(&self.node.id),
            node_state(self),
            plain(node_roles(self)),
            plain(self.instances),
            plain(cpu.unwrap_or_default()),
            plain(memory.unwrap_or_default()),
            plain(seen.unwrap_or_default()),
        ]
    }

    fn wide(&self, _: Timestamp) -> Vec<Cell> {
        let capabilities: Vec<_> = self.node.capabilities.iter().map(String::as_str).collect();
        let labels: Vec<_> =
            self.node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![plain(&self.node.address), plain(capabilities.join(",")), plain(labels.join(","))]
    }
}

impl Row for DeploymentView {
    const HEAD: &'static [&'static str] =
        &["DEPLOYMENT", "STAGE", "CAUSE", "SERVICES", "READY", "AGE"];
    const WIDE: &'static [&'static str] = &["REASON"];

    fn name(&self) -> String {
        self.deployment.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let services: Vec<_> = self.moves.iter().map(|one| one.service.as_str()).collect();
        let services = match services.as_slice() {
            [first, second, third, rest @ ..] if !rest.is_empty() => {
                format!("{first},{second},{third} and {} more", rest.len())
            }
            all => all.join(","),
        };
        let ready = self.moves.iter().map(|one| one.ready).sum();
        let wanted = self.moves.iter().map(|one| one.wanted).sum();
        let stage = &self.deployment.stage;
        vec![
            plain(self.deployment.id),
            (stage.word().into(), stage_tone(stage)),
            plain(self.deployment.cause),
            plain(services),
            if stage.is_over() { plain("") } else { ratio(ready, wanted) },
            plain(age::since(self.deployment.created_at, now)),
        ]
    }

    fn wide(&self, _: Timestamp) -> Vec<Cell> {
        let reason = match &self.deployment.stage {
            Stage::Superseded { by, .. } => format!("superseded by {by}"),
            stage => stage.reason().map(|reason| reason.to_string()).unwrap_or_default(),
        };
        vec![plain(reason)]
    }
}

impl Row for GatewayView {
    const HEAD: &'static [&'static str] = &["GATEWAY", "LISTEN", "ROUTES", "BACKENDS", "STATE"];
    const WIDE: &'static [&'static str] = &["FOLLOWED BY", "TO"];

    fn name(&self) -> String {
        self.gateway.gateway.to_string()
    }

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let backends: usize = self.routes.iter().map(|route| route.backends.len()).sum();
        let empty = self.routes.iter().filter(|route| route.backends.is_empty()).count();
        let state = match (self.failed.first(), empty, self.followed_by.len()) {
            (Some((node, reason)), ..) => (format!("{node}: {reason}"), Tone::Bad),
            (None, 0, 0) => ("no gateway runs".into(), Tone::Bad),
            (None, 0, _) => ("serving".into(), Tone::Good),
            (None, empty, _) => (format!("{empty} without backends"), Tone::Warn),
        };
        vec![
            plain(&self.gateway.gateway),
            plain(self.gateway.listen),
            plain(self.routes.len()),
            plain(backends),
            state,
        ]
    }

    fn wide(&self, _: Timestamp) -> Vec<Cell> {
        let nodes: Vec<_> = self.followed_by.iter().map(|node| node.as_str()).collect();
        let to: Vec<_> = self.gateway.routes.iter().map(|route| route.to.to_string()).collect();
        vec![plain(nodes.join(",")), plain(to.join(","))]
    }
}

impl Row for EventView {
    const HEAD: &'static [&'static str] = &["AGE", "EVENT", "SUBJECT", "MESSAGE"];
    const WIDE: &'static [&'static str] = &["NUMBER", "AT", "BY"];

    fn name(&self) -> String {
        self.number.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            plain(age::since(self.event.at, now)),
            (self.event.what.kind().into(), event_tone(&self.event.what)),
            plain(&self.event.about),
            plain(&self.event.what),
        ]
    }

    fn wide(&self, _: Timestamp) -> Vec<Cell> {
        let by = self.event.by.as_ref().map(|by| by.to_string());
        vec![plain(self.number), plain(self.event.at), plain(by.unwrap_or_default())]
    }
}

/// The tone in which an event is shown.
pub(crate) fn event_tone(what: &What) -> Tone {
    match what {
        What::DeploymentHeld { .. }
        | What::DeploymentRolledBack { .. }
        | What::DeploymentRollbackFailed { .. }
        | What::RouteBroken { .. }
        | What::NodeLost
        | What::NotStarted { .. }
        | What::Exited { .. }
        | What::Failed { .. }
        | What::Unhealthy { .. }
        | What::CheckFailed { .. }
        | What::Lost => Tone::Bad,
        What::DeploymentSucceeded | What::Arrived { .. } | What::Healthy | What::Ready => {
            Tone::Good
        }
        _ => Tone::Plain,
    }
}

impl Row for Revision {
    const HEAD: &'static [&'static str] = &["REVISION", "AGE", "OUTCOME", "INSTANCES", "RUNS"];
    const WIDE: &'static [&'static str] = &["REASON"];

    fn name(&self) -> String {
        self.number.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let runs: Vec<_> = self.spec.resources().map(|one| one.program.to_string()).collect();
        let runs = runs.join(" + ");
        vec![
            plain(self.number),
            plain(age::since(self.created_at, now)),
            outcome(self.outcome.as_ref()),
            plain(self.spec.instances),
            plain(one_line(&runs)),
        ]
    }

    fn wide(&self, _: Timestamp) -> Vec<Cell> {
        let reason = self.outcome.as_ref().and_then(|outcome| outcome.reason());
        vec![plain(reason.map(ToString::to_string).unwrap_or_default())]
    }
}

fn outcome(outcome: Option<&RevisionOutcome>) -> Cell {
    let tone = match outcome {
        None => return ("-".into(), Tone::Dim),
        Some(RevisionOutcome::Succeeded { .. }) => Tone::Good,
        Some(RevisionOutcome::Failed { .. }) => Tone::Bad,
        Some(RevisionOutcome::Withdrawn { .. }) => Tone::Dim,
    };
    (outcome.map(RevisionOutcome::word).unwrap_or_default().into(), tone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shortened_for_tables() {
        assert_eq!(one_line("while true\n  do echo hi\ndone"), "while true do echo hi done");
        assert_eq!(one_line(&"é".repeat(90)), "é".repeat(60) + "…");
    }
}
