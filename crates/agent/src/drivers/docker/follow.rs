//! Watching the containers: one loop that owns the connection to the daemon.
//!
//! Events report each exit as it happens. The daemon keeps only the last few of them, and none
//! across its own restart. Therefore each new connection subscribes from the last event seen, and
//! then lists all containers of the agent once and compares them with the known runs: ends are
//! reported, missing containers are reported as removed, and unknown ones are removed. An idle
//! connection is pinged, so that a hanging daemon is detected.
//!
//! Adoption is the same comparison, made once for the containers of earlier agents.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::Backoff;
use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, EventMessage,
};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use futures_util::{StreamExt as _, stream};
use model::{Bytes, Piece, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::daemon::{Client, Error, PING_TIMEOUT, REQUEST_TIMEOUT};
use super::runs::Adopted;
use super::{Core, LoopRequest, container, end, exit, leftover, now};

/// Bounds of the delay between two attempts to reach the daemon.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3);
/// A connection that lasted this long resets the delay.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How often the daemon is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// The maximum number of containers inspected at a time.
const INSPECTS_MAX: usize = 8;

/// Keeps the connection and watches the containers, until the driver is dropped.
pub(super) async fn follow(core: Arc<Core>, mut requests: mpsc::UnboundedReceiver<LoopRequest>) {
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX, &core.settings.agent);
    let mut since = now().0 * 1_000_000;
    loop {
        let began = Instant::now();
        let error = match core.daemon.connect().await {
            Ok(client) => follow_one(&core, &client, &mut requests, &mut since).await,
            Err(error) => error,
        };
        if began.elapsed() >= STABLE_AFTER {
            backoff.reset();
        }
        // After any error the daemon counts as unreachable until the next connection.
        let error = match error {
            error @ Error::Unavailable { .. } => error,
            error => core.daemon.unavailable(error.to_string()),
        };
        let message = error.to_string();
        core.daemon.set_unavailable(error);
        let retry_at = Instant::now() + backoff.next_delay();
        loop {
            tokio::select! {
                () = sleep_until(retry_at) => break,
                request = requests.recv() => match request {
                    Some(LoopRequest::Adopt(reply)) => drop(reply.send(Err(message.clone()))),
                    Some(LoopRequest::Look) => {}
                    None => return,
                },
            }
        }
    }
}

/// Watches the containers over one connection; returns the error that ended it.
async fn follow_one(
    core: &Arc<Core>,
    client: &Client,
    requests: &mut mpsc::UnboundedReceiver<LoopRequest>,
    since: &mut u64,
) -> Error {
    let filters = HashMap::from([
        ("type", vec!["container".to_string()]),
        ("event", ["start", "die", "oom"].map(String::from).into()),
        ("label", vec![container::of_agent(&core.settings)]),
    ]);
    let from = format!("{}.{:09}", *since / 1_000_000_000, *since % 1_000_000_000);
    let options = EventsOptionsBuilder::default().since(&from).filters(&filters).build();
    let mut events = client.docker().events(Some(options));
    if let Err(error) = compare(core, client).await {
        return error;
    }
    core.daemon.set_available(client);

    let mut ping = interval(PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    *since = event_time(&event).map_or(*since, |at| at.max(*since));
                    handle(core, client, event);
                    Ok(())
                }
                Some(Err(error)) => Err(client.convert_error(error)),
                None => Err(client.unavailable("it has closed the connection".into())),
            },
            request = requests.recv() => match request {
                Some(LoopRequest::Adopt(reply)) => {
                    let adopted = adopt(core, client).await;
                    let found = adopted.map(|()| core.runs().found());
                    let failed = found.as_ref().err().cloned().filter(Error::is_unavailable);
                    let _ = reply.send(found.map_err(|error| error.to_string()));
                    failed.map_or(Ok(()), Err)
                }
                Some(LoopRequest::Look) => compare(core, client).await,
                None => Err(client.unavailable("the driver has ended".into())),
            },
            _ = ping.tick() => {
                client.call(PING_TIMEOUT, client.docker().ping()).await.map(|_| ())
            }
        };
        if let Err(error) = done {
            return error;
        }
    }
}

/// The time of an event, in nanoseconds.
fn event_time(event: &EventMessage) -> Option<u64> {
    let seconds = || event.time.map(|seconds| seconds.saturating_mul(1_000_000_000));
    event.time_nano.or_else(seconds).and_then(|nanos| u64::try_from(nanos).ok())
}

fn handle(core: &Arc<Core>, client: &Client, event: EventMessage) {
    let at = event_time(&event).map_or_else(now, |nanos| Timestamp(nanos / 1_000_000));
    let Some(actor) = event.actor else { return };
    let attributes = actor.attributes.unwrap_or_default();
    let key = container::key(&attributes, &core.settings);
    let (Some(key), Some(id)) = (key, actor.id) else { return };
    match event.action.as_deref() {
        Some("oom") => core.runs().ran_out_of_memory(&key, &id, at),
        Some("die") => {
            let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
            let Some(code) = code.filter(|code| !core.runs().may_be_out_of_memory(&key, *code))
            else {
                // The event of an OOM kill may arrive after that of the end, or not at all.
                let work = died(core.clone(), client.clone(), key, id, code, at);
                return core.spawn(work);
            };
            core.runs().died(&key, &id, code, at);
        }
        Some("start") => {
            let is_again = core
                .runs()
                .ended_at(&key)
                .is_some_and(|(ended, ended_at)| ended == id && ended_at < at);
            if is_again {
                tracing::warn!(container = id, "someone has started an ended container again");
                core.spawn(end::remove_container(core.clone(), id));
            }
        }
        _ => {}
    }
}

/// Completes an exit event from the state of the container.
async fn died(
    core: Arc<Core>,
    client: Client,
    key: Piece,
    id: String,
    code: Option<i32>,
    at: Timestamp,
) {
    let inspected =
        client.call(REQUEST_TIMEOUT, client.docker().inspect_container(&id, None)).await;
    let state = inspected.ok().and_then(|found| found.state).unwrap_or_default();
    if state.oom_killed == Some(true) {
        core.runs().ran_out_of_memory(&key, &id, at);
    }
    let known = code.or_else(|| i32::try_from(state.exit_code?).ok());
    core.runs().died(&key, &id, known.unwrap_or(exit::KILLED), at);
}

async fn list(core: &Core, client: &Client) -> Result<Vec<(Piece, String, bool)>, Error> {
    let filters = HashMap::from([("label", vec![container::of_agent(&core.settings)])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed =
        client.call(REQUEST_TIMEOUT, client.docker().list_containers(Some(options))).await?;
    let known = |summary: ContainerSummary| {
        use ContainerSummaryStateEnum::{PAUSED, RESTARTING, RUNNING, STOPPING};
        let key = container::key(&summary.labels?, &core.settings)?;
        let runs = matches!(summary.state?, RUNNING | PAUSED | RESTARTING | STOPPING);
        Some((key, summary.id?, runs))
    };
    Ok(listed.into_iter().filter_map(known).collect())
}

/// Compares the known runs with the daemon's containers; reports or removes the differences.
async fn compare(core: &Arc<Core>, client: &Client) -> Result<(), Error> {
    // Runs that start after this are not expected in the list.
    let running = core.runs().all_running();
    let listed = list(core, client).await?;
    let runs: HashMap<&str, bool> =
        listed.iter().map(|(_, id, runs)| (id.as_str(), *runs)).collect();
    for (key, id) in &running {
        match runs.get(id.as_str()) {
            Some(true) => {}
            Some(false) => {
                let found = inspect(client, id).await?;
                match found.and_then(|found| ended(found.state.as_ref()?)) {
                    Some((code, at, is_oom)) => {
                        let mut runs = core.runs();
                        if is_oom {
                            runs.ran_out_of_memory(key, id, at);
                        }
                        runs.died(key, id, code, at);
                    }
                    None => core.runs().vanished(key, now()),
                }
            }
            None => {
                leftover::end(id).await;
                core.runs().vanished(key, now());
            }
        }
    }
    if !core.runs().is_adopted() {
        return Ok(());
    }
    for (key, id, runs) in listed {
        let is_again = runs && core.runs().ended_at(&key).is_some_and(|(ended, _)| ended == id);
        if is_again || !core.runs().is_known(&key, &id) {
            core.spawn(end::remove_container(core.clone(), id));
        }
    }
    Ok(())
}

async fn inspect(client: &Client, id: &str) -> Result<Option<ContainerInspectResponse>, Error> {
    match client.call(REQUEST_TIMEOUT, client.docker().inspect_container(id, None)).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_unknown() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The exit code of an ended container, the time of its end, and whether it was OOM-killed.
fn ended(state: &bollard::models::ContainerState) -> Option<(i32, Timestamp, bool)> {
    if state.running == Some(true) {
        return None;
    }
    let code = i32::try_from(state.exit_code?).ok()?;
    let at = time(state.finished_at.as_deref()).unwrap_or_else(now);
    Some((code, at, state.oom_killed == Some(true)))
}

/// Parses a time of the daemon; the year 1, which stands for none, returns `None`.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

/// Adopts the containers of earlier agents, unless that has been done; compares in any case.
async fn adopt(core: &Arc<Core>, client: &Client) -> Result<(), Error> {
    if core.runs().is_adopted() {
        return compare(core, client).await;
    }
    let listed = list(core, client).await?;
    let looked_at = stream::iter(listed)
        .map(|(key, id, _)| async move {
            let found = inspect(client, &id).await?;
            Ok::<_, Error>(found.map(|found| (adopted(key, &id, found), id)))
        })
        .buffer_unordered(INSPECTS_MAX)
        .collect::<Vec<_>>()
        .await;
    let mut found = Vec::new();
    let mut never_started = Vec::new();
    for one in looked_at {
        match one? {
            Some((Some(adopted), _)) => found.push(adopted),
            Some((None, id)) => never_started.push(id),
            None => {}
        }
    }
    let (superfluous, early_stops) = core.runs().adopt(found);
    let own: Vec<_> = core.runs().all_containers();
    let never_started = never_started.into_iter().filter(|id| !own.contains(id));
    for id in never_started.chain(superfluous) {
        core.spawn(end::remove_container(core.clone(), id));
    }
    for (key, (signal, grace)) in early_stops {
        core.stop(&key, signal, grace);
    }
    Ok(())
}

/// The run of a found container; `None` if it has never run.
fn adopted(key: Piece, id: &str, found: ContainerInspectResponse) -> Option<Adopted> {
    let state = found.state?;
    let started_at = time(state.started_at.as_deref())?;
    let limit = found.host_config.and_then(|config| config.memory).unwrap_or_default();
    let memory = Bytes(u64::try_from(limit).unwrap_or_default());
    let exit =
        ended(&state).map(|(code, at, is_oom)| exit::exit(code, at, is_oom.then_some(memory)));
    let suspended = state.paused == Some(true);
    Some(Adopted { key, container: id.to_string(), memory, started_at, exit, suspended })
}
