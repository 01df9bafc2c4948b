//! Documents: parsed, checked, then applied or run dry.

use std::collections::BTreeSet;

use api::{ApplyReply, ApplyRequest, ChangedKeys, Detail, ErrorBody, ErrorCode, Wave, now};
use axum::{Json, extract};
use formats::{Diagnostic, Located};
use model::{Change, ChangeKind, Changeset, Command, Proposal, Refusal, ServiceId, State};

use super::request_id::Author;
use super::response::{Body, ErrorResponse};
use crate::adapter::{Adapters, Server};
use crate::control::{RequestError, Snapshot};
use crate::shell::Failure;
use crate::view;

pub(super) async fn apply(
    extract::State(server): extract::State<Server>,
    author: Author,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<ApplyReply>, ErrorResponse> {
    let (plan, retry) = (request.plan, request.retry);
    let (snapshot, adapters) = (server.handle.snapshot(), server.adapters.clone());
    let parsed = blocking(move || {
        let mut parsed = parse(request, &adapters)?;
        let mut documents: Vec<_> =
            parsed.iter_mut().map(|located| &mut located.document).collect();
        adapters.prepare(&mut documents, &snapshot.state);
        Ok::<_, ErrorResponse>(parsed)
    });
    let parsed = parsed.await??;
    let documents = parsed.iter().map(|located| located.document.clone()).collect();
    let mut proposal = author.proposal(Command::Apply(documents));
    proposal.guard.retry = retry;
    if plan {
        let snapshot = server.handle.snapshot();
        let foreseen = blocking(move || dry_run(&snapshot, proposal)).await?;
        return foreseen.map(Json).map_err(|refusal| located_refusal(refusal, &parsed));
    }
    match server.handle.propose(proposal).await {
        Ok(applied) => Ok(Json(reply(applied))),
        Err(Failure::RequestError(RequestError::Refused(refusal))) => {
            Err(located_refusal(refusal, &parsed))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// The response to a command that was applied.
pub(super) fn reply(applied: Changeset) -> ApplyReply {
    let deployment = applied.changes.iter().find_map(|change| change.deployment);
    let (waves, waits, differences) = (Vec::new(), Vec::new(), Vec::new());
    ApplyReply { changes: applied.changes, deployment, waves, waits, differences }
}

/// Runs work on a blocking thread, so that it does not delay other requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ErrorResponse> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a request could not be worked on to its end");
        ErrorResponse::new(
            ErrorCode::Internal,
            "the server could not work on this request to its end",
        )
    })
}

fn parse(request: ApplyRequest, adapters: &Adapters) -> Result<Vec<Located>, ErrorResponse> {
    let dialects = adapters.dialects();
    let mut documents = Vec::new();
    let mut diagnostics = Vec::new();
    for source in &request.sources {
        match formats::parse_with(&source.name, &source.text, &dialects) {
            Ok(parsed) => documents.extend(parsed.documents),
            Err(found) => diagnostics.extend(found),
        }
    }
    if diagnostics.is_empty() { Ok(documents) } else { Err(wrong(diagnostics)) }
}

/// The error response to a refused command. Each problem is located in the source of its document.
fn located_refusal(refusal: Refusal, documents: &[Located]) -> ErrorResponse {
    let Refusal::Invalid { problems } = refusal else { return refusal.into() };
    let located =
        problems.iter().filter_map(|(i, problem)| Some(documents.get(*i)?.diagnostic(problem)));
    wrong(located.collect())
}

fn wrong(diagnostics: Vec<Diagnostic>) -> ErrorResponse {
    let count = diagnostics.len();
    let plural = if count == 1 { "" } else { "s" };
    let message = format!("{count} error{plural} in the documents; nothing was changed");
    let mut body = ErrorBody::new(ErrorCode::Invalid, message);
    let details = diagnostics.into_iter().map(|diagnostic| Detail {
        source: Some(diagnostic.source),
        line: Some(diagnostic.line),
        column: Some(diagnostic.column),
        key: Some(diagnostic.key).filter(|key| !key.is_empty()),
        message: diagnostic.message,
    });
    body.details = details.collect();
    ErrorResponse(body)
}

/// Applies a proposal to a copy of the state and runs the planner dry on it.
fn dry_run(snapshot: &Snapshot, proposal: Proposal) -> Result<ApplyReply, Refusal> {
    let now = now();
    let mut state = snapshot.state.clone();
    let applied = state.apply(proposal, now)?;
    let mut reply = reply(applied);
    reply.differences = differences(&reply.changes, &snapshot.state, &state);
    let dry_run = planner::dry_run(state, (*snapshot.observed).clone(), now);
    // Other services have steps and waits of their own, with or without these documents.
    let named = reply.changes.iter().filter(|change| change.kind == SERVICE);
    let named: BTreeSet<_> = named.map(|change| change.name.clone()).collect();
    let is_named = |service: &ServiceId| named.contains(service.as_str());
    let waves = dry_run.waves.into_iter().filter_map(|mut steps| {
        steps.retain(|step| is_named(step.service()));
        (!steps.is_empty()).then_some(Wave { steps })
    });
    reply.waves = waves.collect();
    let waits = dry_run.waits.iter().filter(|(id, _)| is_named(id));
    reply.waits = waits.map(|(id, wait)| view::wait(id, wait)).collect();
    Ok(reply)
}

const SERVICE: &str = "service";

/// The changed keys of the objects that are updated.
fn differences(changes: &[Change], before: &State, after: &State) -> Vec<ChangedKeys> {
    let updated = changes.iter().filter(|change| change.verdict == ChangeKind::Updated);
    let differences = updated.filter_map(|Change { kind, name, .. }| {
        let keys =
            model::differences(&document(kind, name, before)?, &document(kind, name, after)?);
        let (kind, name) = (kind.clone(), name.clone());
        (!keys.is_empty()).then_some(ChangedKeys { kind, name, keys })
    });
    differences.collect()
}

/// A service or a gateway in the form of a document.
fn document(kind: &str, name: &str, state: &State) -> Option<serde_json::Value> {
    let document = match kind {
        SERVICE => serde_json::to_value(state.service(&name.parse().ok()?)?.spec().shown()),
        _ => serde_json::to_value(state.gateway(&name.parse().ok()?)?),
    };
    document.ok()
}
