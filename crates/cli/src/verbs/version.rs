//! `muster version`: the versions of this program and of the server.

use api::{Health, path};

use super::Session;
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster version                      of this program, and of the server if one answers
  muster version -o json";

/// Show the version of this program, and the server's if it is reachable
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

/// Runs the verb.
pub(crate) async fn run(_: Args, session: &Session) -> Result<Exit, Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let health = session.client.get::<Health>(path::HEALTH).await.ok();
    let screen = &session.screen;
    if screen.is_for_programs() {
        let cluster = health.as_ref().and_then(|health| health.cluster);
        let server = health.map(|health| health.version);
        let versions = serde_json::json!({ "muster": own, "server": server, "cluster": cluster });
        screen.document(&versions)?;
        return Ok(Exit::Ok);
    }
    screen.line(format!("muster {own}"))?;
    screen.line(match health {
        Some(Health { version, cluster: Some(cluster), .. }) => {
            format!("server {version} at {}, cluster {cluster}", session.client.url())
        }
        Some(Health { version, .. }) => format!("server {version} at {}", session.client.url()),
        None => format!("no response from a server at {}", session.client.url()),
    })?;
    Ok(Exit::Ok)
}
