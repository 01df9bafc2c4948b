//! `muster cluster`: the identity of the cluster, and what does not belong to its history.

use std::collections::BTreeSet;

use api::{AcceptLossRequest, ApplyReply, ClusterView, StopUnknownRequest, path};
use clap::Subcommand;
use model::{ClusterId, NodeId};

use super::follow::Wait;
use super::{Session, outcome};
use crate::exit::Exit;
use crate::output::Failure;
use crate::output::sheet::Sheet;

const EXAMPLES: &str = "\
Examples:
  muster cluster                                 its id, refused daemons, unknown instances
  muster cluster stop-unknown n1                 stop what this server did not place there
  muster cluster accept-loss 3f1a90c2d4e5b687    go on from a store that is older than daemons know";

/// Show the identity of the cluster, and decide about what does not belong to its history
///
/// Agents and gateways follow no server of another cluster, and none whose store is older than
/// what they know: their instances and routes stay as they are. Instances that the server did not
/// place keep running until an operator decides.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Stop the instances on a node that this server did not place
    StopUnknown {
        /// The node
        node: NodeId,
    },
    /// Go on from this server's store although daemons know of later changes; these are lost
    AcceptLoss {
        /// The id of the cluster, to confirm that the server is the right one
        cluster: ClusterId,
    },
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.what {
        None => show(session).await,
        Some(Action::StopUnknown { node }) => stop_unknown(&node, session).await,
        Some(Action::AcceptLoss { cluster }) => {
            let request = AcceptLossRequest { cluster };
            let reply: ApplyReply = session.client.change(path::ACCEPT_LOSS, &request).await?;
            if session.screen.is_for_programs() {
                return outcome::show(session, &reply, &[], &Wait::default()).await;
            }
            session.screen.line("the refused daemons follow this server from now on")?;
            Ok(Exit::Ok)
        }
    }
}

async fn show(session: &Session) -> Result<Exit, Failure> {
    let view: ClusterView = session.client.get(path::CLUSTER).await?;
    let screen = &session.screen;
    if screen.is_for_programs() {
        screen.document(&view)?;
        return Ok(Exit::Ok);
    }
    let mut sheet = Sheet::new(screen, 12);
    sheet.line("Cluster", view.cluster).line("Term", view.term).line("Revision", view.revision);
    let refused = view.refused.iter();
    let refused = refused.map(|one| format!("{} {}: {}", one.daemon, one.node, one.reason));
    let unknown = view.unknown.iter().map(|(node, instances)| {
        let names: Vec<_> = instances.iter().map(ToString::to_string).collect();
        format!("{node}: {}", names.join(", "))
    });
    for (title, lines) in
        [("Refused daemons", refused.collect::<Vec<_>>()), ("Unknown instances", unknown.collect())]
    {
        if !lines.is_empty() {
            sheet.section(title, &lines.join("\n"));
        }
    }
    screen.line(sheet.finish())?;
    Ok(Exit::Ok)
}

async fn stop_unknown(node: &NodeId, session: &Session) -> Result<Exit, Failure> {
    let view: ClusterView = session.client.get(path::CLUSTER).await?;
    let instances: BTreeSet<_> = view.unknown.get(node).cloned().unwrap_or_default();
    if instances.is_empty() {
        let message = format!("no unknown instance runs on {node}");
        return Err(Failure::new(Exit::Failure, message).hint("see `muster cluster`"));
    }
    let path = path::with(path::STOP_UNKNOWN, node.as_str());
    let request = StopUnknownRequest { instances };
    let reply: ApplyReply = session.client.change(&path, &request).await?;
    if session.screen.is_for_programs() {
        return outcome::show(session, &reply, &[], &Wait::default()).await;
    }
    for instance in &request.instances {
        session.screen.line(format!("{instance} is being stopped"))?;
    }
    Ok(Exit::Ok)
}
