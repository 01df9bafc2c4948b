//! `muster start` and `muster stop`: whether the instances of services run.

use api::{RunRequest, path};
use model::{Run, ServiceId};

use super::follow::Wait;
use super::{Session, outcome};
use crate::exit::Exit;
use crate::output::Failure;

const START: &str = "\
Examples:
  muster start /shop/web --wait       come back when its instances are ready
  muster start /shop/db /shop/web     several; one that depends on another waits for it";

const STOP: &str = "\
Examples:
  muster stop /shop/web --wait        come back when its last instance has stopped
  muster stop /shop/db /shop/web      several; one that depends on another stops first";

/// Start stopped services, at the revision and with the number of instances that they had
#[derive(Debug, clap::Args)]
#[command(after_help = START)]
pub(crate) struct Start {
    #[command(flatten)]
    of: Services,
}

/// Stop services; they keep their number of instances and their revision
///
/// Instances leave the routes and finish their requests before they stop. Their nodes' capacity and
/// ports are free afterwards.
#[derive(Debug, clap::Args)]
#[command(after_help = STOP)]
pub(crate) struct Stop {
    #[command(flatten)]
    of: Services,
}

#[derive(Debug, clap::Args)]
struct Services {
    /// The services
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<ServiceId>,
    #[command(flatten)]
    wait: Wait,
}

/// Runs `muster start`.
pub(crate) async fn start(args: Start, session: &Session) -> Result<Exit, Failure> {
    set(args.of, Run::Started, session).await
}

/// Runs `muster stop`.
pub(crate) async fn stop(args: Stop, session: &Session) -> Result<Exit, Failure> {
    set(args.of, Run::Stopped, session).await
}

async fn set(of: Services, run: Run, session: &Session) -> Result<Exit, Failure> {
    let request = RunRequest { services: of.services, run };
    let reply = outcome::ask(session, &request.services, path::RUN, &request).await?;
    outcome::show(session, &reply, &outcome::deployments(&reply), &of.wait).await
}
