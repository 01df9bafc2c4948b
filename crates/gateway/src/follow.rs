//! The daemon: connects a [`Proxy`] with a server.
//!
//! Two loops that need nothing of each other: one follows the stream of tables, one reports how
//! the proxy stands, at once when that changes and every two seconds otherwise. When either
//! fails, both sides start over from whole documents, so nothing that was lost matters. While no
//! server answers, the last table stays.

use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;

use api::{Backoff, Client, GatewayReport, ReportReply, path};
use futures_util::FutureExt as _;
use model::{Listen, NodeId, Registration, RouteTable};
use tokio::sync::{Notify, watch};

use crate::core::Standing;
use crate::proxy::{self, Proxy};
use crate::settings::Settings;

const BEAT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A server that does not answer a report within this time counts as away.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a gateway needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server, such as `http://127.0.0.1:4040`.
    pub server: String,
    /// The node it runs on.
    pub node: NodeId,
    /// The address by which instances on that node are reached.
    pub address: String,
    /// How many threads serve; left out, one per core.
    pub threads: Option<usize>,
}

/// Why a gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the server is wrong.
    #[error("the gateway has no server to follow")]
    Server(#[source] api::Error),
    /// The proxy cannot start.
    #[error("the gateway cannot start")]
    Start(#[source] proxy::Error),
}

/// Runs until `shutdown`; then requests under way are finished, within the grace of
/// [`Settings`].
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let client = Client::new(&options.server).map_err(Error::Server)?;
    let mut settings = Settings::default();
    if let Some(threads) = options.threads.and_then(NonZeroUsize::new) {
        settings.threads = threads.get();
    }
    let proxy = Proxy::start(settings).map_err(Error::Start)?;
    let link = Link::default();
    tokio::select! {
        () = shutdown => {}
        () = follow(&client, &options, &proxy, &link) => {}
        () = report(&client, &options.node, proxy.standing(), &link) => {}
    }
    proxy.stop().await;
    Ok(())
}

/// What the two loops tell each other.
#[derive(Default)]
struct Link {
    /// The stream is connected: a report is due.
    connected: Notify,
    /// A report did not get through: the stream may be dead without knowing it.
    doubted: Notify,
}

/// Follows the server's tables, for ever.
async fn follow(client: &Client, options: &Options, proxy: &Proxy, link: &Link) {
    let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX, ("follow", &options.node));
    let mut was_connected = true;
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
            was_connected = true;
            link.connected.notify_one();
            while let Some(table) = lines.next_document::<RouteTable>().await? {
                proxy.switch(table);
            }
            Ok::<(), api::Error>(())
        };
        // A doubt from before says nothing about the stream that begins now.
        let _ = link.doubted.notified().now_or_never();
        let ended = tokio::select! {
            ended = streamed => ended,
            () = link.doubted.notified() => Ok(()),
        };
        // Told once when the server goes away, not for every attempt.
        match ended {
            Err(error) if was_connected => {
                tracing::warn!(server = client.url(), %error, "no server: the last routes stay");
                was_connected = false;
            }
            _ => {}
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Reports how the proxy stands, for ever.
async fn report(
    client: &Client,
    node: &NodeId,
    mut standing: watch::Receiver<Standing>,
    link: &Link,
) {
    let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX, ("report", node));
    loop {
        let report = report_of(node, &standing.borrow_and_update());
        let posted = client.post::<ReportReply>(path::ROUTES_REPORT, &report);
        let wait = match tokio::time::timeout(ANSWER_MAX, posted).await {
            Ok(Ok(_)) => {
                backoff.reset();
                BEAT
            }
            failed => {
                // An answer, even a bad one, shows that the connection lives.
                if !matches!(failed, Ok(Err(api::Error::Refused(_)))) {
                    link.doubted.notify_one();
                }
                backoff.next_delay()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = link.connected.notified() => {}
            changed = standing.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

fn report_of(node: &NodeId, standing: &Standing) -> GatewayReport {
    let failed = standing.failed.iter();
    GatewayReport {
        node: node.clone(),
        generation: standing.generation,
        busy: standing.busy.clone(),
        failed: failed.map(|(listen, reason)| (Listen(*listen), reason.clone())).collect(),
    }
}
