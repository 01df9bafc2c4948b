//! A deployment in full.

use api::{DeploymentView, path};
use model::{Deployment, DeploymentId, MoveState};

use super::{Session, waits};
use crate::exit::Exit;
use crate::output::rows::stage_tone;
use crate::output::sheet::Sheet;
use crate::output::tone::Tone;
use crate::output::{Failure, age, table};
use crate::verbs::{follow, get};

pub(super) async fn show(session: &Session, id: DeploymentId) -> Result<Exit, Failure> {
    let all: Vec<DeploymentView> = session.client.get(path::DEPLOYMENTS).await?;
    let Some(view) = all.into_iter().find(|view| view.deployment.id == id) else {
        return Err(get::not_found("deployment", &id.to_string()));
    };
    if session.screen.is_for_programs() {
        session.screen.document(&view)?;
        return Ok(Exit::Ok);
    }
    let deployment = &view.deployment;
    let stage = &deployment.stage;
    let mut sheet = Sheet::new(&session.screen, 10);
    sheet
        .line("Deployment", id)
        .toned("Stage", stage_tone(stage), follow::verdict(&view))
        .toned(
            "Reason",
            Tone::Bad,
            stage.reason().map(|reason| reason.to_string()).unwrap_or_default(),
        )
        .line("Cause", deployment.cause)
        .line("By", author(deployment))
        .line("Began", format!("{} ago", age::since(deployment.created_at, age::now())));
    let rows = view.moves.iter().enumerate().map(|(index, progress)| {
        let (mut way, mut state) = (String::new(), (String::new(), Tone::Plain));
        if let Some(one) = deployment.moves.get(index) {
            let name = |revision: Option<u32>, none: &str| {
                revision.map_or(none.to_string(), |revision| revision.to_string())
            };
            way = format!("{} → {}", name(one.from, "new"), name(one.to, "gone"));
            state = match one.state {
                MoveState::Moving => ("moving".into(), Tone::Warn),
                MoveState::Done => ("done".into(), Tone::Good),
                MoveState::Superseded => ("superseded".into(), Tone::Dim),
                MoveState::Abandoned => ("given up".into(), Tone::Bad),
            };
        }
        vec![
            table::plain(&progress.service),
            table::plain(way),
            state,
            table::plain(format!("{}/{}", progress.ready, progress.wanted)),
            table::plain(progress.outgoing),
            table::plain(progress.deadline_in.map(age::span).unwrap_or_default()),
        ]
    });
    let head = ["SERVICE", "REVISION", "STATE", "READY", "OLD", "FAILS IN"];
    sheet.section("Services", &table::align(&head, rows, false));
    for progress in view.moves.iter().filter(|progress| !progress.waits.is_empty()) {
        let title = format!("What {} waits for", progress.service);
        sheet.section(&title, &waits(&session.screen, &progress.waits));
    }
    session.screen.line(sheet.finish())?;
    Ok(Exit::Ok)
}

/// Who created a deployment and, if it came through an adapter, with which request.
fn author(deployment: &Deployment) -> String {
    let by = deployment.by.as_ref().map(|by| by.to_string()).unwrap_or_default();
    match &deployment.via {
        Some(via) => format!("{by} ({} from {})", via.uri, via.client).trim_start().into(),
        None => by,
    }
}
