//! `muster rollout`: follow and steer deployments.

use std::str::FromStr;

use api::{DeploymentView, RolloutRequest, RunRequest, UndoRequest, path};
use clap::Subcommand;
use model::{DeploymentId, Millis, RevisionNumber, ServiceId, Steer};

use super::follow::{self, Wait};
use super::{Session, get, outcome};
use crate::exit::Exit;
use crate::output::{Failure, tone::Tone};

const EXAMPLES: &str = "\
Examples:
  muster rollout status /shop/web         follow its deployment; exit code 6 if it fails
  muster rollout status d-7               follow one by its number
  muster rollout pause /shop/web          leave everything as it is
  muster rollout resume /shop/web         go on
  muster rollout abort /shop/web          go back to the revision before
  muster rollout history /shop/web        its revisions and their outcomes
  muster rollout undo /shop/web           after the end: back to the last one that succeeded
  muster rollout undo /shop/web --to 3    back to a certain one";

/// Follow and steer deployments
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Follow a deployment until it has ended; the exit code is its result
    Status {
        /// A service, or a deployment such as d-7
        #[arg(value_name = "SERVICE|DEPLOYMENT")]
        of: Subject,
        /// Maximum time to follow, such as 90s or 5m
        #[arg(long, value_name = "DURATION")]
        timeout: Option<Millis>,
    },
    /// Leave a deployment's services as they are until it is resumed
    Pause {
        /// A service, or a deployment such as d-7
        #[arg(value_name = "SERVICE|DEPLOYMENT")]
        of: Subject,
    },
    /// Continue a paused deployment, or retry a held one
    Resume {
        /// A service, or a deployment such as d-7
        #[arg(value_name = "SERVICE|DEPLOYMENT")]
        of: Subject,
        #[command(flatten)]
        wait: Wait,
    },
    /// Stop a deployment and return its services to their earlier revisions
    ///
    /// Services that are new and have not arrived are removed. Of a deployment that rolls back
    /// already, abort ends the rollback: its services stay as they are.
    Abort {
        /// A service, or a deployment such as d-7
        #[arg(value_name = "SERVICE|DEPLOYMENT")]
        of: Subject,
    },
    /// List the revisions of a service, newest first, and how the move to each ended
    History {
        /// The service
        service: ServiceId,
    },
    /// Return to the last revision that succeeded, with the present number of instances
    Undo {
        /// A service, or a deployment such as d-7: all that it moved
        #[arg(value_name = "SERVICE|DEPLOYMENT")]
        of: Subject,
        /// The revision; left out, the last one before that succeeded
        #[arg(long, value_name = "REVISION")]
        to: Option<RevisionNumber>,
        /// Act on a frozen service as well
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        wait: Wait,
    },
}

/// A deployment by its number, or by a service that it moves. A service called `/d-7` must be given
/// with its leading slash.
#[derive(Debug, Clone, PartialEq)]
enum Subject {
    Deployment(DeploymentId),
    Service(ServiceId),
}

impl FromStr for Subject {
    type Err = model::id::Error;
    fn from_str(text: &str) -> Result<Subject, Self::Err> {
        match text.parse() {
            Ok(id) => Ok(Subject::Deployment(id)),
            Err(_) => text.parse().map(Subject::Service),
        }
    }
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.what {
        Action::History { service } => {
            let view = get::service(&session.client, &service).await?;
            let revisions: Vec<_> = view.revisions.iter().map(|one| one.as_ref().clone()).collect();
            session.screen.list(&revisions)?;
            Ok(Exit::Ok)
        }
        Action::Status { of, timeout } => status(of, timeout, session).await,
        Action::Pause { of } => steer(of, Steer::Pause, Wait::default(), session).await,
        Action::Resume { of, wait } => steer(of, Steer::Resume, wait, session).await,
        Action::Abort { of } => steer(of, Steer::Abort, Wait::default(), session).await,
        Action::Undo { of: Subject::Service(service), to, force, wait } => {
            let request = UndoRequest { service: service.clone(), to, force };
            outcome::post(session, &service, path::UNDO, &request, &wait).await
        }
        Action::Undo { of: Subject::Deployment(id), to, force, wait } => {
            undo_all(id, to, force, &wait, session).await
        }
    }
}

async fn status(of: Subject, timeout: Option<Millis>, session: &Session) -> Result<Exit, Failure> {
    let wait = Wait::until(timeout);
    let service = match of {
        Subject::Deployment(id) => return follow::follow(session, &[id], &wait).await,
        Subject::Service(service) => service,
    };
    let view = get::service(&session.client, &service).await?;
    if let Some(id) = view.deployment {
        return follow::follow(session, &[id], &wait).await;
    }
    // No deployment moves it: show the result of its last one.
    let all: Vec<DeploymentView> = session.client.get(path::DEPLOYMENTS).await?;
    let concerns = |v: &&DeploymentView| v.deployment.moves.iter().any(|m| m.service == service);
    match all.iter().filter(concerns).max_by_key(|view| view.deployment.id) {
        Some(last) => follow::follow(session, &[last.deployment.id], &wait).await,
        None => {
            let text = format!("{service} is at revision {}; nothing moves it", view.revision);
            session.screen.line(session.screen.paint(Tone::Dim, &text))?;
            Ok(Exit::Ok)
        }
    }
}

async fn steer(of: Subject, how: Steer, wait: Wait, session: &Session) -> Result<Exit, Failure> {
    let (service, deployment) = match of {
        Subject::Service(service) => (Some(service), None),
        Subject::Deployment(id) => (None, Some(id)),
    };
    let services: Vec<_> = service.iter().cloned().collect();
    let request = RolloutRequest { service, deployment, how: Some(how), force: false };
    let reply = outcome::send(session, &services, path::ROLLOUT, &request).await?;
    let steered = outcome::deployments(&reply);
    if session.screen.is_for_programs() {
        return outcome::show(session, &reply, &steered, &wait).await;
    }
    for id in &steered {
        session.screen.line(match how {
            Steer::Pause => format!("{id} is paused; resume it with: muster rollout resume {id}"),
            Steer::Resume => format!("{id} goes on"),
            Steer::Abort => format!("{id} is aborted; follow it with: muster rollout status {id}"),
        })?;
    }
    match wait.is_wanted() {
        true => follow::follow(session, &steered, &wait).await,
        false => Ok(Exit::Ok),
    }
}

/// Undoes each move of a deployment.
async fn undo_all(
    id: DeploymentId,
    to: Option<RevisionNumber>,
    force: bool,
    wait: &Wait,
    session: &Session,
) -> Result<Exit, Failure> {
    let all: Vec<DeploymentView> = session.client.get(path::DEPLOYMENTS).await?;
    let Some(view) = all.into_iter().find(|view| view.deployment.id == id) else {
        return Err(get::not_found("deployment", &id.to_string()));
    };
    if let Some(one) = view.deployment.moves.iter().find(|one| one.from.is_none()) {
        let message = format!("{} was new in {id}: there is nothing to go back to", one.service);
        return Err(Failure::new(Exit::Failure, message)
            .hint(format!("remove it with: muster rm {}", one.service)));
    }
    let mut exit = Exit::Ok;
    for one in view.deployment.moves {
        let mut ends = Vec::new();
        if let Some(change) = one.run {
            let request =
                RunRequest { services: vec![one.service.clone()], run: change.from, force };
            ends.push(outcome::post(session, &one.service, path::RUN, &request, wait).await?);
        }
        if one.to != one.from || to.is_some() {
            let request = UndoRequest { service: one.service.clone(), to: to.or(one.from), force };
            ends.push(outcome::post(session, &one.service, path::UNDO, &request, wait).await?);
        }
        exit = ends.into_iter().chain([exit]).find(|end| *end != Exit::Ok).unwrap_or(Exit::Ok);
    }
    Ok(exit)
}
