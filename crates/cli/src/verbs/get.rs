//! `muster get`: lists of objects.

use api::{
    Client, DeploymentView, ErrorCode, GatewayView, InstanceView, NodeView, ServiceView, path,
};
use clap::ValueEnum;
use model::{InstanceId, ServiceId};
use serde::Serialize;

use super::{Session, stream};
use crate::exit::Exit;
use crate::output::Failure;
use crate::output::table::Row;

const EXAMPLES: &str = "\
Examples:
  muster get services                 all services
  muster get services /shop           those at or below a path
  muster get instances /shop/web      the instances of a service
  muster get nodes -o wide            more columns
  muster get deployments -o json      the documents of the API
  for s in $(muster get services -o name); do muster restart $s --wait; done";

/// List services, instances, nodes, deployments, gateways or events
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The kind of objects to list
    #[arg(value_enum)]
    kind: Kind,
    /// Only this one; for services also a path above them, for instances and events also a
    /// service
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(alias = "service", alias = "svc")]
    Services,
    #[value(alias = "instance")]
    Instances,
    #[value(alias = "node")]
    Nodes,
    #[value(alias = "deployment")]
    Deployments,
    #[value(alias = "gateway")]
    Gateways,
    #[value(alias = "event")]
    Events,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let client = &session.client;
    let name = args.name.as_deref();
    match args.kind {
        Kind::Services => show(session, services(client, name).await?, "service", name),
        Kind::Instances => show(session, instances(client, name).await?, "instance", name),
        Kind::Nodes => {
            let nodes: Vec<NodeView> = client.get(path::NODES).await?;
            show(session, named(nodes, name), "node", name)
        }
        Kind::Deployments => {
            let deployments: Vec<DeploymentView> = client.get(path::DEPLOYMENTS).await?;
            show(session, named(deployments, name), "deployment", name)
        }
        Kind::Gateways => {
            let gateways: Vec<GatewayView> = client.get(path::GATEWAYS).await?;
            show(session, named(gateways, name), "gateway", name)
        }
        Kind::Events => {
            let service = name.map(parse_service).transpose()?;
            let mut events = stream::Events::open(client, None, service.as_ref(), false).await?;
            let mut all = Vec::new();
            while let Some(event) = events.next().await? {
                all.push(event);
            }
            session.screen.list(&all)?;
            Ok(Exit::Ok)
        }
    }
}

fn named<T: Row>(all: Vec<T>, name: Option<&str>) -> Vec<T> {
    all.into_iter().filter(|one| name.is_none_or(|name| one.name() == name)).collect()
}

fn show<T: Row + Serialize>(
    session: &Session,
    found: Vec<T>,
    kind: &str,
    name: Option<&str>,
) -> Result<Exit, Failure> {
    match name {
        Some(name) if found.is_empty() => Err(not_found(kind, name)),
        _ => session.screen.list(&found).map(|()| Exit::Ok),
    }
}

/// The failure for an object that does not exist.
pub(crate) fn not_found(kind: &str, name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no {kind} `{name}`"))
        .hint(format!("`muster get {kind}s` lists what there is"))
}

/// Parses a service path.
pub(crate) fn parse_service(text: &str) -> Result<ServiceId, Failure> {
    text.parse().map_err(|error: model::id::Error| Failure::new(Exit::Usage, error.to_string()))
}

async fn services(client: &Client, name: Option<&str>) -> Result<Vec<ServiceView>, Failure> {
    let query = name.map(|name| ("group", format!("/{}", name.trim_matches('/'))));
    Ok(client.get(&path::query(path::SERVICES, query)).await?)
}

/// One service, with its revisions.
pub(crate) async fn service(client: &Client, id: &ServiceId) -> Result<ServiceView, Failure> {
    let found: Result<ServiceView, api::Error> =
        client.get(&path::with(path::SERVICE, id.as_str())).await;
    match found {
        Ok(found) => Ok(found),
        Err(api::Error::Refused(body))
            if body.code == ErrorCode::NotFound && body.hint.is_none() =>
        {
            let failure = Failure::from(body).hint("`muster get services` lists what there is");
            Err(or_group(client, std::slice::from_ref(id), failure).await)
        }
        Err(error) => Err(error.into()),
    }
}

/// Replaces the failure for a service that does not exist, if one of the names is that of a group.
pub(crate) async fn or_group(client: &Client, ids: &[ServiceId], failure: Failure) -> Failure {
    if failure.exit != Exit::NotFound {
        return failure;
    }
    for id in ids {
        let found = services(client, Some(id.as_str())).await.unwrap_or_default();
        if let Some(group_failure) = is_group(id, &found) {
            return group_failure;
        }
    }
    failure
}

fn is_group(id: &ServiceId, found: &[ServiceView]) -> Option<Failure> {
    const NAMED: usize = 5;
    let mut names: Vec<_> = found.iter().take(NAMED).map(|view| view.service.to_string()).collect();
    if found.len() > NAMED {
        names.push(format!("and {} more", found.len() - NAMED));
    }
    let message = format!("{id} is no service but a group of services: {}", names.join(", "));
    let hint = format!("name one of them; `muster get services {id}` lists them");
    let is_group = !found.is_empty() && found.iter().all(|view| view.service != *id);
    is_group.then(|| Failure::new(Exit::NotFound, message).hint(hint))
}

async fn instances(client: &Client, name: Option<&str>) -> Result<Vec<InstanceView>, Failure> {
    let Some(name) = name else { return Ok(client.get(path::INSTANCES).await?) };
    if !name.contains('~') {
        let service = parse_service(name)?;
        return instances_of(client, &service).await;
    }
    let id: InstanceId = name
        .parse()
        .map_err(|error: model::id::Error| Failure::new(Exit::Usage, error.to_string()))?;
    Ok(instance(client, &id).await?.into_iter().collect())
}

/// The instances of a service.
pub(crate) async fn instances_of(
    client: &Client,
    service: &ServiceId,
) -> Result<Vec<InstanceView>, Failure> {
    let path = path::query(path::INSTANCES, [("service", service.to_string())]);
    match client.get(&path).await {
        Ok(found) => Ok(found),
        Err(error) => Err(or_group(client, std::slice::from_ref(service), error.into()).await),
    }
}

/// One instance, if it exists.
pub(crate) async fn instance(
    client: &Client,
    id: &InstanceId,
) -> Result<Option<InstanceView>, Failure> {
    let all = instances_of(client, &id.service).await?;
    Ok(all.into_iter().find(|view| view.instance == *id))
}
