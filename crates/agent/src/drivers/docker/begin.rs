//! Starting a run: its image, its container, its process.
//!
//! The container is created without checking first whether the image exists: the daemon returns
//! an error if it does not, and this saves a round trip for each of many containers. The image is
//! then pulled once for all runs that need it.

use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::CreateContainerOptionsBuilder;
use model::{Container, Piece, Pull};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{DriverEvent, Launch};
use super::daemon::{Client, Error, REQUEST_TIMEOUT, WORK_TIMEOUT};
use super::{Core, advice, container, end, files, now};

/// The maximum number of attempts to create a container. Its name may be taken by the container of
/// an earlier attempt, or by that of another agent.
const NAMES_MAX: usize = 5;
/// The wait before a taken name is tried again: a removal in progress frees it soon.
const NAME_WAIT: Duration = Duration::from_millis(100);

/// Why a run could not start.
enum Failure {
    /// It was stopped before it had started.
    GivenUp,
    Daemon(Error),
    /// The image could not be pulled.
    Image(Error),
    /// The files could not be copied into the container.
    Files(files::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Daemon(error)
    }
}

/// Starts a run, and reports the result.
pub(super) async fn begin(
    core: Arc<Core>,
    launch: Launch,
    key: Piece,
    abandoned: CancellationToken,
) {
    let Some(container) = launch.spec.container.clone() else {
        let message = "the service has no `container`: nothing for Docker to run".into();
        return core.runs().not_started(&key, message, false);
    };
    let failure = match start(&core, &launch, &container, &key, &abandoned).await {
        Ok(id) => {
            let superfluous = core.runs().started(&key, &id, now());
            match superfluous {
                Some(old) => {
                    for container in old {
                        core.spawn(end::remove_container(core.clone(), container));
                    }
                    return;
                }
                None => {
                    end::remove(&core, id).await;
                    Failure::GivenUp
                }
            }
        }
        Err(failure) => failure,
    };
    let (message, driver_unavailable) = match &failure {
        Failure::GivenUp => ("stopped before it had begun".to_string(), false),
        Failure::Daemon(error) => (advice::start(error, &container), error.is_unavailable()),
        Failure::Image(error) => (advice::pull(error, &container.image), error.is_unavailable()),
        Failure::Files(error) => (error.message(), error.is_unavailable()),
    };
    core.runs().not_started(&key, message, driver_unavailable);
}

async fn start(
    core: &Arc<Core>,
    launch: &Launch,
    container: &Container,
    key: &Piece,
    abandoned: &CancellationToken,
) -> Result<String, Failure> {
    let client = core.daemon.client().await?;
    let mut is_pulled = container.pull == Pull::Always;
    if is_pulled {
        pull(core, &client, container, key, abandoned, Instant::now()).await?;
    }
    loop {
        let turn = abandoned.run_until_cancelled(core.starts.acquire()).await;
        let turn = turn.ok_or(Failure::GivenUp)?;
        let tried_at = Instant::now();
        match make(core, &client, launch, container, key).await {
            Ok(id) => return run(core, &client, id, launch, abandoned).await,
            Err(error) if !advice::is_image_missing(&error) || is_pulled => {
                return Err(error.into());
            }
            Err(error) if container.pull == Pull::Never => return Err(Failure::Image(error)),
            Err(_) => {}
        }
        // Other runs may start while this image is pulled.
        drop(turn);
        pull(core, &client, container, key, abandoned, tried_at).await?;
        is_pulled = true;
    }
}

async fn pull(
    core: &Arc<Core>,
    client: &Client,
    container: &Container,
    key: &Piece,
    abandoned: &CancellationToken,
    missed_at: Instant,
) -> Result<(), Failure> {
    let report = |message: String| {
        core.emit(DriverEvent::Preparing { piece: key.clone(), message });
    };
    let pulled = core.images.pull(core, client, &container.image, missed_at, report);
    match abandoned.run_until_cancelled(pulled).await {
        Some(pulled) => pulled.map_err(Failure::Image),
        None => Err(Failure::GivenUp),
    }
}

/// Creates the container; returns its id.
async fn make(
    core: &Arc<Core>,
    client: &Client,
    launch: &Launch,
    container: &Container,
    key: &Piece,
) -> Result<String, Error> {
    let body = container::body(launch, container, &core.settings);
    let mut name = container::name(key);
    for _ in 1..NAMES_MAX {
        let error = match create(client, &name, body.clone()).await {
            Err(error) if error.is_conflict() => error,
            made => return made,
        };
        match owner(core, client, &name).await? {
            // The container of an attempt that was cancelled or interrupted.
            Some(Owner::Us(id)) => end::remove(core, id).await,
            Some(Owner::Other) if name == container::name(key) => {
                name = container::other_name(key, &core.settings);
            }
            Some(Owner::Other) => return Err(error),
            None => {}
        }
        tokio::time::sleep(NAME_WAIT).await;
    }
    create(client, &name, body).await
}

async fn create(
    client: &Client,
    name: &str,
    body: bollard::models::ContainerCreateBody,
) -> Result<String, Error> {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let created = client.docker().create_container(Some(options), body);
    client.call(WORK_TIMEOUT, created).await.map(|created| created.id)
}

enum Owner {
    /// A container of this agent, with its id.
    Us(String),
    Other,
}

async fn owner(core: &Core, client: &Client, name: &str) -> Result<Option<Owner>, Error> {
    let inspected =
        client.call(REQUEST_TIMEOUT, client.docker().inspect_container(name, None)).await;
    let found = match inspected {
        Ok(found) => found,
        Err(error) if error.is_unknown() => return Ok(None),
        Err(error) => return Err(error),
    };
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    let is_ours = container::key(&labels, &core.settings).is_some();
    Ok(match found.id {
        Some(id) if is_ours => Some(Owner::Us(id)),
        _ => Some(Owner::Other),
    })
}

/// Copies the files into a created container, and starts it; removes it on failure.
async fn run(
    core: &Arc<Core>,
    client: &Client,
    id: String,
    launch: &Launch,
    abandoned: &CancellationToken,
) -> Result<String, Failure> {
    let copied = match launch.files.is_empty() {
        true => Ok(()),
        false => files::copy(client, &id, launch).await,
    };
    let failure = if abandoned.is_cancelled() {
        Failure::GivenUp
    } else if let Err(error) = copied {
        Failure::Files(error)
    } else {
        match client.call(WORK_TIMEOUT, client.docker().start_container(&id, None)).await {
            Ok(()) => return Ok(id),
            Err(error) => Failure::Daemon(error),
        }
    };
    end::remove(core, id).await;
    Err(failure)
}
