//! Follows deployments to their end: shared by `rollout status` and all verbs with `--wait`.
//!
//! Polls the server instead of subscribing to events: the state of a deployment is complete even if
//! events were missed, and a restart of the server does not end the wait.

use std::time::{Duration, Instant};

use api::{Client, DeploymentView, ErrorCode, path};
use model::{DeploymentId, Millis, Stage};

use super::Session;
use crate::exit::Exit;
use crate::output::progress::Progress;
use crate::output::screen::Format;
use crate::output::{Failure, age, rows};

const POLL: Duration = Duration::from_millis(200);
/// Timeout for an unreachable server while following: a restart takes seconds.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Whether to wait for the end, and for how long.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Wait {
    /// Wait until the deployment has ended; the exit code is its result
    #[arg(long)]
    wait: bool,
    /// Maximum time to wait, such as 90s or 5m; the deployment itself continues
    #[arg(long, value_name = "DURATION", requires = "wait")]
    timeout: Option<Millis>,
}

impl Wait {
    /// A wait without timeout, or with `timeout`.
    pub(crate) fn until(timeout: Option<Millis>) -> Wait {
        Wait { wait: true, timeout }
    }

    /// Whether to wait at all.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wait
    }

    /// When to give up waiting.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timeout.map(|timeout| Instant::now() + Duration::from_millis(timeout.0))
    }
}

/// Shows deployments until all have ended, then their results.
pub(crate) async fn follow(
    session: &Session,
    ids: &[DeploymentId],
    wait: &Wait,
) -> Result<Exit, Failure> {
    let mut progress = match session.screen.is_for_programs() {
        true => Progress::hidden(),
        false => Progress::new(),
    };
    let ended = ended(&session.client, ids, wait.deadline(), &mut progress).await;
    progress.finish();
    let ended = ended?;
    let mut exit = Exit::Ok;
    for view in &ended {
        match session.screen.format {
            Format::Json | Format::Yaml => session.screen.document(view)?,
            Format::Name => {}
            Format::Table | Format::Wide => {
                let tone = rows::stage_tone(&view.deployment.stage);
                session.screen.line(session.screen.paint(tone, &verdict(view)))?;
            }
        }
        if exit == Exit::Ok {
            exit = exit_of(&view.deployment.stage);
        }
    }
    Ok(exit)
}

/// Waits until every one of `ids` has ended or is held.
async fn ended(
    client: &Client,
    ids: &[DeploymentId],
    deadline: Option<Instant>,
    progress: &mut Progress,
) -> Result<Vec<DeploymentView>, Failure> {
    let mut last_response_at = Instant::now();
    let mut silent = false;
    loop {
        match some(client, ids).await {
            Ok(views) => {
                if std::mem::take(&mut silent) {
                    progress.print_line("the server responds again");
                }
                last_response_at = Instant::now();
                views.iter().for_each(|view| progress.show(view));
                if views.iter().all(|view| is_settled(&view.deployment.stage)) {
                    return Ok(views);
                }
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(timed_out(&views));
                }
            }
            Err(error) => {
                let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                if !is_passing(&error) || over || last_response_at.elapsed() > SILENCE_MAX {
                    return Err(error.into());
                }
                if !std::mem::replace(&mut silent, true) {
                    progress.print_line("the server does not respond; waiting for it");
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether a retry may succeed.
pub(crate) fn is_passing(error: &api::Error) -> bool {
    match error {
        api::Error::Unreachable { .. } | api::Error::Timeout { .. } => true,
        api::Error::Refused(body) => body.code == ErrorCode::Unavailable,
        api::Error::Address { .. }
        | api::Error::NotMuster { .. }
        | api::Error::Mismatch { .. }
        | api::Error::InvalidResponse { .. } => false,
    }
}

async fn some(client: &Client, ids: &[DeploymentId]) -> Result<Vec<DeploymentView>, api::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<DeploymentView> = client.get(path::DEPLOYMENTS).await?;
    ids.iter()
        .map(|id| {
            let found = all.iter().find(|view| view.deployment.id == *id);
            found.cloned().ok_or_else(|| {
                let message = format!("there is no deployment `{id}` (any more)");
                api::Error::Refused(api::ErrorBody::new(ErrorCode::NotFound, message))
            })
        })
        .collect()
}

/// Whether further waiting is pointless: the deployment has ended, or waits for a user.
fn is_settled(stage: &Stage) -> bool {
    stage.is_over() || matches!(stage, Stage::Held { .. })
}

fn exit_of(stage: &Stage) -> Exit {
    match stage {
        Stage::Succeeded { .. } => Exit::Ok,
        _ => Exit::Deployment,
    }
}

/// The result of a deployment, as a sentence.
pub(crate) fn verdict(view: &DeploymentView) -> String {
    let deployment = &view.deployment;
    let id = deployment.id;
    let took = |at: &model::Timestamp| age::exact(at.since(deployment.created_at));
    match &deployment.stage {
        Stage::Succeeded { at } => format!("{id} succeeded in {}", took(at)),
        Stage::RolledBack { reason, at } => {
            format!("{id} was rolled back after {}: {reason}", took(at))
        }
        Stage::RollbackFailed { reason, cause, at } => format!(
            "{id} failed: {reason}\nit could not be rolled back within {}: {cause}\n\
             {id} has ended; its services stay on their way to the earlier revisions, see: muster \
             get services",
            took(at)
        ),
        Stage::Superseded { by, .. } => {
            format!("{id} was superseded by {by}; follow that with: muster rollout status {by}")
        }
        Stage::Held { reason } => format!(
            "{id} is held: {reason}\n\
             try it again with: muster rollout resume {id}; {} with: muster rollout abort {id}",
            match deployment.moves.iter().all(|m| m.from.is_none()) {
                true => "remove what was new",
                false => "roll it back",
            }
        ),
        stage => format!("{id} is {}", stage.word()),
    }
}

fn timed_out(views: &[DeploymentView]) -> Failure {
    let open: Vec<_> = views.iter().filter(|v| !is_settled(&v.deployment.stage)).collect();
    let names: Vec<_> = open.iter().map(|view| view.deployment.id.to_string()).collect();
    let names = names.join(", ");
    let mut failure =
        Failure::new(Exit::TimedOut, format!("{names} has not completed within the timeout"))
            .hint(format!("it continues; follow it with: muster rollout status {names}"));
    for one in open.iter().flat_map(|view| &view.moves) {
        let waits: Vec<_> = one.waits.iter().map(|wait| wait.message.as_str()).collect();
        if !waits.is_empty() {
            failure = failure.because_of(format!("{}: {}", one.service, waits.join("; ")));
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use model::{Deployment, Timestamp};

    fn failure(sentence: &str) -> Arc<model::Failure> {
        Arc::new(model::Failure::Other(sentence.into()))
    }

    fn view(stage: Stage) -> DeploymentView {
        DeploymentView {
            deployment: Deployment {
                id: DeploymentId(7),
                created_at: Timestamp(10_000),
                by: None,
                via: None,
                cause: model::Cause::Apply,
                forced: false,
                moves: Vec::new(),
                stage,
            },
            reason: None,
            moves: Vec::new(),
        }
    }

    #[test]
    fn final_stages_are_described_with_their_exit_code() {
        let at = Timestamp(12_400);
        let check = |stage: Stage, text: &str, exit: Exit| {
            assert!(is_settled(&stage));
            assert_eq!(exit_of(&stage), exit);
            assert_eq!(verdict(&view(stage)).lines().next(), Some(text));
        };
        check(Stage::Succeeded { at }, "d-7 succeeded in 2.4s", Exit::Ok);
        check(
            Stage::RolledBack { reason: failure("no progress for 5s"), at },
            "d-7 was rolled back after 2.4s: no progress for 5s",
            Exit::Deployment,
        );
        check(
            Stage::RollbackFailed { reason: failure("no progress"), cause: failure("no node"), at },
            "d-7 failed: no progress",
            Exit::Deployment,
        );
        check(
            Stage::Held { reason: failure("no progress") },
            "d-7 is held: no progress",
            Exit::Deployment,
        );
        assert!(!is_settled(&Stage::Paused) && !is_settled(&Stage::Running));
    }
}
