//! `muster rm`: stop and remove services, remove gateways.

use std::str::FromStr;

use api::{ApplyReply, RemoveRequest, path};
use model::{GatewayId, ServiceId};

use super::follow::Wait;
use super::{Session, outcome};
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster rm /shop/web --wait            stop it, and come back when it is gone
  muster rm /shop/db /shop/web          several; what depends on another goes first
  muster rm gateway/public              a gateway document";

/// Stop and remove services; remove gateways
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A service, or gateway/NAME
    #[arg(required = true, value_name = "SERVICE|gateway/NAME")]
    names: Vec<Name>,
    /// Remove frozen services as well
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: Wait,
}

/// An object to remove. The leading slash distinguishes a service `/gateway/x` from a gateway.
#[derive(Debug, Clone, PartialEq)]
enum Name {
    Service(ServiceId),
    Gateway(GatewayId),
}

impl FromStr for Name {
    type Err = model::id::Error;
    fn from_str(text: &str) -> Result<Name, Self::Err> {
        match text.strip_prefix("gateway/") {
            Some(name) => name.parse().map(Name::Gateway),
            None => text.parse().map(Name::Service),
        }
    }
}

/// Runs the verb. Gateways go first: a service is not removed while a route leads to it.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let mut all = ApplyReply {
        differences: vec![],
        changes: vec![],
        deployment: None,
        waves: vec![],
        waits: vec![],
    };
    let ended = remove(args.names, args.force, session, &mut all).await;
    // Completed removals are printed even if a later one is rejected.
    let exit = match all.changes.is_empty() {
        true => Exit::Ok,
        false => outcome::show(session, &all, all.deployment.as_slice(), &args.wait).await?,
    };
    ended.map(|()| exit)
}

async fn remove(
    names: Vec<Name>,
    force: bool,
    session: &Session,
    all: &mut ApplyReply,
) -> Result<(), Failure> {
    let mut services = Vec::new();
    for name in names {
        match name {
            Name::Service(id) => services.push(id),
            Name::Gateway(id) => {
                let reply = outcome::delete(session, path::GATEWAY, id.as_str()).await?;
                all.changes.extend(reply.changes);
            }
        }
    }
    if !services.is_empty() {
        let request = RemoveRequest { services: services.clone(), force };
        let reply = outcome::send(session, &services, path::REMOVE, &request).await?;
        all.changes.extend(reply.changes);
        all.deployment = reply.deployment;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_distinguish_services_from_gateways() {
        assert_eq!("gateway/public".parse(), Ok(Name::Gateway("public".parse().unwrap())));
        assert_eq!("shop/web".parse(), Ok(Name::Service("/shop/web".parse().unwrap())));
        assert_eq!("/gateway/x".parse(), Ok(Name::Service("/gateway/x".parse().unwrap())));
    }
}
