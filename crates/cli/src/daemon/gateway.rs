//! `muster gateway`: accepts traffic on this node.

use super::node::Identity;
use super::{Log, ended, stop_signal, stopped};
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster gateway --server http://10.0.0.1:4040
  muster gateway --node edge1 --address 192.0.2.10";

/// Let traffic in on this node, as gateway documents say
///
/// Every gateway of the cluster has the listeners of all gateway documents. While the server is
/// unreachable it keeps its routes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many threads serve; by default one for each core
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The path of requests that occupy their thread forever: a fault for tests
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "PATH", hide = true)]
    spin_on: Option<String>,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    pub(crate) log: Log,
}

/// The options of a gateway on a node.
pub(super) fn options(
    identity: &Identity,
    server: &str,
    threads: Option<u16>,
) -> Result<gateway::Options, Failure> {
    Ok(gateway::Options {
        server: server.into(),
        node: identity.name()?,
        address: identity.address(server).to_string(),
        threads: threads.map(usize::from),
        #[cfg(debug_assertions)]
        spin_on: None,
    })
}

/// Runs the verb.
pub(crate) async fn run(args: Args, server: &str) -> Result<Exit, Failure> {
    let stop = stop_signal()?;
    let options = options(&args.identity, server, args.threads)?;
    #[cfg(debug_assertions)]
    let options = gateway::Options { spin_on: args.spin_on, ..options };
    ended("gateway", gateway::run(options, stopped(stop)).await)?;
    Ok(Exit::Ok)
}
