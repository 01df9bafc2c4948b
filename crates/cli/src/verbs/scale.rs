//! `muster scale`: change how many instances a service has.

use api::{ScaleRequest, path};
use model::{Scaling, ServiceId};

use super::follow::Wait;
use super::{Session, outcome};
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster scale /shop/web 8 --wait     come back when all 8 are ready
  muster scale /shop/web +2           two more than now
  muster scale /shop/web -1           one fewer than now
  muster scale /shop/web 0            stop all, keep the service";

/// Change how many instances a service has
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The service
    service: ServiceId,
    /// How many should run; +2 adds two to the present number, -1 subtracts one
    #[arg(value_name = "INSTANCES|+N|-N", allow_negative_numbers = true)]
    instances: Scaling,
    /// Act on a frozen service as well
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let Args { service, instances, force, wait } = args;
    let (instances, by) = match instances {
        Scaling::To(instances) => (Some(instances), None),
        Scaling::By(by) => (None, Some(by)),
    };
    let request = ScaleRequest { service, instances, by, force };
    outcome::post(session, &request.service, path::SCALE, &request, &wait).await
}
