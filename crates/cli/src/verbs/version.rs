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
    let server = session.client.get::<Health>(path::HEALTH).await.ok().map(|h| h.version);
    let screen = &session.screen;
    if screen.is_for_programs() {
        screen.document(&serde_json::json!({ "muster": own, "server": server }))?;
        return Ok(Exit::Ok);
    }
    screen.line(format!("muster {own}"))?;
    screen.line(match server {
        Some(version) => format!("server {version} at {}", session.client.url()),
        None => format!("no response from a server at {}", session.client.url()),
    })?;
    Ok(Exit::Ok)
}
