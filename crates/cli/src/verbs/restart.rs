//! `muster restart`: restart all instances of a service.

use api::{RolloutRequest, path};
use model::ServiceId;

use super::follow::Wait;
use super::{Session, outcome};
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster restart /shop/web --wait     replace all instances, as gently as an upgrade";

/// Restart all instances of a service, within its rollout budget
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The service
    service: ServiceId,
    /// Act on a frozen service as well
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let (service, force) = (Some(args.service.clone()), args.force);
    let request = RolloutRequest { service, deployment: None, how: None, force };
    outcome::post(session, &args.service, path::RESTART, &request, &args.wait).await
}
