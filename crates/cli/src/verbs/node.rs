//! `muster node`: take nodes out of use and back.

use std::time::{Duration, Instant};

use api::{ApplyReply, InstanceView, path};
use clap::Subcommand;
use model::{Availability, NodeId};

use super::follow::Wait;
use super::{Session, follow, outcome};
use crate::exit::Exit;
use crate::output::Failure;
use crate::output::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  muster node cordon n1               nothing new comes to it; what runs there stays
  muster node drain n1 --wait         what runs there moves elsewhere first
  muster node uncordon n1             back in use
  muster node rm n1                   forget it, once nothing runs there
  muster node rm n1 --force           forget it and its instances: it does not come back";

/// Take nodes out of use and back
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Place no new instances on a node; existing ones stay
    Cordon {
        /// The node
        node: NodeId,
    },
    /// Take a node back into use
    Uncordon {
        /// The node
        node: NodeId,
    },
    /// Move the instances of a node elsewhere, and place no new ones on it
    Drain {
        /// The node
        node: NodeId,
        #[command(flatten)]
        wait: Wait,
    },
    /// Remove a node that runs nothing, or that is gone for good
    Rm {
        /// The node
        node: NodeId,
        /// Give up the instances on it; its agent must be silent
        #[arg(long)]
        force: bool,
    },
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let at_once = Wait::default();
    match args.what {
        Action::Cordon { node } => set(&node, Availability::Cordoned, session).await,
        Action::Uncordon { node } => set(&node, Availability::Active, session).await,
        Action::Drain { node, wait } => {
            set(&node, Availability::Draining, session).await?;
            match wait.is_wanted() {
                true => emptied(&node, &wait, session).await,
                false => Ok(Exit::Ok),
            }
        }
        Action::Rm { node, force } => {
            let path = path::with(path::NODE, node.as_str());
            let path = if force { format!("{path}?force=true") } else { path };
            let reply: ApplyReply = session.client.delete(&path).await?;
            outcome::show(session, &reply, &[], &at_once).await
        }
    }
}

async fn set(
    node: &NodeId,
    availability: Availability,
    session: &Session,
) -> Result<Exit, Failure> {
    let path = path::with(path::NODE_AVAILABILITY, node.as_str());
    let reply: ApplyReply = session.client.change(&path, &availability).await?;
    if session.screen.is_for_programs() {
        return outcome::show(session, &reply, &[], &Wait::default()).await;
    }
    session.screen.line(match availability {
        Availability::Active => format!("{node} takes instances again"),
        Availability::Cordoned => format!("{node} takes no new instances; those that run stay"),
        Availability::Draining => {
            format!("{node} takes no new instances; those that run move elsewhere")
        }
    })?;
    Ok(Exit::Ok)
}

fn counted(instances: usize) -> String {
    match instances {
        1 => "1 instance".into(),
        _ => format!("{instances} instances"),
    }
}

/// Waits until no instance is left on the node.
async fn emptied(node: &NodeId, wait: &Wait, session: &Session) -> Result<Exit, Failure> {
    const POLL: Duration = Duration::from_millis(200);
    let deadline = wait.deadline();
    let progress =
        if session.screen.is_for_programs() { Progress::hidden() } else { Progress::new() };
    let mut printed = None;
    loop {
        match session.client.get::<Vec<InstanceView>>(path::INSTANCES).await {
            Ok(all) => {
                let left: Vec<_> = all.iter().filter(|view| view.node == *node).collect();
                if left.is_empty() {
                    progress.print_line(&format!("{node} is empty"));
                    return Ok(Exit::Ok);
                }
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    let message = format!("{} still on {node}", counted(left.len()));
                    return Err(Failure::new(Exit::TimedOut, message).hint(format!(
                        "they continue to terminate; `muster describe service {}` shows the reason",
                        left[0].service
                    )));
                }
                if printed.replace(left.len()) != Some(left.len()) {
                    progress.print_line(&format!("{node}: {} left", counted(left.len())));
                }
            }
            Err(error) if !follow::is_passing(&error) => return Err(error.into()),
            Err(error) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(error.into());
            }
            Err(_) => {}
        }
        tokio::time::sleep(POLL).await;
    }
}
