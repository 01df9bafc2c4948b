//! `muster rm`: stop and forget services, forget gateways.

use std::str::FromStr;

use api::{ApplyReply, path};
use model::{GatewayId, ServiceId};

use super::follow::Wait;
use super::{Session, get, outcome};
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster rm /shop/web --wait            stop it, and come back when it is gone
  muster rm /shop/web /shop/api         several
  muster rm gateway/public              a gateway document";

/// Stop and forget services; forget gateways
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A service, or gateway/NAME
    #[arg(required = true, value_name = "SERVICE|gateway/NAME")]
    names: Vec<Name>,
    #[command(flatten)]
    wait: Wait,
}

/// What can be removed. A service that is called `/gateway/x` is meant with its first slash.
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

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let mut all = ApplyReply { changes: vec![], deployment: None, waves: vec![], waits: vec![] };
    let mut deployments = Vec::new();
    let mut failed = None;
    for name in in_order(args.names) {
        let reply = match &name {
            Name::Service(id) => match outcome::delete(session, path::SERVICE, id.as_str()).await {
                Ok(reply) => Ok(reply),
                Err(failure) => Err(get::or_group(&session.client, id, failure).await),
            },
            Name::Gateway(id) => outcome::delete(session, path::GATEWAY, id.as_str()).await,
        };
        match reply {
            Ok(reply) => {
                all.changes.extend(reply.changes);
                deployments.extend(reply.deployment);
                all.deployment = reply.deployment.or(all.deployment);
            }
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
    }
    // What was done is told even if the rest was refused.
    let exit = match all.changes.is_empty() {
        true => Exit::Ok,
        false => outcome::show(session, &all, &deployments, &args.wait).await?,
    };
    failed.map_or(Ok(exit), Err)
}

/// Gateways first: a service is not removed while a route leads to it.
fn in_order(mut names: Vec<Name>) -> Vec<Name> {
    names.sort_by_key(|name| matches!(name, Name::Service(_)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_goes_before_the_services_it_leads_to() {
        let names = ["/b", "gateway/public", "/a"].map(|name| name.parse().unwrap());
        let [b, public, a] = names.clone();
        assert_eq!(in_order(names.into()), [public, b, a]);
    }

    #[test]
    fn names_tell_services_from_gateways() {
        assert_eq!("gateway/public".parse(), Ok(Name::Gateway("public".parse().unwrap())));
        assert_eq!("shop/web".parse(), Ok(Name::Service("/shop/web".parse().unwrap())));
        assert_eq!("/gateway/x".parse(), Ok(Name::Service("/gateway/x".parse().unwrap())));
    }
}
