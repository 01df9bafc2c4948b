//! Taking the lead, and the time with it.
//!
//! What is stored was stamped by the clock of whoever led before. If that one was ahead, waits and
//! deadlines lie further in the future than anybody has asked for: they are brought back.

use std::sync::Arc;

use crate::command::Applied;
use crate::id::InstanceId;
use crate::object::Key;
use crate::service::{Goal, Service};
use crate::state::State;
use crate::unit::Timestamp;

impl State {
    pub(crate) fn lead(&mut self, at: Timestamp) -> Applied {
        self.meta.epoch += 1;
        let mut applied = Applied { changed: [Key::Meta].into(), ..Applied::default() };
        let message = format!("it leads, epoch {}", self.meta.epoch);
        applied.event(at, "server-started", "server", None, message);
        let ids: Vec<_> = self.services.keys().cloned().collect();
        for id in ids {
            let Some(service) = self.services.get_mut(&id).filter(|s| is_ahead(s, at)) else {
                continue;
            };
            let service = Arc::make_mut(service);
            for slot in &mut service.slots {
                slot.failed_at = slot.failed_at.min(at);
            }
            applied.changed.insert(Key::Service(id.clone()));
            for seat in service.placements.keys().copied().collect::<Vec<_>>() {
                let latest = latest_stop(service, seat, at);
                let Some(placement) = service.placements.get_mut(&seat) else { continue };
                placement.placed_at = placement.placed_at.min(at);
                if let Goal::Drain { until, .. } = &mut placement.goal {
                    *until = latest.min(*until);
                }
                applied.changed.insert(Key::Instance(InstanceId { service: id.clone(), seat }));
            }
        }
        let ahead = self.deployments.values().filter(|deployment| {
            deployment.moves.iter().any(|m| m.progressed_at.is_some_and(|since| since > at))
        });
        for id in ahead.map(|deployment| deployment.id).collect::<Vec<_>>() {
            let Some(deployment) = self.deployments.get_mut(&id) else { continue };
            for m in &mut Arc::make_mut(deployment).moves {
                m.progressed_at = m.progressed_at.map(|since| since.min(at));
            }
            applied.changed.insert(Key::Deployment(id));
        }
        applied
    }
}

/// When an instance that is drained from now on would be stopped.
fn latest_stop(service: &Service, seat: crate::id::Seat, at: Timestamp) -> Timestamp {
    let revision = service.placements.get(&seat).map(|placement| placement.revision);
    revision.map_or(at, |revision| at.after(service.drain(revision)))
}

/// Whether anything of it waits for longer than it should.
fn is_ahead(service: &Service, at: Timestamp) -> bool {
    service.slots.iter().any(|slot| slot.failed_at > at)
        || service.placements.iter().any(|(seat, placement)| {
            placement.placed_at > at
                || matches!(placement.goal, Goal::Drain { until, .. }
                    if until > latest_stop(service, *seat, at))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Document, Registration, Step};
    use crate::id::DeploymentId;
    use crate::service::Leave;
    use crate::{AgentRegistration, Millis, Resources};

    #[test]
    fn nothing_waits_for_a_clock_that_was_ahead() {
        let mut state = State::new();
        let agent = AgentRegistration {
            id: String::new(),
            port: 4041,
            capacity: Resources::default(),
            labels: Default::default(),
            capabilities: ["process".into()].into(),
            ports: crate::PORTS,
        };
        let node = "n1".parse().expect("a name");
        let registration = Registration { node, address: "n1".into(), agent: Some(agent) };
        let (ahead, now) = (Timestamp(3_600_000), Timestamp(1_000));
        state.apply(Command::Register(registration), ahead).expect("a node");
        let text =
            r#"{"service": "/web", "process": {"command": "serve"}, "stop": {"drain": "5s"}}"#;
        let spec = serde_json::from_str(text).expect("a service");
        state
            .apply(Command::Apply(vec![Document::Service(Box::new(spec))]), ahead)
            .expect("it is applied");
        let instance = InstanceId::new("/web".parse().expect("a path"), 0, 1);
        let steps = [
            Step::Progress { service: instance.service.clone(), ready: 0 },
            Step::Place {
                instance: instance.clone(),
                revision: 1,
                node: "n1".parse().expect("a name"),
                ports: vec![],
            },
            Step::Drain {
                instance: instance.clone(),
                until: ahead.after(Millis::secs(5)),
                why: Leave::Unhealthy,
            },
        ];
        for step in steps {
            state.apply(Command::Adopt(step), ahead).expect("a step");
        }
        let applied = state.apply(Command::Lead, now).expect("anyone may lead");
        let placement = state.placement(&instance).expect("it is placed").clone();
        assert_eq!(placement.placed_at, now);
        let Goal::Drain { until, .. } = placement.goal else { panic!("it is drained") };
        assert_eq!(until, now.after(Millis::secs(5)));
        let service = state.service(&instance.service).expect("it is there");
        assert!(service.slots.iter().all(|slot| slot.failed_at <= now));
        let deployment = state.deployment(DeploymentId(1)).expect("it is there");
        assert_eq!(deployment.moves[0].progressed_at, Some(now));
        for key in [Key::Instance(instance.clone()), Key::Service(instance.service)] {
            assert!(applied.changed.contains(&key), "{key:?} is stored");
        }
        let again = state.apply(Command::Lead, now).expect("anyone may lead");
        assert_eq!(again.changed, [Key::Meta].into(), "what is right stays as it is");
    }
}
