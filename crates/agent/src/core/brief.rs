//! What the log says of events and effects: which, and of which instance. Never what an instance
//! is run with, since its environment has what is secret in it.

use model::InstanceId;

use super::{Effect, Event, Seed};
use crate::drivers::Told;

impl Event {
    /// Which event, and of which instance.
    pub(crate) fn brief(&self) -> (&'static str, Option<&InstanceId>) {
        match self {
            Event::Connected => ("connected", None),
            Event::Assignments(_) => ("assignments", None),
            Event::Adopted { .. } => ("adopted", None),
            Event::Away { .. } => ("away", None),
            Event::Told(told) => match told {
                Told::Started { instance, .. } => ("started", Some(instance)),
                Told::NotStarted { instance, .. } => ("not started", Some(instance)),
                Told::Misplaced { instance, .. } => ("misplaced", Some(instance)),
                Told::Exited { instance, .. } => ("exited", Some(instance)),
                Told::Preparing { instance, .. } => ("preparing", Some(instance)),
            },
            Event::Probed { instance, .. } => ("probed", Some(instance)),
            Event::Tick => ("tick", None),
            Event::ReportSent { .. } => ("report sent", None),
            Event::ReportFailed { .. } => ("report failed", None),
            Event::End => ("end", None),
        }
    }
}

impl Effect {
    /// Which effect, and on which instance.
    pub(crate) fn brief(&self) -> (&'static str, Option<&InstanceId>) {
        match self {
            Effect::Start(Seed { instance, .. }) => ("start", Some(instance)),
            Effect::Stop { instance, .. } => ("stop", Some(instance)),
            Effect::Probe { seed, .. } => ("probe", Some(&seed.instance)),
            Effect::Forget { instance, .. } => ("forget", Some(instance)),
            Effect::Persist(_) => ("persist", None),
            Effect::Report(_) => ("report", None),
            Effect::WakeAt(_) => ("wake", None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_log_has_nothing_of_an_environment() {
        let spec = serde_json::from_value(serde_json::json!({
            "service": "/web", "process": { "command": "true" }, "env": { "PASSWORD": "secret" },
        }));
        let seed = Seed {
            instance: "/web~0.1".parse().unwrap(),
            run: 1,
            revision: 1,
            spec: Arc::new(spec.unwrap()),
            ports: Vec::new(),
            env: [("TOKEN".to_string(), "secret".to_string())].into(),
        };
        let start = Effect::Start(seed);
        let brief = format!("{:?}", start.brief());
        assert!(brief.contains("start") && brief.contains("web"), "{brief}");
        assert!(!brief.contains("secret"), "{brief}");
    }
}
