//! The daemon: connects a [`Proxy`] with a server.
//!
//! Two independent loops: one follows the stream of tables, one reports the standing of the proxy,
//! immediately when it changes and every two seconds otherwise. Both send whole documents, so a
//! message that is lost does not matter. While no server responds, the proxy keeps the last table.

use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;

use api::{Backoff, Client, GatewayReport, Membership, ReportReply, error_chain, path};
use futures_util::FutureExt as _;
use model::{Listen, NodeId, Registration, RouteTable};
use tokio::sync::Notify;

use crate::core::GatewayState;
use crate::proxy::{self, Proxy};
use crate::settings::Settings;

/// Interval of reports while nothing changes.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// Bounds of the delay between two attempts to reach the server.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Timeout for the response to a report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The environment of a gateway.
#[derive(Debug, Clone)]
pub struct Options {
    /// URL of the server, such as `http://127.0.0.1:4040`.
    pub server: String,
    /// The node that it runs on.
    pub node: NodeId,
    /// The address at which other nodes reach the instances of that node.
    pub address: String,
    /// Number of threads; by default one per core.
    pub threads: Option<usize>,
    /// See [`Settings::spin_on`].
    #[cfg(debug_assertions)]
    pub spin_on: Option<String>,
    /// The cluster that it belongs to.
    pub membership: Membership,
}

/// Why a gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL of the server is invalid.
    #[error("the gateway has no server to follow")]
    Server(#[source] api::Error),
    /// The proxy cannot start.
    #[error("the gateway cannot start")]
    Start(#[source] proxy::Error),
}

/// Runs until `shutdown`, then finishes the requests in flight, for at most `Settings::stop_grace`.
///
/// # Errors
///
/// If the URL of the server is invalid or the proxy cannot start. A server that cannot be reached is
/// no error: it is retried until `shutdown`.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let membership = options.membership.clone();
    let client = Client::new(&options.server).map_err(Error::Server)?;
    let client = client.of_daemon(membership.clone());
    let mut settings = Settings::default();
    if let Some(threads) = options.threads.and_then(NonZeroUsize::new) {
        settings.threads = threads.get();
    }
    #[cfg(debug_assertions)]
    options.spin_on.clone_into(&mut settings.spin_on);
    let proxy = Proxy::start(settings).map_err(Error::Start)?;
    let link = Link::default();
    tokio::select! {
        () = shutdown => {}
        () = follow(&client, &options, &proxy, &link) => {}
        () = report(&client, &options.node, &proxy, &link) => {}
        () = membership.persist() => {}
    }
    proxy.stop().await;
    Ok(())
}

/// Notifications between the two loops.
#[derive(Default)]
struct Link {
    /// The stream has connected: a report is due.
    connected: Notify,
    /// A report was not delivered: the stream may be dead as well.
    suspect: Notify,
}

/// Follows the server's tables. Never returns.
async fn follow(client: &Client, options: &Options, proxy: &Proxy, link: &Link) {
    let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX, ("follow", &options.node));
    // Each cause is logged once, not once per attempt.
    let mut logged = None;
    loop {
        let streamed = async {
            let registration = Registration {
                node: options.node.clone(),
                address: options.address.clone(),
                agent: None,
            };
            client.post::<ReportReply>(path::REGISTER, &registration).await?;
            let mut lines = client.follow(path::ROUTES).await?;
            tracing::info!(server = client.url(), "following the server's routes");
            backoff.reset();
            logged = None;
            link.connected.notify_one();
            while let Some(table) = lines.next_document::<RouteTable>().await? {
                proxy.switch(table);
            }
            Ok::<(), api::Error>(())
        };
        // An earlier suspicion does not apply to the new stream.
        let _ = link.suspect.notified().now_or_never();
        let ended = tokio::select! {
            ended = streamed => ended,
            () = link.suspect.notified() => Ok(()),
        };
        if let Err(error) = ended {
            let is_refused = matches!(error, api::Error::Refused(_));
            let kind = (error.is_wrong_server(), is_refused);
            if logged.replace(kind) != Some(kind) {
                let (server, error) = (client.url(), error_chain(&error));
                match kind {
                    (true, _) => tracing::error!(
                        server,
                        error,
                        "not the server of this cluster: keeping the last routes; \
                         see `muster gateway --help` for --adopt-cluster, and `muster cluster`"
                    ),
                    (false, true) => tracing::error!(
                        server,
                        error,
                        "the server refuses this gateway: keeping the last routes"
                    ),
                    (false, false) => {
                        tracing::warn!(server, error, "no server: keeping the last routes");
                    }
                }
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Reports the standing of the proxy. Returns only when the proxy has stopped.
async fn report(client: &Client, node: &NodeId, proxy: &Proxy, link: &Link) {
    let mut gateway_state = proxy.gateway_state();
    let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX, ("report", node));
    loop {
        let report = report_of(node, &gateway_state.borrow_and_update(), proxy);
        let posted = client.post::<ReportReply>(path::ROUTES_REPORT, &report);
        let wait = match tokio::time::timeout(REPORT_TIMEOUT, posted).await {
            Ok(Ok(_)) => {
                backoff.reset();
                REPORT_INTERVAL
            }
            failed => {
                // An error response shows that the connection is alive.
                if !matches!(failed, Ok(Err(api::Error::Refused(_)))) {
                    link.suspect.notify_one();
                }
                backoff.next_delay()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = link.connected.notified() => {}
            changed = gateway_state.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

fn report_of(node: &NodeId, gateway_state: &GatewayState, proxy: &Proxy) -> GatewayReport {
    let failed = gateway_state.failed.iter();
    let stuck = gateway_state.stuck.iter();
    GatewayReport {
        node: node.clone(),
        generation: gateway_state.generation,
        busy: gateway_state.busy.clone(),
        failed: failed.map(|(listen, reason)| (Listen(*listen), reason.clone())).collect(),
        stuck: stuck.map(|thread| (*thread as u32, proxy.task_of(*thread))).collect(),
    }
}
