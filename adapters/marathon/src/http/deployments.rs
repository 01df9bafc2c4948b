//! `/v2/deployments`: list, roll back and cancel deployments.

use axum::http::StatusCode;
use model::{Command, Deployment, MoveState, Stage, Steer};
use serde::Serialize;
use serde_json::{Value, json};

use super::change::{self, DesiredApps, present};
use super::reply::{ApiRequest, Reply};
use super::with_presenter;
use crate::view::app::{Apps, Presenter};
use crate::view::name;
use crate::view::plan::{self, Action};
use server::control::Snapshot;

/// A deployment with its steps and its progress.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    id: String,
    version: model::Timestamp,
    affected_apps: Vec<model::ServiceId>,
    affected_pods: [(); 0],
    steps: Vec<Value>,
    current_actions: Vec<Value>,
    current_step: usize,
    total_steps: usize,
}

/// Whether clients see the deployment: it is in progress and has not been cancelled.
fn is_shown(deployment: &Deployment) -> bool {
    !deployment.stage.is_over() && deployment.stage != Stage::Paused
}

/// `GET /v2/deployments`.
pub(super) fn list(request: &ApiRequest) -> Reply {
    with_presenter(request, false, |presenter| {
        let deployments = presenter.snapshot.state.deployments().filter(|d| is_shown(d));
        let shown: Vec<_> = deployments.map(|deployment| info(presenter, deployment)).collect();
        Reply::json(&shown)
    })
}

fn info(presenter: &Presenter<'_>, deployment: &Deployment) -> Info {
    let state = &presenter.snapshot.state;
    let steps = plan::steps(deployment, state);
    let current = plan::current_step(deployment, &steps);
    let actions = steps.get(current.saturating_sub(1)).map(Vec::as_slice).unwrap_or_default();
    let current_action = |action: &Action| {
        json!({
            "action": action.action,
            "app": action.app,
            "readinessCheckResults": presenter.readiness(&action.app),
        })
    };
    Info {
        id: name::deployment(deployment.id),
        version: plan::version(deployment, state),
        affected_apps: deployment.moves.iter().map(|m| m.service.clone()).collect(),
        affected_pods: [],
        current_actions: actions.iter().map(current_action).collect(),
        current_step: current,
        total_steps: steps.len(),
        steps: steps.iter().map(|actions| json!({ "actions": actions })).collect(),
    }
}

/// `DELETE /v2/deployments/{id}`: rolls back by a new deployment or, with `force`, cancels the
/// deployment without a rollback.
pub(super) async fn remove(request: &ApiRequest, id: &str) -> Result<Reply, Reply> {
    let unknown = || Reply::not_found(format!("DeploymentPlan {id} does not exist"));
    let number = name::parse_deployment(id).ok_or_else(unknown)?;
    let snapshot = request.server.snapshot();
    let deployment = snapshot.state.deployment(number).filter(|d| is_shown(d)).cloned();
    let deployment = deployment.ok_or_else(unknown)?;
    if request.flag("force", false) {
        let command = Command::Steer { deployment: number, how: Steer::Pause };
        change::commit(request, command, Vec::new(), true).await?;
        return Ok(Reply::nothing(StatusCode::ACCEPTED));
    }
    let apps = &request.marathon.apps;
    let done =
        change::submit(request, true, |snapshot| Ok(back(snapshot, &deployment, apps))).await?;
    Ok(done.reply())
}

/// Reverts the apps of a deployment to their previous revisions, and removes those without any.
fn back(snapshot: &Snapshot, deployment: &Deployment, apps: &Apps) -> DesiredApps {
    let mut desired = DesiredApps::default();
    let left = [MoveState::Superseded, MoveState::Abandoned];
    let ours = deployment.moves.iter().filter(|m| !left.contains(&m.state));
    for m in ours {
        let Some(service) = snapshot.state.service(&m.service) else { continue };
        // As in Marathon, the previously requested revision, even if it never ran.
        let mut before = [m.aimed, m.from].into_iter().flatten();
        match before.find_map(|number| service.revisions.get(&number)) {
            Some(revision) => desired.apps.push((*apps.of(service, revision)).clone()),
            None if present(&snapshot.state, &m.service).is_some() => {
                desired.removed.push(m.service.clone());
            }
            None => {}
        }
    }
    desired
}
