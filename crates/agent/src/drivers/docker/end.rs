//! Suspending and stopping a run, and removing containers. Stops and removals are retried for as
//! long as the daemon is unreachable. A stop is repeated until the run has ended; a removal that the
//! daemon keeps rejecting is left to the next comparison.

use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::{KillContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use model::{Piece, Signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::container::signal_name;
use super::daemon::{Client, Error, REQUEST_TIMEOUT, WORK_TIMEOUT};
use super::{Core, LoopRequest, leftover};

/// After this, a killed container that has not ended is inspected and killed again.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// The wait before the next attempt with a daemon that responds.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// After this number of rejections, a removal is left to the next comparison.
const REJECTIONS_MAX: u32 = 5;

/// Sends `signal` to a container, and kills it if it has not ended after `grace`. Its end is
/// received, and reported, through the daemon's events.
pub(super) async fn stop(
    core: Arc<Core>,
    container: String,
    ended: CancellationToken,
    signal: Signal,
    grace: Duration,
) {
    let killed = async {
        deliver(&core, &container, signal_name(signal)).await;
        sleep(grace).await;
        loop {
            deliver(&core, &container, "SIGKILL").await;
            sleep(KILL_WAIT).await;
            // The event may have been lost.
            let _ = core.requests.send(LoopRequest::Look);
        }
    };
    ended.run_until_cancelled(killed).await;
}

/// Sends a signal, as soon as the daemon responds.
async fn deliver(core: &Core, container: &str, signal: &str) {
    loop {
        let client = core.daemon.client_in_time().await;
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        let sent = client.docker().kill_container(container, Some(options));
        match client.call(WORK_TIMEOUT, sent).await {
            Ok(()) => return,
            Err(error) if error.is_unknown() => {
                // It does not exist any more: the comparison will report that.
                let _ = core.requests.send(LoopRequest::Look);
                return;
            }
            Err(Error::Refused { .. }) if is_paused(&client, container).await => {
                let resumed = client.docker().unpause_container(container);
                if let Err(error) = client.call(REQUEST_TIMEOUT, resumed).await {
                    tracing::warn!(container, "cannot resume a paused container: {error}");
                }
            }
            Err(error) if error.is_conflict() => {
                // It does not run: the comparison will report that, if no event has.
                let _ = core.requests.send(LoopRequest::Look);
                return;
            }
            Err(Error::Refused { message, .. }) => {
                tracing::warn!(container, signal, "cannot send a signal: {message}");
                return;
            }
            Err(error) => tracing::debug!(container, signal, "cannot send a signal: {error}"),
        }
        sleep(RETRY_WAIT).await;
    }
}

/// Pauses or unpauses the container of a run.
pub(super) async fn suspend(core: Arc<Core>, run: Piece, suspend: bool) -> Result<(), String> {
    let container = core.runs().running(&run).ok_or("it does not run")?;
    let client = core.daemon.client().await.map_err(|error| error.to_string())?;
    let done = match suspend {
        true => client.call(WORK_TIMEOUT, client.docker().pause_container(&container)).await,
        false => client.call(WORK_TIMEOUT, client.docker().unpause_container(&container)).await,
    };
    match done {
        // It was in this state already.
        Err(Error::Refused { .. }) if is_paused(&client, &container).await == suspend => {}
        done => done.map_err(|error| error.to_string())?,
    }
    core.runs().set_suspended(&run, suspend);
    Ok(())
}

/// Whether a container is paused, so that it receives no signal; `false` if its state is unknown.
async fn is_paused(client: &Client, container: &str) -> bool {
    let inspected =
        client.call(REQUEST_TIMEOUT, client.docker().inspect_container(container, None));
    let state = inspected.await.ok().and_then(|found| found.state);
    state.and_then(|state| state.paused) == Some(true)
}

/// Kills and removes a container, now if possible, otherwise later.
pub(super) async fn remove(core: &Arc<Core>, container: String) {
    let removed = async {
        let client = core.daemon.client().await?;
        remove_with(&client, &container).await
    };
    if removed.await.is_err() {
        core.spawn(remove_container(core.clone(), container));
    }
}

/// Kills and removes a container, as soon as the daemon responds.
pub(super) async fn remove_container(core: Arc<Core>, container: String) {
    let mut rejections = 0;
    while rejections < REJECTIONS_MAX {
        let client = core.daemon.client_in_time().await;
        let turn = core.removals.acquire().await;
        let removed = remove_with(&client, &container).await;
        drop(turn);
        match removed {
            Ok(()) => return,
            Err(error) => {
                tracing::debug!(container, "cannot remove a container: {error}");
                rejections += u32::from(!error.is_unavailable());
            }
        }
        sleep(RETRY_WAIT).await;
    }
    tracing::warn!(container, "the Docker daemon does not remove a container");
}

async fn remove_with(client: &Client, container: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let removed = client.docker().remove_container(container, Some(options));
    match client.call(WORK_TIMEOUT, removed).await {
        Ok(()) => {}
        // Another removal is in progress or has succeeded.
        Err(error) if error.is_unknown() || error.is_conflict() => {}
        Err(error) => return Err(error),
    }
    leftover::end(container).await;
    Ok(())
}
