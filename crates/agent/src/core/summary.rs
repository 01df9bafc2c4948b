//! Log summaries of events and effects: the kind and the instance concerned. A summary never
//! contains the launch itself, since the environment may contain secrets.

use model::InstanceId;

use super::{Effect, Event};
use crate::drivers::DriverEvent;

impl Event {
    /// The kind of event, and the instance concerned.
    pub(crate) fn summary(&self) -> (&'static str, Option<&InstanceId>) {
        match self {
            Event::Connected => ("connected", None),
            Event::Assignments(_) => ("assignments", None),
            Event::Adopted { .. } => ("adopted", None),
            Event::Unavailable { .. } => ("away", None),
            Event::Driver(event) => match event {
                DriverEvent::Started { piece, .. } => ("started", Some(&piece.instance)),
                DriverEvent::NotStarted { piece, .. } => ("not started", Some(&piece.instance)),
                DriverEvent::Misplaced { piece, .. } => ("misplaced", Some(&piece.instance)),
                DriverEvent::Exited { piece, .. } => ("exited", Some(&piece.instance)),
                DriverEvent::Preparing { piece, .. } => ("preparing", Some(&piece.instance)),
            },
            Event::Probed { piece, .. } => ("probed", Some(&piece.instance)),
            Event::FilesUpdated { piece, .. } => ("files updated", Some(&piece.instance)),
            Event::Suspended { piece, suspend: true, .. } => ("suspended", Some(&piece.instance)),
            Event::Suspended { piece, suspend: false, .. } => ("resumed", Some(&piece.instance)),
            Event::Tick => ("tick", None),
            Event::ReportSent { .. } => ("report sent", None),
            Event::ReportFailed { .. } => ("report failed", None),
            Event::End => ("end", None),
        }
    }
}

impl Effect {
    /// The kind of effect, and the instance concerned.
    pub(crate) fn summary(&self) -> (&'static str, Option<&InstanceId>) {
        match self {
            Effect::Start(launch) => ("start", Some(&launch.piece.instance)),
            Effect::Stop { piece, .. } => ("stop", Some(&piece.instance)),
            Effect::Probe { launch, .. } => ("probe", Some(&launch.piece.instance)),
            Effect::UpdateFiles { launch, .. } => ("update files", Some(&launch.piece.instance)),
            Effect::Suspend { piece, suspend: true, .. } => ("suspend", Some(&piece.instance)),
            Effect::Suspend { piece, suspend: false, .. } => ("resume", Some(&piece.instance)),
            Effect::Forget { of, .. } => ("forget", Some(&of.instance)),
            Effect::RemoveDirectory(instance) => ("remove directory", Some(instance)),
            Effect::Persist(_) => ("persist", None),
            Effect::Report(_) => ("report", None),
            Effect::WakeAt(_) => ("wake", None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Given, Piece, ResourceId, Spec};

    use super::super::LaunchSpec;
    use super::*;

    #[test]
    fn logged_launches_omit_the_environment() {
        let spec: Result<Spec, _> = serde_json::from_value(serde_json::json!({
            "service": "/web", "process": { "command": "true" }, "env": { "PASSWORD": "secret" },
        }));
        let spec = Arc::new(spec.unwrap());
        let launch = LaunchSpec {
            piece: Piece {
                instance: "/web~0.1".parse().unwrap(),
                resource: ResourceId::main(),
                run: 1,
            },
            revision: 1,
            revision_created_at: model::Timestamp(0),
            spec: spec.clone(),
            first_port: 0,
            instance: spec,
            given: Given::default(),
        };
        let start = Effect::Start(launch);
        let summary = format!("{:?}", start.summary());
        assert!(summary.contains("start") && summary.contains("web"), "{summary}");
        assert!(!summary.contains("secret"), "{summary}");
    }
}
