//! Adapters: how the documents and the API of a foreign system reach the control plane.
//!
//! An adapter is a crate of its own that implements [`Adapter`]; whoever starts a server passes the
//! adapters it should have. The server knows none of them by name: it hands them requests below the
//! paths they claim, the documents that are about to be applied, and everything that was committed.
//! An adapter acts on the cluster through [`Server`] only, which offers what the native API has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use api::{ErrorBody, EventView, LogPartQuery};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use formats::Dialect;
use futures_util::future::BoxFuture;
use model::{Changeset, Command, Document, InstanceId, Placement, Service, State};

use crate::control::{Snapshot, Trouble};
use crate::http::logs::{self, Agents};
use crate::shell::Handle;

/// A foreign system's view of the cluster.
pub trait Adapter: Send + Sync + 'static {
    /// The name, unique among the adapters of a server. Sources of documents are stored under it.
    fn name(&self) -> &'static str;

    /// The pure half: which documents belong to the system, and how they are read.
    fn dialect(&self) -> &'static dyn Dialect;

    /// Whether requests to `path` belong to this adapter. Asked only for paths that the native API
    /// does not have.
    fn claims(&self, path: &str) -> bool;

    /// Responds to a request to a claimed path.
    fn answer(self: Arc<Self>, server: Server, request: Request) -> BoxFuture<'static, Response>;

    /// Called once, before any other method, with the state that the server starts from. The
    /// returned future is run until the server stops; the server stops with an error if it ends.
    fn start(&self, snapshot: &Snapshot) -> BoxFuture<'static, ()> {
        let _ = snapshot;
        Box::pin(std::future::pending())
    }

    /// Called after each commit with its events and a snapshot that includes them. The control loop
    /// waits for it: an adapter with more to do must queue the events for its background future.
    fn on_commit(&self, events: &[Arc<EventView>], snapshot: &Arc<Snapshot>) {
        let _ = (events, snapshot);
    }

    /// Completes documents that are about to be applied to `state` with what the system assigns.
    fn prepare(&self, documents: &mut [&mut Document], state: &State) {
        let _ = (documents, state);
    }

    /// Variables that the system sets in an instance, besides those of its spec. They must not
    /// change while the instance is placed.
    fn environment(
        &self,
        service: &Service,
        instance: &InstanceId,
        placement: &Placement,
    ) -> BTreeMap<String, String> {
        let _ = (service, instance, placement);
        BTreeMap::new()
    }
}

/// The adapters of a server, in the order in which they are asked.
#[derive(Clone, Default)]
pub struct Adapters(Arc<[Arc<dyn Adapter>]>);

impl FromIterator<Arc<dyn Adapter>> for Adapters {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Adapter>>>(adapters: I) -> Adapters {
        Adapters(adapters.into_iter().collect())
    }
}

impl Adapters {
    /// The dialects of all adapters.
    pub(crate) fn dialects(&self) -> Vec<&'static dyn Dialect> {
        self.0.iter().map(|adapter| adapter.dialect()).collect()
    }

    /// The adapter that claims `path`.
    pub(crate) fn claiming(&self, path: &str) -> Option<Arc<dyn Adapter>> {
        self.0.iter().find(|adapter| adapter.claims(path)).map(Arc::clone)
    }

    /// Starts all adapters; returns the background future of each, by name.
    pub(crate) fn start(&self, snapshot: &Snapshot) -> Vec<(&'static str, BoxFuture<'static, ()>)> {
        self.0.iter().map(|adapter| (adapter.name(), adapter.start(snapshot))).collect()
    }

    pub(crate) fn on_commit(&self, events: &[Arc<EventView>], snapshot: &Arc<Snapshot>) {
        self.0.iter().for_each(|adapter| adapter.on_commit(events, snapshot));
    }

    pub(crate) fn prepare(&self, documents: &mut [&mut Document], state: &State) {
        self.0.iter().for_each(|adapter| adapter.prepare(documents, state));
    }

    /// The variables that all adapters together set in an instance.
    pub(crate) fn environment(
        &self,
        service: &Service,
        instance: &InstanceId,
        placement: &Placement,
    ) -> BTreeMap<String, String> {
        let of_each =
            self.0.iter().map(|adapter| adapter.environment(service, instance, placement));
        of_each.flatten().collect()
    }
}

/// Why the server did not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// The command was not carried out.
    Trouble(Trouble),
    /// The server has too many requests waiting.
    Busy,
    /// The server stops; whether the command was carried out is unknown.
    Stopping,
}

/// A part of one output stream of an instance.
pub struct LogPart {
    /// The bytes of the part.
    pub bytes: Bytes,
    /// Where the part begins, in bytes from the start of the stream.
    pub offset: u64,
    /// The length of the whole stream in bytes.
    pub size: u64,
}

/// The server as adapters and request handlers see it. Clones refer to the same server.
#[derive(Clone)]
pub struct Server {
    pub(crate) handle: Arc<Handle>,
    pub(crate) agents: Agents,
    pub(crate) address: SocketAddr,
    pub(crate) adapters: Adapters,
}

impl Server {
    /// The address of the native API.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The present state. A command's changes are in it once the command has returned.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.handle.snapshot()
    }

    /// The stored events, oldest first.
    pub fn events(&self) -> Vec<Arc<EventView>> {
        self.handle.events.after(0, usize::MAX)
    }

    /// Carries out a command; it is durable when this returns.
    pub async fn command(&self, command: Command) -> Result<Changeset, Failure> {
        self.handle.command(command).await
    }

    /// Completes when the server stops. Streams to clients must end then.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        self.handle.stopped()
    }

    /// A part of the output of an instance, from the agent that runs it.
    pub async fn log_part(&self, query: &LogPartQuery) -> Result<LogPart, ErrorBody> {
        logs::part(self, query).await.map_err(|bad| bad.0)
    }
}
