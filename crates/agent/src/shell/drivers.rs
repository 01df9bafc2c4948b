//! The drivers of this node, and the relay of their events to the core, in order: first the list of
//! runs that a driver has found, then its events. A driver that reports that it is unavailable must
//! list its runs again once it is available.

use std::sync::Arc;
use std::time::Duration;

use model::Registration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Input;
use super::disk::Disk;
use crate::core::Event;
use crate::drivers::docker::{self, Docker};
use crate::drivers::process::{self, Processes};
use crate::drivers::{Driver, DriverEvent, Kind};
use crate::options::Options;

/// The wait between two attempts to list the runs of a driver.
const RETRY: Duration = Duration::from_millis(500);

/// The drivers of this node.
#[derive(Clone)]
pub(super) struct Drivers {
    process: Arc<dyn Driver>,
    docker: Option<Arc<dyn Driver>>,
}

impl Drivers {
    /// Opens the drivers of `options`. The tracker completes once each of them has listed its runs
    /// or failed to. Their relays are spawned into `parts`, and end when their driver ends.
    pub(super) fn open(
        options: &Options,
        disk: &Disk,
        inputs: &mpsc::UnboundedSender<Input>,
        registration: watch::Sender<Registration>,
        parts: &mut JoinSet<()>,
    ) -> (Drivers, TaskTracker) {
        let listings = TaskTracker::new();
        let (sender, events) = mpsc::unbounded_channel();
        let settings = process::Settings {
            keeper_dir: disk.keeper_dir(),
            logs_dir: disk.logs_dir(),
            keeper_exe: options.keeper_exe.clone(),
            ephemeral: options.ephemeral,
            log_bytes_max: process::Settings::LOG_BYTES_MAX,
        };
        let process: Arc<dyn Driver> = Arc::new(Processes::new(settings, sender));
        parts.spawn(Bridge::new(Kind::Process, &process, events, inputs).run(listings.token()));
        let docker = options.docker.as_ref().map(|docker_options| {
            let (sender, events) = mpsc::unbounded_channel();
            let driver = Docker::new(
                docker::Settings {
                    node: options.node.clone(),
                    agent: process::digest(disk.dir()),
                    host: docker_options.host.clone(),
                    config_dir: docker_options.config_dir.clone(),
                },
                sender,
            );
            parts.spawn(announce(driver.is_responding(), registration));
            let driver: Arc<dyn Driver> = Arc::new(driver);
            parts.spawn(Bridge::new(Kind::Docker, &driver, events, inputs).run(listings.token()));
            driver
        });
        if docker.is_none() {
            let message = "this node runs no containers".into();
            let _ = inputs.send(Input::Event(Event::Unavailable { driver: Kind::Docker, message }));
        }
        listings.close();
        (Drivers { process, docker }, listings)
    }

    /// The driver, if this node has it.
    pub(super) fn get(&self, kind: Kind) -> Option<Arc<dyn Driver>> {
        match kind {
            Kind::Process => Some(self.process.clone()),
            Kind::Docker => self.docker.clone(),
        }
    }
}

/// Keeps the capability `docker` of the registration up to date.
async fn announce(mut answers: watch::Receiver<bool>, registration: watch::Sender<Registration>) {
    loop {
        let responds_now = *answers.borrow_and_update();
        registration.send_if_modified(|registration| {
            let Some(agent) = &mut registration.agent else { return false };
            let capability = Kind::Docker.capability();
            match responds_now {
                true => agent.capabilities.insert(capability.into()),
                false => agent.capabilities.remove(capability),
            }
        });
        if answers.changed().await.is_err() {
            return;
        }
    }
}

/// Relays the events of a driver to the core.
struct Bridge {
    kind: Kind,
    /// Weak, so that the driver is dropped when the agent ends.
    driver: std::sync::Weak<dyn Driver>,
    events: mpsc::UnboundedReceiver<DriverEvent>,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Bridge {
    fn new(
        kind: Kind,
        driver: &Arc<dyn Driver>,
        events: mpsc::UnboundedReceiver<DriverEvent>,
        inputs: &mpsc::UnboundedSender<Input>,
    ) -> Bridge {
        Bridge { kind, driver: Arc::downgrade(driver), events, inputs: inputs.clone() }
    }

    /// Runs until the driver is dropped. `first` is dropped after the first attempt to list runs.
    async fn run(mut self, first: TaskTrackerToken) {
        let mut first = Some(first);
        while let Some(driver) = self.driver.upgrade() {
            let adopting = driver.adopt();
            drop(driver);
            let outcome = adopting.await;
            let works = outcome.is_ok();
            self.send(match outcome {
                Ok(found) => Event::Adopted { driver: self.kind, found },
                Err(message) => Event::Unavailable { driver: self.kind, message },
            });
            drop(first.take());
            if works {
                self.relay_until_unavailable().await;
            } else {
                tokio::time::sleep(RETRY).await;
            }
            if self.events.is_closed() && self.events.is_empty() {
                return;
            }
        }
    }

    /// Relays events until the driver reports that it is unavailable, or is dropped.
    async fn relay_until_unavailable(&mut self) {
        while let Some(event) = self.events.recv().await {
            let unavailable = match &event {
                DriverEvent::NotStarted { message, driver_unavailable: true, .. } => {
                    Some(message.clone())
                }
                _ => None,
            };
            self.send(Event::Driver(event));
            if let Some(message) = unavailable {
                self.send(Event::Unavailable { driver: self.kind, message });
                return;
            }
        }
    }

    fn send(&self, event: Event) {
        // Only fails while the agent is shutting down.
        let _ = self.inputs.send(Input::Event(event));
    }
}
