//! `muster dev`: a cluster of one, in one process.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::cluster::{Cluster, Setup};
use super::node::{Identity, Supply};
use super::server::Names;
use super::{Log, data_dir, stop_signal, stopped};
use crate::adapters::Mounts;
use crate::allocator;
use crate::exit::Exit;
use crate::output::tone::Tone;
use crate::output::{Failure, Screen};

const EXAMPLES: &str = "\
Examples:
  muster dev                              instances go on when it ends, and are found again
  muster dev --ephemeral                  everything goes away when it ends
  muster dev --listen 127.0.0.1:5050      then: export MUSTER_SERVER=http://127.0.0.1:5050";

/// Run a cluster of one on this machine: server, agent and gateway in one process
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the server listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4040")]
    listen: SocketAddr,
    /// Where to keep everything; by default /var/lib/muster/dev, or below ~/.local/share for
    /// other users than root
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep nothing: when it ends, instances are stopped and all files removed
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    supply: Supply,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    mounts: Mounts,
    #[command(flatten)]
    pub(crate) log: Log,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, screen: Screen) -> Result<Exit, Failure> {
    allocator::give_back_at_once();
    let stop = stop_signal()?;
    let data_dir =
        (!args.ephemeral).then(|| args.data_dir.clone().unwrap_or_else(|| data_dir("dev")));
    let kept = match &data_dir {
        Some(dir) => format!("kept in {}; instances go on when this ends", dir.display()),
        None => "nothing is kept; instances are stopped when this ends".into(),
    };
    let mut cluster = Cluster::start(Setup {
        listen: args.listen,
        data_dir,
        identity: args.identity,
        supply: args.supply,
        adapters: args.mounts.adapters()?,
        host_names: args.names.all(),
    })
    .await?;
    screen.line(format!("muster listens at {}", screen.paint(Tone::Strong, &cluster.url)))?;
    for (adapter, address) in &cluster.adapters {
        screen.line(format!("the adapter {adapter} listens at http://{address}"))?;
    }
    screen.line(screen.paint(Tone::Dim, &kept))?;
    if cluster.url != "http://127.0.0.1:4040" {
        screen.line(format!("for other terminals: export MUSTER_SERVER={}", cluster.url))?;
    }
    let failed = tokio::select! {
        failure = cluster.failed() => Some(failure),
        () = stopped(stop) => None,
    };
    let stopped = cluster.stop().await;
    match failed {
        Some(failure) => Err(failure),
        None => stopped.map(|()| Exit::Ok),
    }
}
