//! `muster agent`: runs instances on this node.

use std::path::PathBuf;

use super::node::{Adoption, Identity, Supply};
use super::{Log, data_dir, ended, stop_signal, stopped};
use crate::allocator;
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster agent --server http://10.0.0.1:4040
  muster agent --node n1 --label rack=r1 --capability ssd
  muster agent --cpu 2 --memory 4GiB --ports 20000-20999";

/// Run instances on this node, as the server assigns them
///
/// Instances outlive the agent: after a restart it takes them over. While the server is
/// unreachable it keeps them running, and so it does under a server of another cluster or one whose
/// store is older than what the agent knows.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to keep instances' directories and output; by default /var/lib/muster/agent, or
    /// below ~/.local/share for other users than root
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Stop and remove everything when the agent ends
    #[arg(long)]
    ephemeral: bool,
    #[command(flatten)]
    adoption: Adoption,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    supply: Supply,
    #[command(flatten)]
    pub(crate) log: Log,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, server: &str) -> Result<Exit, Failure> {
    allocator::give_back_at_once();
    let stop = stop_signal()?;
    let data_dir = args.data_dir.unwrap_or_else(|| data_dir("agent"));
    let mut options = args.supply.options(&args.identity, server, data_dir, args.ephemeral)?;
    options.adopt_cluster = args.adoption.adopt_cluster;
    ended("agent", agent::run(options, stopped(stop)).await)?;
    Ok(Exit::Ok)
}
