//! The result of a request that changes services: the changes, then either the command to follow
//! the deployment, or its progress until the end.

use std::fmt::Write as _;

use api::{ApplyReply, ChangedKeys, path};
use model::{ChangeKind, DeploymentId, Difference, ServiceId};
use serde_json::Value;

use super::follow::{self, Wait};
use super::{Session, get};
use crate::exit::Exit;
use crate::output::screen::{Format, Screen};
use crate::output::tone::Tone;
use crate::output::{Failure, rows};

/// Shows the reply, and follows `deployments` if requested.
pub(crate) async fn show(
    session: &Session,
    reply: &ApplyReply,
    deployments: &[DeploymentId],
    wait: &Wait,
) -> Result<Exit, Failure> {
    let screen = &session.screen;
    match screen.format {
        Format::Json | Format::Yaml if !wait.is_wanted() || deployments.is_empty() => {
            screen.document(reply)?;
        }
        // The only document of the output is the deployment after its end, which follows.
        Format::Json | Format::Yaml => {}
        Format::Name => {
            for change in &reply.changes {
                // In the form that `muster rm` accepts.
                match change.kind.as_str() {
                    "gateway" => screen.line(format!("gateway/{}", change.name))?,
                    _ => screen.line(&change.name)?,
                }
            }
        }
        Format::Table | Format::Wide => {
            if !reply.changes.is_empty() {
                screen.line(changes(screen, reply))?;
            }
            if !wait.is_wanted() {
                for deployment in deployments {
                    screen.line(format!(
                        "\nstarted {deployment}; follow it with: \
                         muster rollout status {deployment}"
                    ))?;
                }
            }
        }
    }
    match wait.is_wanted() {
        true => follow::follow(session, deployments, wait).await,
        false => Ok(Exit::Ok),
    }
}

/// The changes, one line for each.
pub(crate) fn changes(screen: &Screen, reply: &ApplyReply) -> String {
    let name_len = |change: &model::Change| change.kind.len() + change.name.chars().count() + 1;
    let column = reply.changes.iter().map(name_len).max().unwrap_or_default();
    let mut text = String::new();
    for change in &reply.changes {
        let (word, tone) = rows::verdict(change.verdict);
        let sign = match change.verdict {
            ChangeKind::Created => "+",
            ChangeKind::Updated => "~",
            ChangeKind::Unchanged => "=",
            ChangeKind::Removed => "-",
        };
        let pad = " ".repeat(column - name_len(change) + 2);
        let _ = write!(
            text,
            "{} {} {}{pad}{}",
            screen.paint(tone, sign),
            change.kind,
            change.name,
            screen.paint(tone, word)
        );
        if let Some(revision) = change.revision {
            let _ = write!(text, ", revision {revision}");
        }
        if let Some(run) = change.run {
            let _ = write!(text, ", {run}");
        }
        match change.frozen {
            Some(true) => text.push_str(", frozen"),
            Some(false) => text.push_str(", thawed"),
            None => {}
        }
        if let Some(note) = &change.note {
            let _ = write!(text, " {}", screen.paint(Tone::Dim, &format!("({note})")));
        }
        text.push('\n');
        let same = |one: &&ChangedKeys| one.kind == change.kind && one.name == change.name;
        for key in reply.differences.iter().find(same).map_or(&[][..], |changed| &changed.keys) {
            text.push_str(&difference(screen, key));
        }
    }
    text.trim_end().to_string()
}

/// A changed key with its values: in one line, or line by line for text of several lines.
fn difference(screen: &Screen, difference: &Difference) -> String {
    let Difference { key, from, to } = difference;
    if let (Some(Value::String(from)), Some(Value::String(to))) = (from, to)
        && (from.contains('\n') || to.contains('\n'))
    {
        let mut text = format!("    {key}:\n");
        for (sign, tone, line) in changed_lines(from, to) {
            let _ = writeln!(text, "      {}", screen.paint(tone, &format!("{sign} {line}")));
        }
        return text;
    }
    let shown = |value: &Option<Value>| match value {
        None => "(none)".into(),
        Some(value) => rows::one_line(&value.to_string()),
    };
    format!("    {key}: {} → {}\n", shown(from), shown(to))
}

/// The lines between the common beginning and the common end of two texts.
fn changed_lines<'a>(from: &'a str, to: &'a str) -> Vec<(&'static str, Tone, &'a str)> {
    let (from, to): (Vec<_>, Vec<_>) = (from.lines().collect(), to.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = from.iter().zip(&to).take_while(same).count();
    let rest = from[head..].iter().rev().zip(to[head..].iter().rev());
    let tail = rest.take_while(same).count();
    let old = from[head..from.len() - tail].iter().map(|line| ("-", Tone::Bad, *line));
    let new = to[head..to.len() - tail].iter().map(|line| ("+", Tone::Good, *line));
    old.chain(new).collect()
}

/// The deployments of a reply: the new one, or those that were steered.
pub(crate) fn deployments(reply: &ApplyReply) -> Vec<DeploymentId> {
    let steered = reply.changes.iter().filter(|change| change.kind == "deployment");
    let mut all: Vec<_> = steered.filter_map(|change| change.name.parse().ok()).collect();
    all.extend(reply.deployment);
    all.sort();
    all.dedup();
    all
}

/// `POST`s a request that changes services, and returns the result.
pub(crate) async fn send(
    session: &Session,
    services: &[ServiceId],
    path: &str,
    body: &impl serde::Serialize,
) -> Result<ApplyReply, Failure> {
    match session.client.change(path, body).await {
        Ok(reply) => Ok(reply),
        Err(error) => Err(get::or_group(&session.client, services, error.into()).await),
    }
}

/// `POST`s a request that changes a service, and prints the result.
pub(crate) async fn post(
    session: &Session,
    service: &ServiceId,
    path: &str,
    body: &impl serde::Serialize,
    wait: &Wait,
) -> Result<Exit, Failure> {
    let reply = send(session, std::slice::from_ref(service), path, body).await?;
    let deployments = deployments(&reply);
    show(session, &reply, &deployments, wait).await
}

/// `DELETE`s an object, and returns the result.
pub(crate) async fn delete(
    session: &Session,
    path: &str,
    name: &str,
) -> Result<ApplyReply, Failure> {
    Ok(session.client.delete(&path::with(path, name)).await?)
}
