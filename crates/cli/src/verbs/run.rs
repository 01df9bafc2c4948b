//! `muster start`, `muster pause` and `muster stop`: whether the instances of services run; `muster freeze` and
//! `muster thaw`: whether anything is done to them automatically.

use api::{FreezeRequest, RunRequest, path};
use model::{ResourceId, Run, ServiceId};

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

const PAUSE: &str = "\
Examples:
  muster pause /shop/web --wait       come back when all its instances are suspended
  muster start /shop/web --wait       resume them

A deployment is paused with: muster rollout pause";

const FREEZE: &str = "\
Examples:
  muster freeze /shop/db              nothing restarts, replaces or moves its instances
  muster freeze /shop/db --tag data   only resources of its stack: they are not restarted
  muster scale /shop/db 2 --force     a command that acts on a frozen service all the same";

const THAW: &str = "\
Examples:
  muster thaw /shop/db                what was held back is done now";

/// Start stopped or paused services, at the revision and with the number of instances that they had
///
/// The instances of a paused service run again where they are. They receive requests once their
/// checks have passed again.
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

/// Pause services: their instances keep their places, and their processes are suspended
///
/// Instances leave the routes and finish their requests before they are suspended. They keep their
/// memory, ports and connections, are neither checked nor restarted, and `muster start` resumes them.
/// Meanwhile no instance is placed or replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = PAUSE)]
pub(crate) struct Pause {
    #[command(flatten)]
    of: Services,
}

/// Freeze services: nothing is done to them automatically
///
/// Instances are neither restarted nor replaced nor moved, and deployments wait. Commands that act
/// on a frozen service need --force. Of frozen resources, only the restart once they have ended is
/// omitted.
#[derive(Debug, clap::Args)]
#[command(after_help = FREEZE)]
pub(crate) struct Freeze {
    #[command(flatten)]
    of: Resources,
}

/// Thaw frozen services
#[derive(Debug, clap::Args)]
#[command(after_help = THAW)]
pub(crate) struct Thaw {
    #[command(flatten)]
    of: Resources,
}

#[derive(Debug, clap::Args)]
struct Resources {
    /// The services
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<ServiceId>,
    /// Only this resource of their stacks; may be repeated
    #[arg(long = "resource", value_name = "NAME")]
    resources: Vec<ResourceId>,
    /// Only the resources of their stacks with this tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
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

/// Runs `muster pause`.
pub(crate) async fn pause(args: Pause, session: &Session) -> Result<Exit, Failure> {
    set(args.of, Run::Paused, session).await
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
    set_frozen(args.of, true, session).await
}

/// Runs `muster thaw`.
pub(crate) async fn thaw(args: Thaw, session: &Session) -> Result<Exit, Failure> {
    set_frozen(args.of, false, session).await
}

async fn set_frozen(of: Resources, frozen: bool, session: &Session) -> Result<Exit, Failure> {
    let Resources { services, resources, tags } = of;
    let (resources, tags) = (resources.into_iter().collect(), tags.into_iter().collect());
    let request = FreezeRequest { services, frozen, resources, tags };
    let reply = outcome::send(session, &request.services, path::FREEZE, &request).await?;
    outcome::show(session, &reply, &[], &Wait::default()).await
}
