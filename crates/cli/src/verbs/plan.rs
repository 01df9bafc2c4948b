//! `muster plan`: the steps of an apply, without performing them.

use std::fmt::Write as _;

use api::{ApplyReply, ApplyRequest};
use model::{Pause, Step};

use super::documents::Files;
use super::{Session, apply, outcome};
use crate::exit::Exit;
use crate::output::screen::{Format, Screen};
use crate::output::tone::Tone;
use crate::output::{Failure, table};

const EXAMPLES: &str = "\
Examples:
  muster plan -f web.yaml             what would change, and every step of it
  muster plan -f shop/ -o json        the same for programs";

/// Show the changed keys of an apply and every step to them; change nothing
///
/// The steps come in waves: each is taken once the one before has worked.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// As if applied with --retry
    #[arg(long)]
    retry: bool,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let request = ApplyRequest { sources: args.files.read()?, plan: true, retry: args.retry };
    let reply = apply::send(&session.client, &request).await?;
    match session.screen.format {
        Format::Json | Format::Yaml => session.screen.document(&reply)?,
        Format::Name => {
            for change in &reply.changes {
                session.screen.line(&change.name)?;
            }
        }
        Format::Table | Format::Wide => session.screen.line(render(&session.screen, &reply))?,
    }
    Ok(Exit::Ok)
}

fn render(screen: &Screen, reply: &ApplyReply) -> String {
    let mut text = outcome::changes(screen, reply);
    text.push('\n');
    for (index, wave) in reply.waves.iter().enumerate() {
        let heading = screen.paint(Tone::Strong, &format!("Wave {}", index + 1));
        let _ = write!(text, "\n{heading}\n");
        let steps = wave.steps.iter().filter_map(step).map(|(word, tone, what, how)| {
            vec![(word.into(), tone), table::plain(what), table::plain(how)]
        });
        for line in table::align(&[], steps, false).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    if reply.waves.is_empty() {
        text.push_str("\nNothing to do.\n");
    }
    if !reply.waits.is_empty() {
        let heading = screen.paint(Tone::Bad, "Would still wait at the end");
        let _ = write!(text, "\n{heading}\n");
        for wait in &reply.waits {
            let _ = writeln!(text, "  {}: {}", wait.service, wait.message);
        }
    }
    text.trim_end().to_string()
}

/// A step in words; bookkeeping is not shown.
pub(crate) fn step(step: &Step) -> Option<(&'static str, Tone, String, String)> {
    let (word, tone, what, how) = match step {
        Step::Place { instance, revision, node, given } => {
            let ports: Vec<_> = given.ports.iter().map(u16::to_string).collect();
            let ports = match ports.is_empty() {
                true => String::new(),
                false => format!(", port {}", ports.join(", ")),
            };
            let how = format!("on {node}{ports}, revision {revision}");
            ("start", Tone::Good, instance.to_string(), how)
        }
        Step::Drain { instance, why, .. } => {
            ("drain", Tone::Warn, instance.to_string(), why.to_string())
        }
        Step::Stop { instance, why } => ("stop", Tone::Bad, instance.to_string(), why.to_string()),
        Step::Pause { pause: Pause::Drain { .. }, .. } => return None,
        Step::Pause { instance, pause: Pause::Suspend } => {
            ("pause", Tone::Warn, instance.to_string(), "its processes are suspended".into())
        }
        Step::Resume { instance } => {
            ("resume", Tone::Good, instance.to_string(), "its processes run again".into())
        }
        Step::Arrive { service } => {
            ("done", Tone::Good, service.to_string(), "all instances are ready".into())
        }
        Step::Fail { deployment, reason, .. } => {
            ("fail", Tone::Bad, deployment.to_string(), reason.to_string())
        }
        Step::Forget { .. } | Step::Progress { .. } => return None,
    };
    Some((word, tone, what, how))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::ColorWhen;
    use api::{ChangedKeys, Wave};
    use model::{Change, ChangeKind, Difference, StopReason, Timestamp};

    #[test]
    fn a_plan_is_printed_wave_by_wave() {
        let key = |key: &str, from: Option<&str>, to: Option<&str>| Difference {
            key: key.into(),
            from: from.map(Into::into),
            to: to.map(Into::into),
        };
        let place = |slot, attempt| Step::Place {
            instance: model::InstanceId::new("/shop/web".parse().unwrap(), slot, attempt),
            revision: 2,
            node: "n1".parse().unwrap(),
            given: model::Given { ports: vec![20_000 + slot as u16] },
        };
        let old = model::InstanceId::new("/shop/web".parse().unwrap(), 0, 1);
        let reply = ApplyReply {
            changes: vec![
                Change {
                    kind: "service".into(),
                    name: "/shop/web".into(),
                    verdict: ChangeKind::Updated,
                    revision: Some(2),
                    run: None,
                    frozen: None,
                    deployment: None,
                    note: None,
                },
                Change {
                    kind: "gateway".into(),
                    name: "public".into(),
                    verdict: ChangeKind::Unchanged,
                    revision: None,
                    run: None,
                    frozen: None,
                    deployment: None,
                    note: Some("its port is privileged".into()),
                },
            ],
            deployment: None,
            waves: vec![
                Wave { steps: vec![place(0, 2), place(1, 2)] },
                Wave {
                    steps: vec![
                        Step::Progress { service: "/shop/web".parse().unwrap(), ready: 2 },
                        Step::Drain {
                            instance: old.clone(),
                            until: Timestamp(0),
                            why: StopReason::Replaced,
                        },
                        Step::Stop { instance: old, why: StopReason::Replaced },
                    ],
                },
            ],
            waits: Vec::new(),
            differences: vec![ChangedKeys {
                kind: "service".into(),
                name: "/shop/web".into(),
                keys: vec![
                    key("env.VERSION", Some("1"), Some("2")),
                    key("env.DEBUG", Some("yes"), None),
                    key("files[/etc/web.conf].text", Some("a\nb\nc\n"), Some("a\nx\nc\n")),
                ],
            }],
        };
        let screen = Screen::new(Format::Table, ColorWhen::Never);
        insta::assert_snapshot!(render(&screen, &reply), @r#"
        ~ service /shop/web  updated, revision 2
            env.VERSION: "1" → "2"
            env.DEBUG: "yes" → (none)
            files[/etc/web.conf].text:
              - b
              + x
        = gateway public     unchanged (its port is privileged)

        Wave 1
          start  /shop/web~0.2  on n1, port 20000, revision 2
          start  /shop/web~1.2  on n1, port 20001, revision 2

        Wave 2
          drain  /shop/web~0.1  replaced by another revision
          stop   /shop/web~0.1  replaced by another revision
        "#);
    }
}
