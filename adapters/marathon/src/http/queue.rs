//! `/v2/queue`: the instances that wait for a start, and resetting their delay.

use axum::http::StatusCode;
use model::{Command, Proposal};
use serde_json::json;

use super::reply::{ApiRequest, Reply, app_id};
use super::with_presenter;
use crate::view::queue::{self, Embed};

/// `GET /v2/queue`.
pub(super) fn list(request: &ApiRequest) -> Reply {
    let asks = |name: &str| request.parameters("embed").any(|embed| embed == name);
    let embed = Embed { last_unused_offers: asks("lastUnusedOffers"), waits: asks("waits") };
    with_presenter(request, false, |presenter| {
        Reply::json(&json!({ "queue": queue::queue(presenter, embed) }))
    })
}

/// `DELETE /v2/queue/{id}/delay`: ends the backoff of an app after failures.
pub(super) async fn reset_delay(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    if !with_presenter(request, false, |presenter| queue::has(presenter, &id)) {
        let message = format!("Application {id} not found in tasks queue.");
        return Err(Reply::not_found(message));
    }
    request.server.propose(Proposal::operator(Command::ResetDelay { service: id })).await?;
    Ok(Reply::nothing(StatusCode::NO_CONTENT))
}
