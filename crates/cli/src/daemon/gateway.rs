//! `muster gateway`: accepts traffic on this node.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use api::{Caller, Membership};
use model::{ClusterId, Daemon};

use super::node::{Adoption, Identity};
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
/// unreachable it keeps its routes, and so it does under a server of another cluster or one whose
/// store is older than what the gateway knows.
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
    /// Where to keep the cluster that the gateway belongs to; by default it is known until the
    /// gateway ends
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    adoption: Adoption,
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
    data_dir: Option<&Path>,
    adopt: Option<ClusterId>,
) -> Result<gateway::Options, Failure> {
    let node = identity.name()?;
    let id = format!("{:016x}", fastrand::u64(..));
    let caller = Caller { daemon: Daemon::Gateway, node: node.clone(), id, position: None };
    let membership = match data_dir {
        None => Membership::forgetful(caller, adopt),
        Some(dir) => membership(caller, dir, adopt).map_err(|error| {
            let message = format!("{} cannot be used", dir.display());
            Failure::new(Exit::Failure, message).because(&error)
        })?,
    };
    Ok(gateway::Options {
        server: server.into(),
        node,
        address: identity.address(server).to_string(),
        threads: threads.map(usize::from),
        #[cfg(debug_assertions)]
        spin_on: None,
        membership,
    })
}

/// The membership that the gateway keeps in a directory.
fn membership(caller: Caller, dir: &Path, adopt: Option<ClusterId>) -> io::Result<Membership> {
    fs::create_dir_all(dir)?;
    let path = dir.join("cluster.json");
    let kept = match fs::read(&path) {
        Ok(kept) => Some(kept),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let save = move |text: &[u8]| {
        let new = path.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(new, &path)
    };
    Membership::new(caller, kept.as_deref(), Box::new(save), adopt)
}

/// Runs the verb.
pub(crate) async fn run(args: Args, server: &str) -> Result<Exit, Failure> {
    let stop = stop_signal()?;
    let (dir, adopt) = (args.data_dir.as_deref(), args.adoption.adopt_cluster);
    let options = options(&args.identity, server, args.threads, dir, adopt)?;
    #[cfg(debug_assertions)]
    let options = gateway::Options { spin_on: args.spin_on, ..options };
    ended("gateway", gateway::run(options, stopped(stop)).await)?;
    Ok(Exit::Ok)
}
