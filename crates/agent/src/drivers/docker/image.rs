//! Pulls. An image is pulled once for all runs that wait for it, and each of them receives its
//! progress. A pull that no run waits for is cancelled.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use model::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Core;
use super::auth::{self, Login};
use super::daemon::{Client, Error};

/// Timeout for the next progress message of a pull.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// The minimum interval between two progress reports of a pull.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The progress of a pull.
#[derive(Debug, Clone)]
enum Progress {
    UnderWay(String),
    Done,
    Failed(Error),
}

/// The pulls of this agent.
#[derive(Debug)]
pub(super) struct Images {
    config_dir: Option<PathBuf>,
    pulls: Mutex<BTreeMap<String, Pull>>,
}

#[derive(Debug)]
enum Pull {
    UnderWay(watch::Sender<Progress>),
    /// The time at which the last pull succeeded.
    Done(Instant),
}

impl Images {
    pub(super) fn new(config_dir: Option<PathBuf>) -> Images {
        Images { config_dir, pulls: Mutex::default() }
    }

    fn pulls(&self) -> MutexGuard<'_, BTreeMap<String, Pull>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls an image, sharing one pull with concurrent callers, unless a pull has succeeded since
    /// `missed_at`. `report` is called with a progress message.
    pub(super) async fn pull(
        &self,
        core: &Arc<Core>,
        client: &Client,
        image: &str,
        missed_at: Instant,
        report: impl Fn(String),
    ) -> Result<(), Error> {
        let joined = self.join(core, client, image.trim(), missed_at);
        let Some(mut progress) = joined else { return Ok(()) };
        loop {
            match progress.borrow_and_update().clone() {
                Progress::UnderWay(words) => report(words),
                Progress::Done => return Ok(()),
                Progress::Failed(error) => return Err(error),
            }
            if progress.changed().await.is_err() {
                return Err(client.unavailable("the pull was cut off".into()));
            }
        }
    }

    /// Joins the pull of an image in progress, or starts one; `None` if a pull has succeeded since
    /// `missed_at`.
    fn join(
        &self,
        core: &Arc<Core>,
        client: &Client,
        image: &str,
        missed_at: Instant,
    ) -> Option<watch::Receiver<Progress>> {
        let mut pulls = self.pulls();
        match pulls.get(image) {
            Some(Pull::UnderWay(progress)) => return Some(progress.subscribe()),
            Some(Pull::Done(at)) if *at > missed_at => return None,
            Some(Pull::Done(_)) | None => {}
        }
        let words = format!("pulling the image {image}");
        let (progress, receiver) = watch::channel(Progress::UnderWay(words));
        pulls.insert(image.to_string(), Pull::UnderWay(progress.clone()));
        let (core, client, image) = (core.clone(), client.clone(), image.to_string());
        core.clone().spawn(async move {
            let images = &core.images;
            let pulled = pull(&client, &image, images.config_dir.clone(), &progress);
            tokio::select! {
                pulled = pulled => {
                    let end = match pulled {
                        Ok(()) => {
                            images.pulls().insert(image, Pull::Done(Instant::now()));
                            Progress::Done
                        }
                        Err(error) => {
                            images.pulls().remove(&image);
                            Progress::Failed(error)
                        }
                    };
                    progress.send_replace(end);
                }
                () = images.unless_awaited(&image, &progress) => {}
            }
        });
        Some(receiver)
    }

    /// Completes, and removes the pull from the list, when no run waits for it.
    async fn unless_awaited(&self, image: &str, progress: &watch::Sender<Progress>) {
        loop {
            progress.closed().await;
            let mut pulls = self.pulls();
            if progress.receiver_count() == 0 {
                pulls.remove(image);
                return;
            }
        }
    }
}

async fn pull(
    client: &Client,
    image: &str,
    config_dir: Option<PathBuf>,
    progress: &watch::Sender<Progress>,
) -> Result<(), Error> {
    let login = auth::login(config_dir, image).await;
    let credentials = match &login {
        Login::Known(credentials) => Some(credentials.clone()),
        Login::None | Login::Unusable(_) => None,
    };
    let (name, tag) = name_and_tag(image);
    let options = CreateImageOptionsBuilder::default().from_image(name).tag(tag).build();
    let mut answer = client.docker().create_image(Some(options), None, credentials);
    let mut layers = Layers::default();
    let mut reported_at = Instant::now();
    loop {
        let next = tokio::select! {
            next = timeout(SILENCE_MAX, answer.next()) => next,
            () = client.abandoned() => return Err(client.unavailable("the connection was lost".into())),
        };
        match next {
            Err(_) => {
                let message = format!("nothing came for {} s", SILENCE_MAX.as_secs());
                return Err(Error::Refused { status: 504, message });
            }
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(explain_login(client.convert_error(error), login)),
            Ok(Some(Ok(step))) => {
                layers.take(step);
                if reported_at.elapsed() >= PROGRESS_INTERVAL {
                    reported_at = Instant::now();
                    progress.send_replace(Progress::UnderWay(layers.words(image)));
                }
            }
        }
    }
}

/// Adds to a rejection why the credentials could not be used, since that may be the cause.
fn explain_login(error: Error, login: Login) -> Error {
    match (error, login) {
        (Error::Refused { status, message }, Login::Unusable(reason)) => {
            Error::Refused { status, message: format!("{message} ({reason})") }
        }
        (error, _) => error,
    }
}

/// The name of an image without its tag, and its tag or digest. Without a tag, the daemon would
/// pull all tags, so the default is `latest`.
fn name_and_tag(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    let path_start = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[path_start..].rfind(':') {
        Some(colon) => (&image[..path_start + colon], &image[path_start + colon + 1..]),
        None => (image, "latest"),
    }
}

/// The downloaded and the total bytes of each layer.
#[derive(Debug, Default)]
struct Layers {
    downloads: HashMap<String, (u64, u64)>,
}

impl Layers {
    fn take(&mut self, step: CreateImageInfo) {
        let Some(id) = step.id else { return };
        let detail = step.progress_detail.unwrap_or_default();
        let bytes = |count: Option<i64>| u64::try_from(count.unwrap_or_default()).ok();
        match (step.status.as_deref(), bytes(detail.current), bytes(detail.total)) {
            (Some("Downloading"), Some(current), Some(total)) if total > 0 => {
                self.downloads.insert(id, (current, total));
            }
            (Some("Download complete" | "Pull complete"), ..) => {
                if let Some((current, total)) = self.downloads.get_mut(&id) {
                    *current = *total;
                }
            }
            _ => {}
        }
    }

    fn words(&self, image: &str) -> String {
        let sum =
            |(current, total): (u64, u64), layer: &(u64, u64)| (current + layer.0, total + layer.1);
        let (current, total) = self.downloads.values().fold((0, 0), sum);
        let mib = |bytes: u64| Bytes::mib(bytes.div_ceil(1 << 20));
        match total {
            0 => format!("pulling the image {image}"),
            total => format!("pulling the image {image}: {} of {}", mib(current), mib(total)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_distinguished_from_a_registry_port() {
        let check = |image, expected| assert_eq!(name_and_tag(image), expected);
        check("nginx", ("nginx", "latest"));
        check("nginx:1.29", ("nginx", "1.29"));
        check("r.example:5000/team/web", ("r.example:5000/team/web", "latest"));
        check("r.example:5000/web:2", ("r.example:5000/web", "2"));
        check("web@sha256:ab", ("web", "sha256:ab"));
    }

    #[test]
    fn progress_adds_up_the_layers() {
        let mut layers = Layers::default();
        assert_eq!(layers.words("web"), "pulling the image web");
        let mut take = |text: &str| layers.take(serde_json::from_str(text).unwrap());
        take(r#"{"status": "Pulling from web", "id": "1"}"#);
        take(
            r#"{"status": "Downloading", "id": "a", "progressDetail": {"current": 1048576, "total": 4194304}}"#,
        );
        take(
            r#"{"status": "Downloading", "id": "b", "progressDetail": {"current": 1048576, "total": 2097152}}"#,
        );
        take(r#"{"status": "Download complete", "id": "b", "progressDetail": {}}"#);
        assert_eq!(layers.words("web"), "pulling the image web: 3MiB of 6MiB");
    }
}
