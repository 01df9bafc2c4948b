//! `muster start` and `muster stop`: whether the instances of services run; `muster freeze` and
//! `muster thaw`: whether anything is done to them automatically.

use api::{FreezeRequest, RunRequest, path};
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

const FREEZE: &str = "\
Examples:
  muster freeze /shop/db              nothing restarts, replaces or moves its instances
  muster scale /shop/db 2 --force     a command that acts on it all the same";

const THAW: &str = "\
Examples:
  muster thaw /shop/db                what was held back is done now";

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

/// Freeze services: nothing is done to them automatically
///
/// Instances are neither restarted nor replaced nor moved, and deployments wait. Commands that act
/// on a frozen service need --force.
#[derive(Debug, clap::Args)]
#[command(after_help = FREEZE)]
pub(crate) struct Freeze {
    /// The services
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<ServiceId>,
}

/// Thaw frozen services
#[derive(Debug, clap::Args)]
#[command(after_help = THAW)]
pub(crate) struct Thaw {
    /// The services
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<ServiceId>,
}

#[derive(Debug, clap::Args)]
struct Services {
    /// The services
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<ServiceId>,
    /// Act on frozen services as well
    #[arg(long)]
    force: bool,
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
    let request = RunRequest { services: of.services, run, force: of.force };
    let reply = outcome::send(session, &request.services, path::RUN, &request).await?;
    outcome::show(session, &reply, &outcome::deployments(&reply), &of.wait).await
}

/// Runs `muster freeze`.
pub(crate) async fn freeze(args: Freeze, session: &Session) -> Result<Exit, Failure> {
    set_frozen(args.services, true, session).await
}

/// Runs `muster thaw`.
pub(crate) async fn thaw(args: Thaw, session: &Session) -> Result<Exit, Failure> {
    set_frozen(args.services, false, session).await
}

async fn set_frozen(
    services: Vec<ServiceId>,
    frozen: bool,
    session: &Session,
) -> Result<Exit, Failure> {
    let request = FreezeRequest { services, frozen };
    let reply = outcome::send(session, &request.services, path::FREEZE, &request).await?;
    outcome::show(session, &reply, &[], &Wait::default()).await
}
