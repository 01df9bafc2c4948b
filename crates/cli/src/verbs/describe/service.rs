//! A service in full.

use api::{InstanceView, ServiceView, WaitView};
use model::{OnFailure, Probe, ResourceRef, Revision, ServiceId, Spec, Timestamp, Wait};

use super::{Session, events, waits};
use crate::exit::Exit;
use crate::output::rows::service_state;
use crate::output::screen::Screen;
use crate::output::sheet::Sheet;
use crate::output::tone::Tone;
use crate::output::{Failure, age};
use crate::verbs::get;

pub(super) async fn show(session: &Session, id: &ServiceId) -> Result<Exit, Failure> {
    let view = get::service(&session.client, id).await?;
    if session.screen.is_for_programs() {
        session.screen.document(&view)?;
        return Ok(Exit::Ok);
    }
    let instances = get::instances_of(&session.client, id).await?;
    let mut sheet = Sheet::new(&session.screen, 12);
    head(&mut sheet, &session.screen, &view, age::now());
    sheet
        .section("Why it differs from the desired state", &why(&session.screen, &view, &instances));
    let mut wanted = Sheet::new(&session.screen, 11);
    spec(&mut wanted, &view.spec);
    sheet.section("Desired state of each instance", wanted.finish());
    if !instances.is_empty() {
        sheet.section("Instances", &session.screen.table(&instances));
    }
    let revisions: Vec<Revision> = view.revisions.iter().map(|r| r.as_ref().clone()).collect();
    sheet.section("Revisions", &session.screen.table(&revisions));
    let events = events(&session.client, id).await?;
    if !events.is_empty() {
        sheet.section("Events", &session.screen.table(&events));
    }
    session.screen.line(sheet.finish())?;
    Ok(Exit::Ok)
}

fn head(sheet: &mut Sheet<'_>, screen: &Screen, view: &ServiceView, now: Timestamp) {
    let (word, tone) = service_state(view.state);
    let mut state = format!("{word}, {} of {} ready", view.ready, view.instances);
    if view.frozen {
        state.push_str(", frozen");
    }
    if !view.frozen_resources.is_empty() {
        let names: Vec<_> = view.frozen_resources.iter().map(ToString::to_string).collect();
        state.push_str(&format!(", frozen: {}", names.join(", ")));
    }
    if view.outgoing > 0 {
        state.push_str(&format!(", {} old ones terminating", view.outgoing));
    }
    sheet.line("Service", &view.service).toned("State", tone, state).line("Runs", &view.runs);
    let applied = age::since(view.applied_at, now);
    sheet.line("Revision", format!("{}, applied {applied} ago", view.revision));
    if let Some(id) = view.deployment {
        let text = format!("{id} (follow it with: muster rollout status {id})");
        sheet.line("Deployment", text);
    }
    if let Some(failed) = &view.failed {
        let text = format!(
            "revision {} failed {} ago: {}",
            failed.revision,
            age::since(failed.at, now),
            failed.reason
        );
        let rest = "it stays at the revision before until another one is applied";
        sheet.toned("Blocked", Tone::Bad, text).line("", screen.paint(Tone::Dim, rest));
    }
}

/// The reasons for waiting, and each instance with a problem.
fn why(screen: &Screen, view: &ServiceView, instances: &[InstanceView]) -> String {
    let mut text = waits(screen, &view.waits);
    for instance in instances {
        if instance.goal != model::Goal::Run {
            continue;
        }
        if let Some(reason) = &instance.not_serving {
            let line = format!("{} on {}: {reason}", instance.instance, instance.node);
            let is_shown = |wait: &WaitView| match &wait.wait {
                Wait::Ready { next: Some(next), .. } => next.instance == instance.instance,
                _ => false,
            };
            if !view.waits.iter().any(is_shown) {
                text.push_str(&format!("{line}\n"));
            }
            let exit = instance.status.as_ref().and_then(|status| status.last_exit.as_ref());
            if let Some(exit) = exit {
                let line = format!("  it ended before: {}", exit);
                text.push_str(&format!("{line}; see: muster logs {}\n", instance.instance));
            }
        }
    }
    text
}

fn spec(sheet: &mut Sheet<'_>, spec: &Spec) {
    let join = |parts: Vec<String>| parts.join(", ");
    let total = spec.total_resources();
    let resources = format!("{} cores, {} memory", total.cpu, total.memory);
    let stack = spec.stack.iter().map(|resource| {
        let marks = [
            (resource.disabled, "disabled"),
            (resource.optional, "optional"),
            (resource.monitor, "monitor"),
        ];
        let marks = marks.iter().filter(|(is_set, _)| *is_set).map(|(_, mark)| *mark);
        let tags = resource.tags.iter().map(String::as_str);
        let marks: Vec<_> = marks.chain(tags).collect();
        match marks.is_empty() {
            true => resource.name.to_string(),
            false => format!("{} ({})", resource.name, marks.join(", ")),
        }
    });
    let ports = spec.all_ports().enumerate().map(|(index, port)| {
        let name = port.name.clone().unwrap_or_else(|| index.to_string());
        match port.port {
            0 => name,
            fixed => format!("{name}={fixed}"),
        }
    });
    let prefix = |resource: &ResourceRef<'_>| match resource.name.is_main() {
        true => String::new(),
        false => format!("{} ", resource.name),
    };
    let files = spec.resources().flat_map(|resource| {
        let of = prefix(&resource);
        resource.files.iter().map(move |file| format!("{of}{}", file.path))
    });
    let checks = spec.resources().flat_map(|resource| {
        let of = prefix(&resource);
        let health = resource.health.iter().map(|check| {
            let probe = probe(&check.probe);
            format!("{of}health: {probe} every {}, {} failures", check.interval, check.failures)
        });
        let readiness = resource.readiness.map(|check| {
            format!("{of}readiness: {} every {}", probe(&check.probe), check.interval)
        });
        health.chain(readiness).collect::<Vec<_>>()
    });
    let rollout = &spec.rollout;
    let failed = match rollout.on_failure {
        OnFailure::Rollback => "rolls back",
        OnFailure::Hold => "is held",
    };
    let rollout = format!(
        "at least {} healthy, at most {} over; {failed} after {} without progress",
        rollout.min_healthy, rollout.max_surge, rollout.deadline
    );
    sheet
        .line("Stack", join(stack.collect()))
        .line("Resources", resources)
        .line("Ports", join(ports.collect()))
        .line("Files", join(files.collect()))
        .line("Checks", join(checks.collect()))
        .line("Rollout", rollout)
        .line("Depends on", join(spec.depends_on.iter().map(ToString::to_string).collect()))
        .line("Requires", join(spec.requires.iter().cloned().collect()))
        .line("Constraints", join(spec.constraints.iter().map(ToString::to_string).collect()))
        .line("Labels", join(spec.labels.iter().map(|(k, v)| format!("{k}={v}")).collect()));
}

fn probe(probe: &Probe) -> String {
    match probe {
        Probe::Http(http) => format!("GET {} at port {}", http.path.text(), http.port),
        Probe::Tcp(tcp) => format!("connects to port {}", tcp.port),
        Probe::Command(command) => format!("`{}`", command.words().join(" ")),
    }
}
