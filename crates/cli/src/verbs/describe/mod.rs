//! `muster describe`: one object in detail, and the reasons for its state.
//!
//! Each kind has its file. All of them show problems before ordinary facts, because a user of
//! `describe` usually looks for a cause.

mod deployment;
mod gateway;
mod instance;
mod node;
mod service;

use api::{Client, EventView, WaitView};
use clap::Subcommand;
use model::{DeploymentId, GatewayId, InstanceId, NodeId, ServiceId};

use super::Session;
use super::stream::Events;
use crate::exit::Exit;
use crate::output::screen::Screen;
use crate::output::tone::Tone;
use crate::output::{Failure, table};

const EXAMPLES: &str = "\
Examples:
  muster describe service /shop/web      why it does not run, what it waits for, its history
  muster describe instance /shop/web~0.1 its checks, its last exit, why it gets no traffic
  muster describe node n1                what it has, and what runs on it
  muster describe deployment d-7         how far each service is
  muster describe gateway public         where requests go";

/// Explain one thing in full, and why it is not as it should be
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// A service: reasons for waiting, its instances, revisions and events
    #[command(alias = "services", alias = "svc")]
    Service {
        /// The service
        service: ServiceId,
    },
    /// An instance: its checks, its last exit, why it gets no traffic
    #[command(alias = "instances")]
    Instance {
        /// The instance, such as /shop/web~0.1
        instance: InstanceId,
    },
    /// A node: its resources and its instances
    #[command(alias = "nodes")]
    Node {
        /// The node
        node: NodeId,
    },
    /// A deployment: how far each of its services is
    #[command(alias = "deployments")]
    Deployment {
        /// The deployment, such as d-7
        deployment: DeploymentId,
    },
    /// A gateway document: its routes and their backends
    #[command(alias = "gateways")]
    Gateway {
        /// The gateway document
        gateway: GatewayId,
    },
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.what {
        Kind::Service { service } => service::show(session, &service).await,
        Kind::Instance { instance } => instance::show(session, &instance).await,
        Kind::Node { node } => node::show(session, &node).await,
        Kind::Deployment { deployment } => deployment::show(session, deployment).await,
        Kind::Gateway { gateway } => gateway::show(session, &gateway).await,
    }
}

/// The reasons for waiting, with those of each node where no node is suitable.
fn waits(screen: &Screen, waits: &[WaitView]) -> String {
    let mut text = String::new();
    for wait in waits {
        match &wait.wait {
            model::Wait::NoNode { nodes } if !nodes.is_empty() => {
                text.push_str(&format!("no node of {} can take it\n", nodes.len()));
                let rows = nodes.iter().map(|(node, reason)| {
                    vec![table::plain(node), (reason.to_string(), Tone::Warn)]
                });
                for line in table::align(&[], rows, false).lines() {
                    text.push_str(&format!("  {line}\n"));
                }
            }
            _ => text.push_str(&format!("{}\n", screen.paint(Tone::Warn, &wait.message))),
        }
    }
    text
}

/// The last events of a service.
async fn events(client: &Client, service: &ServiceId) -> Result<Vec<EventView>, Failure> {
    const SHOWN: usize = 15;
    let mut events = Events::open(client, None, Some(service), false).await?;
    let mut last = std::collections::VecDeque::with_capacity(SHOWN);
    while let Some(event) = events.next().await? {
        if last.len() == SHOWN {
            last.pop_front();
        }
        last.push_back(event);
    }
    Ok(last.into())
}
