//! The drivers of this node, and what they tell, brought to the core in the right order: first
//! what a driver has found, then what happens. A driver that says it cannot work is asked again
//! what it finds once it can.

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
use crate::drivers::{Driver, Kind, Told};
use crate::options::Options;

/// Between two attempts to ask a driver what it finds.
const RETRY: Duration = Duration::from_millis(500);

/// The drivers of this node.
#[derive(Clone)]
pub(super) struct Drivers {
    process: Arc<dyn Driver>,
    docker: Option<Arc<dyn Driver>>,
}

impl Drivers {
    /// Opens the drivers that `options` asks for. The tracker is done once each of them has been
    /// asked what it finds, with whatever outcome. What brings their news is put to `parts`, and
    /// ends if a driver does.
    pub(super) fn open(
        options: &Options,
        disk: &Disk,
        inputs: &mpsc::UnboundedSender<Input>,
        registration: watch::Sender<Registration>,
        parts: &mut JoinSet<()>,
    ) -> (Drivers, TaskTracker) {
        let asked = TaskTracker::new();
        let (tells, told) = mpsc::unbounded_channel();
        let settings = process::Settings {
            keeper_dir: disk.keeper_dir(),
            logs_dir: disk.logs_dir(),
            keeper_exe: options.keeper_exe.clone(),
            ephemeral: options.ephemeral,
            log_bytes_max: process::Settings::LOG_BYTES_MAX,
        };
        let process: Arc<dyn Driver> = Arc::new(Processes::new(settings, tells));
        parts.spawn(Bridge::new(Kind::Process, &process, told, inputs).run(asked.token()));
        let docker = options.docker.as_ref().map(|docker_options| {
            let (tells, told) = mpsc::unbounded_channel();
            let driver = Docker::new(
                docker::Settings {
                    node: options.node.clone(),
                    agent: process::digest(disk.dir()),
                    host: docker_options.host.clone(),
                    config_dir: docker_options.config_dir.clone(),
                },
                tells,
            );
            parts.spawn(announce(driver.answers(), registration));
            let driver: Arc<dyn Driver> = Arc::new(driver);
            parts.spawn(Bridge::new(Kind::Docker, &driver, told, inputs).run(asked.token()));
            driver
        });
        if docker.is_none() {
            let message = "this node runs no containers".into();
            let _ = inputs.send(Input::Event(Event::Away { driver: Kind::Docker, message }));
        }
        asked.close();
        (Drivers { process, docker }, asked)
    }

    /// A driver, if this node has it.
    pub(super) fn get(&self, kind: Kind) -> Option<Arc<dyn Driver>> {
        match kind {
            Kind::Process => Some(self.process.clone()),
            Kind::Docker => self.docker.clone(),
        }
    }
}

/// Says in the registration whether containers can be run.
async fn announce(mut answers: watch::Receiver<bool>, registration: watch::Sender<Registration>) {
    loop {
        let answers_now = *answers.borrow_and_update();
        registration.send_if_modified(|registration| {
            let Some(agent) = &mut registration.agent else { return false };
            let capability = Kind::Docker.capability();
            match answers_now {
                true => agent.capabilities.insert(capability.into()),
                false => agent.capabilities.remove(capability),
            }
        });
        if answers.changed().await.is_err() {
            return;
        }
    }
}

/// Brings what a driver tells to the core.
struct Bridge {
    kind: Kind,
    /// Not to keep the driver alive: it is dropped when the agent ends.
    driver: std::sync::Weak<dyn Driver>,
    told: mpsc::UnboundedReceiver<Told>,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Bridge {
    fn new(
        kind: Kind,
        driver: &Arc<dyn Driver>,
        told: mpsc::UnboundedReceiver<Told>,
        inputs: &mpsc::UnboundedSender<Input>,
    ) -> Bridge {
        Bridge { kind, driver: Arc::downgrade(driver), told, inputs: inputs.clone() }
    }

    /// Runs until the driver is gone. `first` is let go of once it has been asked what it finds.
    async fn run(mut self, first: TaskTrackerToken) {
        let mut first = Some(first);
        while let Some(driver) = self.driver.upgrade() {
            let adopting = driver.adopt();
            drop(driver);
            let outcome = adopting.await;
            let works = outcome.is_ok();
            self.send(match outcome {
                Ok(found) => Event::Adopted { driver: self.kind, found },
                Err(message) => Event::Away { driver: self.kind, message },
            });
            drop(first.take());
            if works {
                self.bring_until_away().await;
            } else {
                tokio::time::sleep(RETRY).await;
            }
            if self.told.is_closed() && self.told.is_empty() {
                return;
            }
        }
    }

    /// Brings what is told until the driver says that it cannot work, or is gone.
    async fn bring_until_away(&mut self) {
        while let Some(told) = self.told.recv().await {
            let away = match &told {
                Told::NotStarted { message, driver_away: true, .. } => Some(message.clone()),
                _ => None,
            };
            self.send(Event::Told(told));
            if let Some(message) = away {
                self.send(Event::Away { driver: self.kind, message });
                return;
            }
        }
    }

    fn send(&self, event: Event) {
        // Only fails while the agent is being torn down.
        let _ = self.inputs.send(Input::Event(event));
    }
}
