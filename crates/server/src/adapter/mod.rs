//! Adapters: how the documents and the API of a foreign system reach the control plane.
//!
//! An adapter is a crate of its own that implements [`Adapter`]; the program that starts a server
//! passes the adapters to it. The server knows none of them by name: it passes them requests to the
//! routes they claim (see [`claim`]), the documents that are about to be applied, and the events of
//! every commit. An adapter acts on the cluster only through [`Server`], which offers the
//! operations of the native API.

mod claim;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use api::{ErrorBody, EventView, LogPartQuery};
use axum::extract::Request;
use axum::http::{Uri, header};
use axum::response::Response;
use formats::Dialect;
use futures_util::future::BoxFuture;
use model::{Changeset, Document, Proposal, Source, Spec, State};

use crate::agents::Agents;
use crate::control::Snapshot;
use crate::event_log::Limit;
use crate::shell::{CommitObserver, Handle};

pub use crate::agents::LogPart;
pub use crate::shell::Failure;

pub use self::claim::{Claim, Conflict, Mount, NoMount};
use self::claim::{Claimed, Claims};

/// A foreign system's view of the cluster.
pub trait Adapter: Send + Sync + 'static {
    /// The name, unique among the adapters of a server. Sources of documents are stored under it.
    fn name(&self) -> &'static str;

    /// The pure half: which documents belong to the system, and how they are read.
    fn dialect(&self) -> &'static dyn Dialect;

    /// The routes of the foreign API.
    fn claims(&self) -> &'static [Claim];

    /// The mounts of the routes, unless the server is started with others.
    fn mounts(&self) -> Vec<Mount> {
        vec![Mount::root()]
    }

    /// Responds to a request to a claimed route, or to any path of a listener of its own. The URI
    /// of the request is the one below the mount.
    fn respond(self: Arc<Self>, server: Server, request: Request) -> BoxFuture<'static, Response>;

    /// Called once, before any other method, with the initial state of the server. The returned
    /// future is run until the server stops. If it completes or panics before, the server stops with
    /// an error that names the adapter.
    fn start(&self, snapshot: &Snapshot) -> BoxFuture<'static, ()> {
        let _ = snapshot;
        Box::pin(std::future::pending())
    }

    /// Called after each commit with its events and a snapshot that includes them. The control loop
    /// waits for it: an adapter with more to do must queue the events for its background future.
    fn on_commit(&self, events: &[Arc<EventView>], snapshot: &Arc<Snapshot>) {
        let _ = (events, snapshot);
    }

    /// Completes documents that are about to be applied to `state` with values that the system
    /// assigns.
    fn prepare(&self, documents: &mut [&mut Document], state: &State) {
        let _ = (documents, state);
    }

    /// Completes a stored service that an earlier version translated from `source`. Its instances
    /// are not restarted, and it is called again at each start of a server.
    fn upgrade(&self, spec: &mut Spec, source: &Source) {
        let _ = (spec, source);
    }
}

/// The adapters of a server, in the order in which they are asked. Each path on the server's own
/// port belongs to one of them at most.
#[derive(Clone, Default)]
pub struct Adapters(Arc<[Mounted]>);

struct Mounted {
    adapter: Arc<dyn Adapter>,
    claims: Claims,
}

impl fmt::Debug for Adapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|mounted| &mounted.claims)).finish()
    }
}

/// The adapter that a request belongs to.
pub(crate) enum Owner {
    /// This adapter, with the path below its mount.
    Adapter(Arc<dyn Adapter>, String),
    /// No adapter. This one has the path only for another media type, or below these prefixes.
    Elsewhere { adapter: &'static str, media_type: &'static str, prefixes: Vec<String> },
    /// No adapter.
    Nobody,
}

impl Adapters {
    /// Creates the set from adapters and their mounts. Without any, an adapter has its default
    /// mounts.
    ///
    /// # Errors
    ///
    /// A path would belong to two adapters, or to one and to the native API, or is a shared path
    /// that is claimed at the root without a media type.
    pub fn new(
        adapters: impl IntoIterator<Item = (Arc<dyn Adapter>, Vec<Mount>)>,
    ) -> Result<Adapters, Conflict> {
        let mounted = adapters.into_iter().map(|(adapter, mounts)| {
            let mounts = if mounts.is_empty() { adapter.mounts() } else { mounts };
            let claims = Claims { adapter: adapter.name(), claims: adapter.claims(), mounts };
            Mounted { adapter, claims }
        });
        let mounted: Vec<_> = mounted.collect();
        let claims: Vec<_> = mounted.iter().map(|mounted| mounted.claims.clone()).collect();
        claim::check(&claims)?;
        Ok(Adapters(mounted.into()))
    }

    fn each(&self) -> impl Iterator<Item = &dyn Adapter> {
        self.0.iter().map(|mounted| &*mounted.adapter)
    }

    /// The dialects of all adapters.
    pub(crate) fn dialects(&self) -> Vec<&'static dyn Dialect> {
        self.each().map(Adapter::dialect).collect()
    }

    /// The owner of a request on the server's own port that has no native route.
    pub(crate) fn owner(&self, request: &Request) -> Owner {
        let accept = request.headers().get(header::ACCEPT);
        let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let mut owner = Owner::Nobody;
        for Mounted { adapter, claims } in self.0.iter() {
            match claims.find(request.uri().path(), accept) {
                Some(Claimed::Below(path)) => return Owner::Adapter(Arc::clone(adapter), path),
                Some(Claimed::Accepting(media_type)) => {
                    let prefixes = claims.prefixes().map(String::from).collect();
                    owner = Owner::Elsewhere { adapter: claims.adapter, media_type, prefixes };
                }
                None => {}
            }
        }
        owner
    }

    /// The listeners that adapters have of their own.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (SocketAddr, Arc<dyn Adapter>)> {
        self.0.iter().flat_map(|Mounted { adapter, claims }| {
            claims.mounts.iter().filter_map(|mount| match mount {
                Mount::Listener(address) => Some((*address, Arc::clone(adapter))),
                Mount::Prefix(_) => None,
            })
        })
    }

    /// Starts all adapters; returns the background future of each, by name.
    pub(crate) fn start(&self, snapshot: &Snapshot) -> Vec<(&'static str, BoxFuture<'static, ()>)> {
        self.each().map(|adapter| (adapter.name(), adapter.start(snapshot))).collect()
    }

    pub(crate) fn prepare(&self, documents: &mut [&mut Document], state: &State) {
        self.each().for_each(|adapter| adapter.prepare(documents, state));
    }

    /// Lets the adapter of `source` complete the stored service.
    pub(crate) fn upgrade(&self, spec: &mut Spec, source: &Source) {
        let adapter = self.each().find(|adapter| adapter.name() == source.adapter);
        if let Some(adapter) = adapter {
            adapter.upgrade(spec, source);
        }
    }
}

impl CommitObserver for Adapters {
    fn on_commit(&self, events: &[Arc<EventView>], snapshot: &Arc<Snapshot>) {
        self.each().for_each(|adapter| adapter.on_commit(events, snapshot));
    }
}

/// Passes a request on the server's own port to its owner, at the path below the mount.
pub(crate) async fn pass_on(
    adapter: Arc<dyn Adapter>,
    path: &str,
    server: Server,
    mut request: Request,
) -> Response {
    let uri = match request.uri().query() {
        Some(query) => format!("{path}?{query}").parse(),
        None => path.parse(),
    };
    // A suffix of a valid path that begins with `/` is valid.
    *request.uri_mut() = uri.unwrap_or_else(|_| Uri::default());
    adapter.respond(server, request).await
}

/// Passes a request on an adapter's own listener to it. The default prefixes of the adapter are
/// left out of the path, since some clients always send one.
pub(crate) async fn pass_all(
    adapter: Arc<dyn Adapter>,
    server: Server,
    request: Request,
) -> Response {
    let (claims, mounts) = (adapter.claims(), adapter.mounts());
    let claims = Claims { adapter: adapter.name(), claims, mounts };
    match claims.find(request.uri().path(), "") {
        Some(Claimed::Below(path)) => pass_on(adapter, &path, server, request).await,
        Some(Claimed::Accepting(_)) | None => adapter.respond(server, request).await,
    }
}

/// The server as adapters and request handlers see it. Clones refer to the same server.
#[derive(Clone)]
pub struct Server {
    pub(crate) handle: Arc<Handle>,
    pub(crate) agents: Agents,
    pub(crate) address: SocketAddr,
    pub(crate) adapters: Adapters,
    /// Names of the server beyond those that every server has.
    pub(crate) host_names: Arc<[String]>,
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
        self.handle.events.after(0, Limit::NONE)
    }

    /// Applies a proposal. On success, its changes are durable.
    pub async fn propose(&self, proposal: Proposal) -> Result<Changeset, Failure> {
        self.handle.propose(proposal).await
    }

    /// Completes when the server stops. Streams to clients must end then.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        self.handle.stopped()
    }

    /// A part of the output of an instance, from the agent that runs it.
    pub async fn log_part(&self, query: &LogPartQuery) -> Result<LogPart, ErrorBody> {
        self.agents.part(&self.snapshot().state, query).await
    }
}
