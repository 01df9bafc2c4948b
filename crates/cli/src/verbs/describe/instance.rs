//! An instance in full.

use api::InstanceView;
use model::{CheckResult, Goal, InstanceId, Pause, Phase, ResourceStatus, Status, Timestamp};

use super::Session;
use crate::exit::Exit;
use crate::output::rows::instance_state;
use crate::output::sheet::Sheet;
use crate::output::tone::Tone;
use crate::output::{Failure, age};
use crate::verbs::get;

pub(super) async fn show(session: &Session, id: &InstanceId) -> Result<Exit, Failure> {
    let Some(view) = get::instance(&session.client, id).await? else {
        return Err(get::not_found("instance", &id.to_string()));
    };
    if session.screen.is_for_programs() {
        session.screen.document(&view)?;
        return Ok(Exit::Ok);
    }
    let now = age::now();
    let mut sheet = Sheet::new(&session.screen, 11);
    head(&mut sheet, &view, now);
    if let Some(status) = &view.status {
        runs(&mut sheet, status, now);
        sheet.section("Resources", &resources(&status.resources, now));
        sheet.section("Health checks", &checks(&status.checks, now));
    }
    sheet.section("What it prints", &format!("muster logs {id}"));
    session.screen.line(sheet.finish())?;
    Ok(Exit::Ok)
}

fn head(sheet: &mut Sheet<'_>, view: &InstanceView, now: Timestamp) {
    let (state, tone) = instance_state(view);
    let ports: Vec<_> = view.ports.iter().map(u16::to_string).collect();
    let goal = match &view.goal {
        Goal::Run => match view.pause {
            None => String::from("should run"),
            Some(Pause::Drain { until }) => {
                let left = age::span(until.since(now));
                format!("finishes its requests, for at most {left} more, and is then suspended")
            }
            Some(Pause::Suspend) => String::from("should be suspended: its service is paused"),
        },
        Goal::Drain { until, why } => {
            let left = age::span(until.since(now));
            format!("finishes its requests, for at most {left} more: {why}")
        }
        Goal::Stop { why } => format!("should stop: {why}"),
    };
    let current = if view.current { "" } else { " (another one is wanted)" };
    sheet
        .line("Instance", &view.instance)
        .toned("State", tone, state)
        .toned("No traffic", Tone::Warn, view.not_serving.clone().unwrap_or_default())
        .line("Goal", goal)
        .line("Service", &view.service)
        .line("Revision", format!("{}{current}", view.revision))
        .line("Node", format!("{} ({})", view.node, view.address))
        .line("Ports", ports.join(", "))
        .line("Placed", format!("{} ago", age::since(view.placed_at, now)));
}

fn runs(sheet: &mut Sheet<'_>, status: &Status, now: Timestamp) {
    let run = match status.started_at {
        Some(at) => format!("{}, started {} ago", status.run, age::since(at, now)),
        None => status.run.to_string(),
    };
    let verdict = match status.healthy {
        Some(true) => "healthy",
        Some(false) => "unhealthy",
        None => "health not known",
    };
    let ready = if status.ready { "ready" } else { "not ready" };
    sheet.line("Run", run).line("Condition", format!("{verdict}, {ready}"));
    sheet.toned("Because", Tone::Warn, status.explanation().unwrap_or_default());
    if let Some(exit) = &status.last_exit {
        let text = format!("{}, {} ago", exit, age::since(exit.at, now));
        sheet.toned("Last exit", Tone::Bad, text);
    }
    if status.failures > 0 {
        sheet.toned("Failures", Tone::Bad, format!("{} in a row", status.failures));
    }
}

/// One line for each resource of a stack, and below it the explanation of its state.
fn resources(resources: &[ResourceStatus], now: Timestamp) -> String {
    let mut text = String::new();
    for resource in resources {
        let condition = match (resource.phase, resource.healthy, resource.ready) {
            (Phase::Running, Some(false), _) => ", unhealthy",
            (Phase::Running, _, false) => ", not ready",
            (Phase::Running, Some(true), true) => ", healthy, ready",
            (Phase::Running, None, true) => ", ready",
            _ => "",
        };
        let word = resource.phase.word();
        text.push_str(&format!("{}: {word}{condition}, run {}\n", resource.name, resource.run));
        if let Some(message) = resource.explanation() {
            text.push_str(&format!("   {message}\n"));
        }
        if let Some(exit) = &resource.last_exit {
            let ago = age::since(exit.at, now);
            text.push_str(&format!("   last exit: {}, {ago} ago\n", exit));
        }
        for line in checks(&resource.checks, now).lines() {
            text.push_str(&format!("   health check {line}\n"));
        }
    }
    text
}

fn checks(checks: &[CheckResult], now: Timestamp) -> String {
    let mut text = String::new();
    for (index, check) in checks.iter().enumerate() {
        let ago = |at: Option<Timestamp>| match at {
            Some(at) => format!("{} ago", age::since(at, now)),
            None => "never".into(),
        };
        text.push_str(&format!(
            "{index}: last passed {}, {} consecutive failures\n",
            ago(check.last_success),
            check.consecutive_failures
        ));
        if let Some(cause) = &check.last_failure_cause {
            text.push_str(&format!("   last failed {}: {cause}\n", ago(check.last_failure)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use model::{Ending, Exit};

    use super::*;

    #[test]
    fn each_resource_is_shown_with_the_explanation_of_its_state() {
        let of = |name: &str, phase| ResourceStatus::new(name.parse().unwrap(), phase);
        let exit = Exit { at: Timestamp(1_000), how: Ending::Code { code: 2 } };
        let check = CheckResult { consecutive_failures: 1, ..CheckResult::default() };
        let all = [
            ResourceStatus { run: 1, ..of("migrate", Phase::Completed) },
            ResourceStatus {
                run: 2,
                ready: true,
                healthy: Some(true),
                last_exit: Some(exit),
                checks: vec![check],
                ..of("web", Phase::Running)
            },
            ResourceStatus {
                run: 1,
                message: Some("cannot pull the image".into()),
                ..of("log", Phase::Starting)
            },
        ];
        let expected = [
            "migrate: completed, run 1",
            "web: running, healthy, ready, run 2",
            "   last exit: exit code 2, 4s ago",
            "   health check 0: last passed never, 1 consecutive failures",
            "log: starting, run 1",
            "   cannot pull the image",
        ];
        let text = resources(&all, Timestamp(5_000));
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}
