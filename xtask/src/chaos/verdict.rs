//! The final checks after all faults are undone: every service is as specified, nothing else runs, no write was lost.

use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail};
use serde_json::Value;

use super::{
    cluster::{self, AGENTS, send_request, wait_for},
    engine::Engine,
    load::Seen,
    process,
    run::Run,
    user::{self, Lost},
};
use crate::shell::Top;

/// Timeout for each final condition.
const SETTLE_MAX: Duration = Duration::from_secs(90);
/// The signal of the faults that kill.
const SIGKILL: u64 = 9;
/// Maximum number of printed violations of a kind.
const SHOWN_MAX: usize = 10;

/// Waits for the final conditions. A condition that does not hold in time is a violation.
pub(super) fn settle(top: &Top, run: &mut Run) -> Result<()> {
    let mut wait = |what: &str, condition: &dyn Fn() -> Result<bool>| {
        let waited = wait_for(SETTLE_MAX, what, || {
            run.tick(true)?;
            condition()
        });
        if let Err(error) = waited {
            run.scene.violated(error);
        }
    };
    wait("all nodes to be ready", &cluster::all_nodes_ready);
    wait("all services to be as specified", &services_are_as_specified);
    wait("nothing else to run", &|| nothing_else_runs(top));
    if let Err(error) = user::check_all(&run.scene.users) {
        run.scene.violated(error);
    }
    Ok(())
}

fn list(path: &str) -> Result<Vec<Value>> {
    send_request("GET", path, "")?
        .as_array()
        .cloned()
        .with_context(|| format!("{path} gives a list"))
}

fn services_are_as_specified() -> Result<bool> {
    let services = list("/v1/services")?;
    for service in &services {
        let right = service["state"] == "running"
            && service["ready"] == service["instances"]
            && service["running"] == service["instances"]
            && service["outgoing"] == 0;
        if !right {
            let shown = ["service", "state", "instances", "running", "ready", "outgoing", "waits"];
            let shown: Vec<_> =
                shown.iter().map(|key| format!("{key}: {}", service[key])).collect();
            bail!("{}", shown.join(", "));
        }
    }
    Ok(!services.is_empty())
}

/// Whether exactly the listed instances run.
fn nothing_else_runs(top: &Top) -> Result<bool> {
    let services = list("/v1/services")?;
    let wanted = |is: &dyn Fn(&str) -> bool| -> u64 {
        let of = |service: &Value| is(service["service"].as_str().unwrap_or_default());
        services.iter().filter(|s| of(s)).filter_map(|service| service["instances"].as_u64()).sum()
    };
    let listed = list("/v1/instances")?.len() as u64;
    let processes = process::instances();
    let all = wanted(&|_| true);
    if listed != all || processes.len() as u64 != all {
        bail!("{all} instances are wanted, {listed} listed, these run: {processes:#?}");
    }
    for agent in AGENTS {
        let keepers = process::keepers();
        let of = keepers.iter().filter(|keeper| keeper.is_of(&cluster::data(agent))).count();
        if of > 1 {
            bail!("{of} keepers of {agent}: {keepers:#?}");
        }
    }
    let boxes = wanted(&|service| service == "/chaos/box") as usize;
    if boxes > 0 {
        let (running, there) = Engine::containers(top)?;
        if (running, there) != (boxes, boxes) {
            bail!("{boxes} containers are wanted, {there} there, of which {running} run");
        }
    }
    Ok(true)
}

/// The instances that exited or moved without a request and without an injected fault that explains it.
fn unexplained(run: &Run) -> Result<Vec<String>> {
    let injected = |kind: &dyn Fn(&&str) -> bool| -> usize {
        run.injected.iter().filter(|(name, _)| kind(name)).map(|(_, count)| count).sum()
    };
    let silences = injected(&|name| {
        ["kill-agent", "stop-agent", "full-agent", "cable", "deaf", "mute", "clock-agent"]
            .contains(name)
    });
    let pauses =
        injected(&|name| ["stop-instance", "cable"].contains(name) || name.contains("engine"));
    let kills = injected(&|name| *name == "kill-instance" || name.contains("engine"));
    let mut found = Vec::new();
    for event in cluster::events()? {
        let explained = match event["kind"].as_str() {
            Some("lost") => silences > 0,
            Some("exited") if is_killed(&event["exit"]["ending"]) => kills > 0,
            Some("draining" | "stopping") if event["why"] == "unhealthy" => pauses > 0,
            _ => true,
        };
        if !explained {
            found.push(format!("{}: {} {}", event["subject"], event["kind"], event["message"]));
        }
    }
    Ok(found)
}

/// Whether a process was terminated by SIGKILL, and not by its driver.
fn is_killed(ending: &Value) -> bool {
    ending["how"] == "signal" && ending["signal"] == SIGKILL
}

/// Prints a summary, and returns the violations.
pub(super) fn report(run: &Run, seen: &Seen, seed: u64) -> Result<Vec<Error>> {
    let mut violations = run.scene.take_violations();
    let unexplained = unexplained(run)?;
    let (excused, failed): (Vec<_>, Vec<_>) =
        seen.failures.iter().partition(|failure| seen.excuses(failure));
    for failure in failed.iter().take(SHOWN_MAX) {
        let (from, to) =
            (run.scene.history.time_of(failure.from), run.scene.history.time_of(failure.to));
        violations.push(anyhow!(
            "a request to {} failed from {:.3} to {:.3}: {}",
            cluster::GATEWAYS[failure.gateway],
            from.as_secs_f64(),
            to.as_secs_f64(),
            failure.why
        ));
    }
    violations
        .extend(unexplained.iter().take(SHOWN_MAX).map(|how| anyhow!("without a reason: {how}")));
    println!("\n{:<16} {:>8}", "fault", "injected");
    for (fault, count) in &run.injected {
        println!("{fault:<16} {count:>8}");
    }
    println!("{:<16} {:>8}\n", "all", run.injected.values().sum::<usize>());
    let (writes, unanswered): (Vec<_>, Vec<_>) = run.scene.users.iter().map(|u| u.writes()).unzip();
    let lost = violations.iter().filter(|violation| violation.is::<Lost>()).count();
    let rows = [
        ("requests", seen.requests.to_string()),
        ("  failed", failed.len().to_string()),
        ("  excused", excused.len().to_string()),
        ("  longest", format!("{:.1} s", seen.latency_max.as_secs_f64())),
        ("writes", writes.iter().sum::<usize>().to_string()),
        ("  lost", lost.to_string()),
        ("  unanswered", unanswered.iter().sum::<u64>().to_string()),
        ("restarts", unexplained.len().to_string()),
        ("seed", format!("{seed:#x}")),
    ];
    for (what, figure) in rows {
        println!("{what:<16} {figure:>8}");
    }
    Ok(violations)
}
