//! Documents: parsed, checked, then applied or run dry.

use api::{ApplyReply, ApplyRequest, Detail, ErrorBody, ErrorCode, Wave, now};
use axum::Json;
use axum::extract::State;
use formats::{Diagnostic, Located};
use model::{Changeset, Command, Proposal, Refusal};

use super::request_id::Author;
use super::response::{Body, ErrorResponse};
use crate::adapter::{Adapters, Server};
use crate::control::{RequestError, Snapshot};
use crate::shell::Failure;
use crate::view;

pub(super) async fn apply(
    State(server): State<Server>,
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
    ApplyReply { changes: applied.changes, deployment, waves: Vec::new(), waits: Vec::new() }
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
    let dry_run = planner::dry_run(state, (*snapshot.observed).clone(), now);
    let mut reply = reply(applied);
    reply.waves = dry_run.waves.into_iter().map(|steps| Wave { steps }).collect();
    reply.waits = dry_run.waits.into_iter().map(|(id, wait)| view::wait(&id, &wait)).collect();
    Ok(reply)
}
