//! The control plane: receives requests and reports, returns assignments and routes.
//!
//! `control` is the core, a pure state machine. `shell` is the event loop around it, which performs
//! the core's effects: it writes to the store, sends responses and notifies subscribers. `http`
//! serves the API, `view` builds API views from snapshots, `agents` fetches the output of instances,
//! and `persist` maps the state to keys of the store. The path of a request: `http` -> [`shell::Handle`] -> `control` (apply, plan) ->
//! store (one fsync) -> response, assignments, routes.

pub mod adapter;
mod agents;
pub mod assigned;
pub mod control;
pub mod event_log;
mod fence;
mod gateways;
mod http;
pub mod persist;
mod shell;
pub mod stall;
mod view;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::{error_chain, now};
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use model::{ClusterId, Millis, Source, Spec, Start};
use store::{Embedded, Salvaged, Store};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use crate::adapter::{Adapters, Server};
use crate::agents::Agents;
use crate::control::Core;
use crate::event_log::Numbered as _;
use crate::fence::Fence;
use crate::shell::{STOP_GRACE, Shell};

pub use persist::Error as PersistError;
pub use shell::REFRESH;
pub use store::Error as StoreError;

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// The directory of the embedded store.
    pub data_dir: PathBuf,
    /// The silence of an agent after which its instances count as lost.
    pub lost_after: Millis,
    /// Whether to keep what is intact in a store that is damaged or older than what it acknowledged,
    /// instead of refusing it.
    pub accept_data_loss: bool,
    /// Names of the server in addition to `localhost`, its host name, and those of the nodes.
    pub host_names: Vec<String>,
}

impl Options {
    /// The default of `lost_after`.
    pub const LOST_AFTER: Millis = Millis::secs(30);
}

/// Why a server could not start, or stopped with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened, or stopped working.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The stored state cannot be read.
    #[error("cannot load the state")]
    Load(#[from] PersistError),
    /// Another server has become leader, so this one must not write any more.
    #[error("another server has become leader")]
    Deposed,
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A task of the server panicked or was cancelled.
    #[error("{part} has broken")]
    Broken {
        /// The name of the task.
        part: String,
        /// How the task ended.
        #[source]
        source: JoinError,
    },
    /// The background future of an adapter completed before the server was stopped.
    #[error("the adapter {adapter} has ended")]
    AdapterEnded {
        /// The name of the adapter.
        adapter: &'static str,
    },
    /// The server could not open its store, or prepare the write that makes it leader.
    #[error("cannot become leader: {0}")]
    Lead(String),
}

/// The addresses that a server listens on.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The address of the native API, which also serves adapters without a listener of their own.
    pub address: SocketAddr,
    /// The listeners of adapters, each with the name of its adapter.
    pub adapters: Vec<(&'static str, SocketAddr)>,
}

/// Runs a server with `adapters` until `shutdown` completes or a task of the server ends. Sends the
/// addresses that it listens on to `bound` as soon as it responds to requests.
pub async fn run(
    options: Options,
    adapters: Adapters,
    bound: oneshot::Sender<Bound>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let (directory, accept_loss) = (options.data_dir.clone(), options.accept_data_loss);
    let opened = tokio::task::spawn_blocking(move || open(&directory, accept_loss)).await;
    let store: Arc<dyn Store> = Arc::new(opened.map_err(|error| Error::Lead(error.to_string()))??);
    let fence = Fence::read(store.as_ref()).await?;
    let upgrade = |spec: &mut Spec, source: &Source| adapters.upgrade(spec, source);
    let loaded = persist::load(store.as_ref(), &upgrade).await?;
    let persist::Loaded { mut state, mut events, renamed, revision } = loaded;
    let batch = control::become_leader(&mut state, &mut events, random_start(revision), now());
    let mut batch = batch.map_err(|error| Error::Lead(error.to_string()))?;
    renamed.add_to(&mut batch, &state);
    let txn = persist::txn(batch);
    let txn = txn.map_err(|error| Error::Lead(error_chain(&error)))?;
    let fence = fence.advance(store.as_ref(), txn, state.meta().epoch).await?;
    let (fence, revision) = fence.ok_or(Error::Deposed)?;

    let numbers: Vec<_> = events.iter().map(|event| (event.number, event.bytes())).collect();
    let core = Core::new(state, revision.0, options.lost_after, numbers, now());
    let (shell, handle) = Shell::new(core, events, (store, fence), Box::new(adapters.clone()));
    let background = adapters.start(&handle.snapshot()).into_iter();
    let mut background: Background = background.map(|(name, task)| spawned(name, task)).collect();
    let (listener, local) = listen(options.listen).await?;
    let server = Server {
        handle: Arc::clone(&handle),
        agents: Agents::default(),
        address: local,
        adapters: adapters.clone(),
        host_names: options.host_names.into(),
    };
    let mut serving =
        vec![api::serve(listener, http::router(server.clone()), Box::pin(handle.stopped()))];
    let mut addresses = Bound { address: local, adapters: Vec::new() };
    for (address, adapter) in adapters.listeners() {
        let (listener, address) = listen(address).await?;
        let name = adapter.name();
        tracing::info!(%address, adapter = name, "the adapter listens");
        addresses.adapters.push((name, address));
        let router = http::adapter_router(adapter, Server { address, ..server.clone() });
        serving.push(api::serve(listener, router, Box::pin(handle.stopped())));
    }
    let serve = join_all(serving);
    // Abort the loop if this future is dropped: no task may outlive the server.
    let looping = AbortOnDropHandle::new(tokio::spawn(shell.run()));
    tracing::info!(address = %local, "the server listens");
    // The receiver may have been dropped.
    let _ = bound.send(addresses);
    let stop = || handle.stopping.send_replace(true);
    tokio::pin!(serve, looping, shutdown);
    let outcome = tokio::select! {
        () = &mut shutdown => Ok(()),
        ended = first_end(&mut looping, &mut background) => ended,
        _ = &mut serve => Ok(()),
    };
    stop();
    // If an adapter ended the server, the loop still runs.
    if !looping.is_finished() {
        // Accepted requests get their responses; streams end by themselves.
        let _ = tokio::time::timeout(STOP_GRACE, serve).await;
        let _ = tokio::time::timeout(STOP_GRACE, looping).await;
    }
    outcome
}

/// Opens the store, after keeping what is intact in a damaged one if that is accepted.
fn open(directory: &Path, accept_loss: bool) -> Result<Embedded, store::Error> {
    if accept_loss && let Some(salvaged) = Embedded::salvage(directory)? {
        let Salvaged { reason, kept, damaged, revision, copy } = salvaged;
        tracing::warn!(%reason, kept, %revision, copy = %copy.display(), "the intact objects of the store were kept");
        for key in damaged {
            tracing::warn!(key, "a damaged object was dropped");
        }
    }
    Embedded::open(directory)
}

/// The random numbers of a term that begins after a revision.
pub(crate) fn random_start(after: u64) -> Start {
    Start { cluster: ClusterId(fastrand::u64(..)), nonce: fastrand::u64(..), after }
}

/// Listens on `address`; returns the listener and the address with its port.
async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    if let Some(warning) = exposure(local) {
        tracing::warn!("{warning}");
    }
    Ok((listener, local))
}

/// A warning if others than this machine reach an address, since requests are not authenticated.
fn exposure(address: SocketAddr) -> Option<String> {
    (!address.ip().is_loopback()).then(|| {
        format!(
            "requests are not authenticated: whoever reaches {address} controls the cluster, and so \
             runs commands on its nodes; restrict access to trusted machines, for example with a \
             firewall"
        )
    })
}

/// The background tasks of the adapters: each resolves to its name and how it ended.
type Background = FuturesUnordered<BoxFuture<'static, (&'static str, Result<(), JoinError>)>>;

/// Spawns the background task of the adapter `name`.
fn spawned(
    name: &'static str,
    task: BoxFuture<'static, ()>,
) -> BoxFuture<'static, (&'static str, Result<(), JoinError>)> {
    let task = AbortOnDropHandle::new(tokio::spawn(task));
    Box::pin(async move { (name, task.await) })
}

/// Waits for the first task that ends, and returns how. A server without one of its tasks would
/// accept requests and do only a part of its work, so the end of an adapter's task is an error. The
/// control loop ends without an error only when the server stops.
async fn first_end(
    looping: &mut AbortOnDropHandle<Result<(), Error>>,
    background: &mut Background,
) -> Result<(), Error> {
    let broken = |part: String| move |source| Error::Broken { part, source };
    tokio::select! {
        ended = looping => ended.map_err(broken("the control loop".into()))?,
        Some((adapter, ended)) = background.next() => {
            ended.map_err(broken(format!("the adapter {adapter}")))?;
            Err(Error::AdapterEnded { adapter })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_others_reach_is_warned_of() {
        for address in ["127.0.0.1:4040", "127.8.0.1:4040", "[::1]:4040"] {
            assert_eq!(exposure(address.parse().unwrap()), None);
        }
        for address in ["0.0.0.0:4040", "[::]:4040", "192.0.2.1:4040"] {
            let warning = exposure(address.parse().unwrap()).unwrap();
            assert!(
                warning.contains("not authenticated") && warning.contains(address),
                "{warning}"
            );
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_ends_the_server() {
        async fn breaks<T>() -> T {
            panic!("this part breaks")
        }
        let works = || AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
        let mut background = Background::from_iter([
            spawned("foreign", Box::pin(breaks())),
            spawned("other", Box::pin(std::future::pending())),
        ]);
        let ended = first_end(&mut works(), &mut background).await.unwrap_err();
        assert_eq!(ended.to_string(), "the adapter foreign has broken");
        let mut looping = AbortOnDropHandle::new(tokio::spawn(breaks()));
        let ended = first_end(&mut looping, &mut Background::new()).await.unwrap_err();
        assert_eq!(ended.to_string(), "the control loop has broken");
    }

    #[tokio::test]
    async fn an_adapter_that_completes_ends_the_server() {
        let mut works = AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
        let mut background = Background::from_iter([
            spawned("other", Box::pin(std::future::pending())),
            spawned("foreign", Box::pin(std::future::ready(()))),
        ]);
        let ended = first_end(&mut works, &mut background).await.unwrap_err();
        assert_eq!(ended.to_string(), "the adapter foreign has ended");
    }
}
