//! `muster server`: the control plane by itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use model::Millis;
use tokio::sync::oneshot;

use super::{Log, data_dir, ended, stop_signal, stopped};
use crate::adapters::Mounts;
use crate::allocator;
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster server                                   on this machine only
  muster server --listen 0.0.0.0:4040             for agents and gateways on others
  muster server --data-dir /srv/muster --log-format json";

const LOSS: &str = "\
restore a backup, or put the newest files back; `muster server --accept-data-loss` keeps what is \
intact and drops the rest";

/// Run the control plane: stores the desired state and directs agents and gateways
///
/// The state is one file in the data directory and survives restarts. Instances and
/// traffic continue while the server is unavailable.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4040")]
    listen: SocketAddr,
    /// Where to keep the state; by default /var/lib/muster/server, or below
    /// ~/.local/share for other users than root
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How long an agent may be silent before its instances are replaced
    #[arg(long, value_name = "DURATION", default_value_t = server::Options::LOST_AFTER)]
    lost_after: Millis,
    /// Keep what is intact in a damaged or outdated state file, and start with it
    ///
    /// Without this option, the server refuses such a file and leaves it unchanged. With
    /// it, the file is copied to state.db.damaged-1 first, and the log names the objects
    /// that were lost. No effect if the file is intact.
    #[arg(long)]
    accept_data_loss: bool,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    mounts: Mounts,
    #[command(flatten)]
    pub(crate) log: Log,
}

/// The names of a server.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Names {
    /// A name by which clients address the server, such as that of a proxy in front of it; may be
    /// given often. Requests to other names are rejected, since a web page could have sent them
    /// (DNS rebinding). Addresses, localhost, the host name and the names of nodes always work
    #[arg(long = "host-name", value_name = "NAME")]
    host_names: Vec<String>,
}

impl Names {
    /// These names and that of this machine.
    pub(crate) fn all(self) -> Vec<String> {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        self.host_names.into_iter().chain([machine.trim().to_string()]).collect()
    }
}

/// Runs the verb.
pub(crate) async fn run(args: Args) -> Result<Exit, Failure> {
    allocator::give_back_at_once();
    let stop = stop_signal()?;
    let options = server::Options {
        listen: args.listen,
        data_dir: args.data_dir.unwrap_or_else(|| data_dir("server")),
        lost_after: args.lost_after,
        accept_data_loss: args.accept_data_loss,
        host_names: args.names.all(),
    };
    let adapters = args.mounts.adapters()?;
    let (bound, _) = oneshot::channel();
    let result = server::run(options, adapters, bound, stopped(stop)).await;
    let is_loss = matches!(&result, Err(server::Error::Store(error)) if error.is_loss());
    ended("server", result).map_err(|failure| match is_loss {
        true => failure.hint(LOSS),
        false => failure,
    })?;
    Ok(Exit::Ok)
}
