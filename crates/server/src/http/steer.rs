//! Commands of operators other than applying documents.

use api::{
    ApplyReply, ErrorCode, FreezeRequest, RemoveRequest, RolloutRequest, RunRequest, ScaleRequest,
    UndoRequest,
};
use axum::Json;
use axum::extract::{Query, State};
use model::{Availability, Command, DeploymentId, GatewayId, NodeId, Proposal, Scaling, ServiceId};

use serde::Deserialize;

use super::apply::reply;
use super::request_id::Author;
use super::response::{Body, ErrorResponse, Named};
use crate::adapter::Server;

type Reply = Result<Json<ApplyReply>, ErrorResponse>;

async fn execute(server: &Server, author: Author, command: Command) -> Reply {
    propose(server, author.proposal(command)).await
}

/// Carries out a command that a frozen service rejects unless it is forced.
async fn carry_out_on(server: &Server, author: Author, force: bool, command: Command) -> Reply {
    let mut proposal = author.proposal(command);
    proposal.guard.force = force;
    propose(server, proposal).await
}

async fn propose(server: &Server, proposal: Proposal) -> Reply {
    Ok(Json(reply(server.handle.propose(proposal).await?)))
}

pub(super) async fn scale(
    State(server): State<Server>,
    author: Author,
    Body(body): Body<ScaleRequest>,
) -> Reply {
    let ScaleRequest { service, instances, by, force } = body;
    let scaling = match (instances, by) {
        (Some(instances), None) => Scaling::To(instances),
        (None, Some(by)) => Scaling::By(by),
        _ => return Err(missing("give either `instances` or `by`")),
    };
    carry_out_on(&server, author, force, scaling.command(service)).await
}

pub(super) async fn set_run(
    State(server): State<Server>,
    author: Author,
    Body(body): Body<RunRequest>,
) -> Reply {
    let RunRequest { services, run, force } = body;
    if services.is_empty() {
        return Err(missing("name the services to start or stop"));
    }
    carry_out_on(&server, author, force, Command::SetRun { services, run }).await
}

pub(super) async fn set_frozen(
    State(server): State<Server>,
    author: Author,
    Body(body): Body<FreezeRequest>,
) -> Reply {
    let FreezeRequest { services, frozen, resources: names, tags } = body;
    if services.is_empty() {
        return Err(missing("name the services to freeze or thaw"));
    }
    let resources = model::Selection { names, tags };
    execute(&server, author, Command::SetFrozen { services, resources, frozen }).await
}

pub(super) async fn restart(
    State(server): State<Server>,
    author: Author,
    Body(body): Body<RolloutRequest>,
) -> Reply {
    let service = body.service.ok_or_else(|| missing("name the service to restart"))?;
    carry_out_on(&server, author, body.force, Command::Restart { service }).await
}

pub(super) async fn undo(
    State(server): State<Server>,
    author: Author,
    Body(body): Body<UndoRequest>,
) -> Reply {
    let UndoRequest { service, to, force } = body;
    carry_out_on(&server, author, force, Command::Undo { service, to }).await
}

pub(super) async fn rollout(
    State(server): State<Server>,
    author: Author,
    Body(body): Body<RolloutRequest>,
) -> Reply {
    let how = body.how.ok_or_else(|| missing("say how: pause, resume or abort"))?;
    if let Some(first) = author.first_outcome(&server.handle.snapshot().state) {
        return Ok(Json(reply(first?)));
    }
    let deployment = match (body.deployment, &body.service) {
        (Some(deployment), _) => deployment,
        (None, Some(service)) => deployment_of(&server, service)?,
        (None, None) => return Err(missing("name a service or a deployment")),
    };
    execute(&server, author, Command::Steer { deployment, how }).await
}

fn missing(message: &str) -> ErrorResponse {
    ErrorResponse::new(ErrorCode::BadRequest, message)
}

fn deployment_of(server: &Server, id: &ServiceId) -> Result<DeploymentId, ErrorResponse> {
    let snapshot = server.handle.snapshot();
    snapshot.state.known_service(id)?.deployment.ok_or_else(|| {
        ErrorResponse::new(ErrorCode::Conflict, format!("{id} is not being deployed"))
            .hint("`muster rollout undo` goes back to the revision before")
    })
}

pub(super) async fn remove_services(
    State(server): State<Server>,
    author: Author,
    Body(body): Body<RemoveRequest>,
) -> Reply {
    if body.services.is_empty() {
        return Err(missing("name the services to remove"));
    }
    carry_out_on(&server, author, body.force, Command::RemoveServices(body.services)).await
}

/// `DELETE` of a service.
pub(super) async fn remove_service(
    State(server): State<Server>,
    author: Author,
    Named(service): Named<ServiceId>,
) -> Reply {
    execute(&server, author, Command::RemoveServices(vec![service])).await
}

/// `DELETE` of a gateway document.
pub(super) async fn remove_gateway(
    State(server): State<Server>,
    author: Author,
    Named(gateway): Named<GatewayId>,
) -> Reply {
    execute(&server, author, Command::RemoveGateway(gateway)).await
}

/// `DELETE` of a node.
pub(super) async fn remove_node(
    State(server): State<Server>,
    author: Author,
    Named(node): Named<NodeId>,
    Query(Forced { force }): Query<Forced>,
) -> Reply {
    let snapshot = server.handle.snapshot();
    let used = snapshot.state.is_used(&node);
    if force && used && !snapshot.observed.is_lost(&node, api::now()) {
        let message = format!("the agent of {node} is not silent: drain the node instead");
        return Err(ErrorResponse::new(ErrorCode::Conflict, message));
    }
    carry_out_on(&server, author, force, Command::RemoveNode(node)).await
}

/// The query of a removal.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Forced {
    #[serde(default)]
    force: bool,
}

pub(super) async fn availability(
    State(server): State<Server>,
    author: Author,
    Named(node): Named<NodeId>,
    Body(availability): Body<Availability>,
) -> Reply {
    execute(&server, author, Command::SetAvailability { node, availability }).await
}
