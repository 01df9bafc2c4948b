//! The steps and actions of a deployment in Marathon's terms. Removed apps stop first, and new ones
//! start. Then apps are updated in the order of their dependencies, independent ones at the same
//! time.

use std::collections::BTreeMap;

use model::{Deployment, Move, MoveState, Revision, RevisionNumber, ServiceId, State, Timestamp};
use serde::Serialize;

/// An action on one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Action {
    pub(crate) action: &'static str,
    pub(crate) app: ServiceId,
}

/// Actions that are performed at the same time.
pub(crate) type Step = Vec<Action>;

/// The version of the apps after a deployment.
pub(crate) fn version(deployment: &Deployment, state: &State) -> Timestamp {
    let to = |m: &Move| Some(state.service(&m.service)?.revisions.get(&m.to?)?.created_at);
    deployment.moves.iter().filter_map(to).max().unwrap_or(deployment.created_at)
}

/// The revision of an app that was requested before the deployment; `None` if the app is new.
pub(crate) fn before(m: &Move) -> Option<RevisionNumber> {
    m.aimed.or(m.from)
}

/// The kind of the action for an app. Every change beyond the number of instances is a restart,
/// even if Muster does not have to replace any instances.
fn action(m: &Move, state: &State) -> Option<&'static str> {
    let service = state.service(&m.service)?;
    let Some(before) = before(m) else { return Some("ScaleApplication") };
    let (before, to) = (service.revisions.get(&before), service.revisions.get(&m.to?)?);
    let configured_at = |revision: &Revision| revision.configured_at.unwrap_or(revision.created_at);
    let scales = before.is_some_and(|before| configured_at(before) == configured_at(to));
    let stops = to.spec.instances == 0;
    Some(if scales || stops { "ScaleApplication" } else { "RestartApplication" })
}

/// The steps of a deployment, without empty ones.
pub(crate) fn steps(deployment: &Deployment, state: &State) -> Vec<Step> {
    let act = |action, m: &Move| Action { action, app: m.service.clone() };
    let removed = deployment.moves.iter().filter(|m| m.to.is_none());
    let new = deployment.moves.iter().filter(|m| m.to.is_some() && before(m).is_none());
    let stop: Step = removed.map(|m| act("StopApplication", m)).collect();
    let start: Step = new.map(|m| act("StartApplication", m)).collect();
    let mut layers: BTreeMap<usize, Step> = BTreeMap::new();
    let mut depths = BTreeMap::new();
    for m in deployment.moves.iter().filter(|m| m.to.is_some()) {
        let Some(action) = action(m, state) else { continue };
        let depth = depth(&m.service, state, &mut depths);
        layers.entry(depth).or_default().push(act(action, m));
    }
    let steps = [stop, start].into_iter().chain(layers.into_values());
    steps.filter(|step| !step.is_empty()).collect()
}

/// The length of the longest chain of dependencies that starts at an app.
fn depth<'a>(
    id: &'a ServiceId,
    state: &'a State,
    known: &mut BTreeMap<&'a ServiceId, usize>,
) -> usize {
    // The stack holds the services whose dependencies are being visited. A cycle, which a rollback
    // may cause, is cut at the first service that is visited again.
    let mut stack = vec![(id, false)];
    while let Some((id, is_seen)) = stack.pop() {
        let dependencies = state.service(id).map(|service| &service.spec().depends_on);
        if is_seen {
            let below = dependencies.into_iter().flatten();
            let deepest = below.filter_map(|id| known.get(id).map(|depth| depth + 1)).max();
            known.insert(id, deepest.unwrap_or(0));
        } else if !known.contains_key(id) {
            known.insert(id, 0);
            stack.push((id, true));
            let unknown = dependencies.into_iter().flatten();
            stack.extend(unknown.filter(|id| !known.contains_key(*id)).map(|id| (id, false)));
        }
    }
    known.get(id).copied().unwrap_or(0)
}

/// The number of the current step, from 1: the first one with an app that is still being changed.
pub(crate) fn current_step(deployment: &Deployment, steps: &[Step]) -> usize {
    let is_moving = |action: &Action| {
        // `StartApplication` starts no instances; that is done by the step that scales the app.
        action.action != "StartApplication"
            && deployment.move_of(&action.app).is_some_and(|m| m.state == MoveState::Moving)
    };
    let current = steps.iter().position(|step| step.iter().any(is_moving));
    current.unwrap_or(steps.len().saturating_sub(1)) + 1
}

#[cfg(test)]
mod tests {
    use model::{Command, Document, Proposal, Spec, Subject};

    use super::*;

    fn spec(id: &str, instances: u32, version: &str, depends_on: &[&str]) -> Document {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "service": id, "instances": instances, "process": { "command": version },
            "depends_on": depends_on,
        }))
        .unwrap();
        Document::service(spec)
    }

    fn applied(state: &mut State, documents: Vec<Document>) -> Vec<String> {
        state.apply(Proposal::operator(Command::Apply(documents)), Timestamp(1)).unwrap();
        let deployment = state.deployments().next_back().unwrap().clone();
        let words = |action: &Action| format!("{} {}", action.action, action.app);
        let steps = steps(&deployment, state);
        steps.iter().map(|step| step.iter().map(words).collect::<Vec<_>>().join(", ")).collect()
    }

    #[test]
    fn steps_are_ordered_as_marathon_orders_them() {
        let mut state = State::new();
        let steps = applied(
            &mut state,
            vec![spec("/db", 1, "a", &[]), spec("/web", 2, "a", &["/db"]), spec("/x", 1, "a", &[])],
        );
        assert_eq!(
            steps,
            [
                "StartApplication /db, StartApplication /web, StartApplication /x",
                "ScaleApplication /db, ScaleApplication /x",
                "ScaleApplication /web",
            ]
        );
    }

    #[test]
    fn removed_apps_stop_in_the_first_step() {
        let mut state = State::new();
        applied(&mut state, vec![spec("/a", 0, "a", &[]), spec("/b", 0, "a", &[])]);
        let changed = vec![
            Document::Remove(Subject::Service("/a".parse().unwrap())),
            spec("/c", 1, "a", &[]),
        ];
        let steps = applied(&mut state, changed);
        assert_eq!(steps, ["StopApplication /a", "StartApplication /c", "ScaleApplication /c"]);
    }
}
