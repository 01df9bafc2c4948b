//! Waits until all gateways have opened the listeners of the documents that were applied.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use api::{ApplyReply, Client, GatewayView, path};
use model::ChangeKind;

use super::follow;
use crate::exit::Exit;
use crate::output::Failure;

const POLL: Duration = Duration::from_millis(100);
/// Timeout for gateways that respond to the server to follow its newest table.
const FOLLOW_MAX: Duration = Duration::from_secs(15);

/// Waits until every gateway that responds to the server follows the newest table.
///
/// # Errors
///
/// A listener cannot be opened, or a gateway does not follow before `deadline` or [`FOLLOW_MAX`].
pub(super) async fn wait(
    client: &Client,
    reply: &ApplyReply,
    deadline: Option<Instant>,
) -> Result<(), Failure> {
    let applied = reply
        .changes
        .iter()
        .filter(|change| change.kind == "gateway" && change.verdict != ChangeKind::Removed);
    let applied: BTreeSet<&str> = applied.map(|change| change.name.as_str()).collect();
    if applied.is_empty() {
        return Ok(());
    }
    let end = Instant::now() + FOLLOW_MAX;
    let end = deadline.map_or(end, |deadline| deadline.min(end));
    loop {
        match client.get::<Vec<GatewayView>>(path::GATEWAYS).await {
            Ok(mut views) => {
                views.retain(|view| applied.contains(view.gateway.gateway.as_str()));
                if let Some(failure) = views.iter().find_map(not_open) {
                    return Err(failure);
                }
                if views.iter().all(|view| view.pending.is_empty()) {
                    return Ok(());
                }
                if Instant::now() >= end {
                    return Err(not_followed(&views));
                }
            }
            Err(error) if !follow::is_passing(&error) || Instant::now() >= end => {
                return Err(error.into());
            }
            Err(_) => {}
        }
        tokio::time::sleep(POLL).await;
    }
}

fn not_open(view: &GatewayView) -> Option<Failure> {
    if view.failed.is_empty() {
        return None;
    }
    let (name, listen) = (&view.gateway.gateway, view.gateway.listen);
    let mut failure =
        Failure::new(Exit::Deployment, format!("gateway {name} cannot listen on {listen}"));
    for (node, reason) in &view.failed {
        failure = failure.because_of(format!("{node}: {reason}"));
    }
    Some(failure.hint("gateways retry it; a listener that it replaces stays open until then"))
}

fn not_followed(views: &[GatewayView]) -> Failure {
    let pending: BTreeSet<_> = views.iter().flat_map(|view| &view.pending).collect();
    let names: Vec<_> = pending.iter().map(|node| node.as_str()).collect();
    let message = format!("the gateways of {} do not follow the new routes", names.join(", "));
    let mut failure = Failure::new(Exit::TimedOut, message);
    for (node, thread, task) in views.iter().flat_map(|view| &view.stuck) {
        failure = failure.because_of(format!("{node}: thread {thread} is stuck in {task}"));
    }
    failure
}
