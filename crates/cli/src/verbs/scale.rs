//! `muster scale`: change how many instances a service has.

use api::{ScaleRequest, path};
use model::ServiceId;

use super::follow::Wait;
use super::{Session, outcome};
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster scale /shop/web 8 --wait     come back when all 8 are ready
  muster scale /shop/web 0            stop all, keep the service";

/// Change how many instances a service has
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The service
    service: ServiceId,
    /// How many should run
    instances: u32,
    /// Act on a frozen service as well
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let Args { service, instances, force, wait } = args;
    let request = ScaleRequest { service, instances, force };
    outcome::post(session, &request.service, path::SCALE, &request, &wait).await
}
