//! `muster apply`: make services and gateways as documents say.

use api::{ApplyReply, ApplyRequest, Client, Source, path};
use model::{Change, ChangeKind, DeploymentId};

use super::documents::{self, Files};
use super::follow::Wait;
use super::{Session, get, listening, outcome};
use crate::adapters::DIALECTS;
use crate::exit::Exit;
use crate::output::Failure;

const EXAMPLES: &str = "\
Examples:
  muster apply -f web.yaml                     start it, and go on with other things
  muster apply -f web.yaml --wait              come back when it runs; exit code 6 if it fails
  muster apply -f shop/ -f gateway.yaml        several, as one deployment
  muster apply -f web.yaml --retry --wait      again, although this document failed before
  cat web.yaml | muster apply -f -             from standard input
  muster apply -f app.json                     a document of a foreign system";

/// Make services and gateways as documents say
///
/// All documents of one call are one deployment: either all are accepted or nothing changes.
/// Objects that match their documents already are unchanged, and so is a service whose document is
/// that of a revision which failed: change the document, or try it again with --retry.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Try documents again whose revisions failed, once the cause outside of them is mended
    #[arg(long)]
    retry: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let request = ApplyRequest { sources: args.files.read()?, plan: false, retry: args.retry };
    let reply = send(&session.client, &request).await?;
    let follow = match args.wait.is_wanted() {
        true => followed(session, &reply).await?,
        false => reply.deployment.into_iter().collect(),
    };
    let exit = outcome::show(session, &reply, &follow, &args.wait).await?;
    if args.wait.is_wanted() && exit == Exit::Ok {
        listening::wait(&session.client, &reply, args.wait.deadline()).await?;
    }
    // No deployment is in progress, but another revision runs: with `--wait` this is a failure.
    match args.wait.is_wanted() && exit == Exit::Ok && reply.changes.iter().any(is_blocked) {
        true => Ok(Exit::Deployment),
        false => Ok(exit),
    }
}

/// Whether the document is that of a revision which failed before. It is the only service that
/// is left unchanged for a reason.
fn is_blocked(change: &Change) -> bool {
    change.kind == "service" && change.verdict == ChangeKind::Unchanged && change.note.is_some()
}

/// Sends documents to the server. If it is unreachable, diagnostics in the documents are reported
/// instead, because they must be fixed first.
pub(crate) async fn send(client: &Client, request: &ApplyRequest) -> Result<ApplyReply, Failure> {
    let sent = match request.plan {
        true => client.post(path::APPLY, request).await,
        false => client.change(path::APPLY, request).await,
    };
    match sent {
        Ok(reply) => Ok(reply),
        Err(error) => {
            if let api::Error::Unreachable { .. } | api::Error::Timeout { .. } = error {
                check(&request.sources)?;
            }
            Err(Failure::from(error).with_sources(&request.sources))
        }
    }
}

fn check(sources: &[Source]) -> Result<(), Failure> {
    let parsed =
        sources.iter().map(|source| formats::parse_with(&source.name, &source.text, DIALECTS));
    let faults: Vec<_> = parsed.filter_map(Result::err).flatten().collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Documents, "the documents are invalid, and the server is unreachable")
        .with_details(documents::details(faults))
        .with_sources(sources))
}

/// The deployments to wait for: the new one or, if nothing had to change, those in progress. A
/// repeated apply after an interruption must still report their result.
async fn followed(session: &Session, reply: &ApplyReply) -> Result<Vec<DeploymentId>, Failure> {
    if let Some(deployment) = reply.deployment {
        return Ok(vec![deployment]);
    }
    let mut deployments = Vec::new();
    for change in reply.changes.iter().filter(|change| change.kind == "service") {
        if let Ok(service) = change.name.parse() {
            deployments.extend(get::service(&session.client, &service).await?.deployment);
        }
    }
    deployments.sort();
    deployments.dedup();
    Ok(deployments)
}
