//! A whole cluster in this process: server, agent and gateway, which communicate as they would
//! across machines. `dev` runs one until a stop signal, `demo` for the length of the demonstration.

use std::net::SocketAddr;
use std::path::PathBuf;

use ::server::adapter::Adapters;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::node::{Identity, Supply};
use super::{ended, gateway, stopped};
use crate::exit::Exit;
use crate::output::Failure;

/// The settings of a cluster.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The address of the server; port 0 selects a free one.
    pub(crate) listen: SocketAddr,
    /// The data directory; `None` for a temporary one, which is removed at the end with all
    /// instances.
    pub(crate) data_dir: Option<PathBuf>,
    /// The identity of the node.
    pub(crate) identity: Identity,
    /// The resources of the node.
    pub(crate) supply: Supply,
    /// Names of the server.
    pub(crate) host_names: Vec<String>,
    /// The adapters of the server.
    pub(crate) adapters: Adapters,
}

/// A running cluster. [`Cluster::stop`] stops it; dropping it does not wait.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The server's address.
    pub(crate) url: String,
    /// The listeners of adapters, by the name of the adapter.
    pub(crate) adapters: Vec<(&'static str, SocketAddr)>,
    daemons: JoinSet<Result<(), Failure>>,
    server: JoinSet<Result<(), Failure>>,
    stop_daemons: watch::Sender<bool>,
    stop_server: watch::Sender<bool>,
    temporary: Option<TempDir>,
}

impl Cluster {
    /// Starts all parts. The server accepts requests when this returns.
    pub(crate) async fn start(setup: Setup) -> Result<Cluster, Failure> {
        let no_dir = |error: std::io::Error| {
            Failure::new(Exit::Failure, "there is no place for temporary files").because(&error)
        };
        let ephemeral = setup.data_dir.is_none();
        let (data_dir, temporary) = match setup.data_dir {
            Some(dir) => (dir, None),
            None => {
                let dir = tempfile::Builder::new().prefix("muster-").tempdir().map_err(no_dir)?;
                (dir.path().to_path_buf(), Some(dir))
            }
        };
        let (stop_daemons, _) = watch::channel(false);
        let (stop_server, _) = watch::channel(false);

        let options = server::Options {
            listen: setup.listen,
            data_dir: data_dir.join("server"),
            lost_after: server::Options::LOST_AFTER,
            accept_data_loss: false,
            host_names: setup.host_names,
        };
        let (bound, is_bound) = oneshot::channel();
        let mut server = JoinSet::new();
        let stop = stopped(stop_server.subscribe());
        let running = server::run(options, setup.adapters, bound, stop);
        server.spawn(async move { ended("server", running.await) });
        let Ok(addresses) = is_bound.await else {
            // The server has ended before it was ready, and its result has the cause.
            return Err(first_end(&mut server).await);
        };
        let server::Bound { address, adapters } = addresses;
        let url = format!("http://{address}");

        let mut daemons = JoinSet::new();
        let agent =
            setup.supply.options(&setup.identity, &url, data_dir.join("agent"), ephemeral)?;
        let stop = stopped(stop_daemons.subscribe());
        daemons.spawn(async move { ended("agent", agent::run(agent, stop).await) });
        let gateway =
            gateway::options(&setup.identity, &url, None, Some(&data_dir.join("gateway")), None)?;
        let stop = stopped(stop_daemons.subscribe());
        daemons.spawn(async move { ended("gateway", ::gateway::run(gateway, stop).await) });
        Ok(Cluster { url, adapters, daemons, server, stop_daemons, stop_server, temporary })
    }

    /// Waits until a part ends by itself, which is a failure.
    pub(crate) async fn failed(&mut self) -> Failure {
        tokio::select! {
            failure = first_end(&mut self.daemons) => failure,
            failure = first_end(&mut self.server) => failure,
        }
    }

    /// Stops agent and gateway, then the server, which still receives their last reports.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.stop_daemons.send_replace(true);
        let daemons = self.daemons.join_all().await;
        self.stop_server.send_replace(true);
        let server = self.server.join_all().await;
        if let Some(dir) = self.temporary.take() {
            // The system removes the rest of a temporary directory.
            drop(dir.close());
        }
        daemons.into_iter().chain(server).collect()
    }
}

/// The failure of the part that ends first.
async fn first_end(parts: &mut JoinSet<Result<(), Failure>>) -> Failure {
    match parts.join_next().await {
        Some(Ok(Err(failure))) => failure,
        Some(Err(panic)) => Failure::new(Exit::Failure, "a part has crashed").because(&panic),
        Some(Ok(Ok(()))) | None => Failure::new(Exit::Failure, "a part has ended by itself"),
    }
}
