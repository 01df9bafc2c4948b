//! From an app to a service.

use std::collections::BTreeSet;

use model::{
    Bytes, CommandLine, Container, Cpu, Lost, Network, Problem, Process, Pull, Resources, Restart,
    Rollout, ServiceId, Share, Spec, Stop, Surplus, Volume,
};

use super::app::{
    self, App, ContainerKind, Disabled, KillSelection, UnreachableStrategy, VolumeMode,
};
use super::{checks, environment, ports};

/// Translates an app, or says everything that is wrong with it, under Marathon's keys.
pub(super) fn translate(app: &App) -> Result<Spec, Vec<Problem>> {
    let mut problems = Vec::new();
    let network = ports::network(app, &mut problems);
    let ports = ports::ports(app, network, &mut problems);
    let health = checks::health(app, &ports, &mut problems);
    let readiness = checks::readiness(app, &ports, &mut problems);
    let rollout = rollout(app, &mut problems);
    let resources = resources(app, &mut problems);
    let (container, process) = workload(app, network, &mut problems);
    single_instance(app, &mut problems);
    let service = match app.id.parse::<ServiceId>() {
        Ok(service) => service,
        Err(error) => {
            problems.insert(0, Problem::new("id", error.to_string()));
            return Err(problems);
        }
    };
    let depends_on = dependencies(app, &service, &mut problems);
    let lost = lost(app, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Spec {
        env: environment::environment(app, &service),
        service,
        instances: app.instances,
        container,
        process,
        resources,
        ports,
        health,
        readiness,
        rollout,
        restart: restart(app),
        stop: Stop { grace: app.task_kill_grace_period_seconds.0, ..Stop::default() },
        constraints: app.constraints.clone(),
        requires: BTreeSet::new(),
        roles: app.accepted_resource_roles.clone(),
        lost,
        surplus: match app.kill_selection {
            KillSelection::YoungestFirst => Surplus::Youngest,
            KillSelection::OldestFirst => Surplus::Oldest,
        },
        depends_on,
        labels: app.labels.clone(),
    })
}

/// What is run: a container if there is an image, else a process.
fn workload(
    app: &App,
    network: Network,
    problems: &mut Vec<Problem>,
) -> (Option<Container>, Option<Process>) {
    let docker = app.container.as_ref().and_then(|container| container.docker.as_ref());
    let is_docker = app.container.as_ref().is_some_and(|c| c.kind == ContainerKind::Docker);
    if is_docker && docker.is_none() {
        problems.push(Problem::new("container", "the key `docker` is missing"));
    }
    let args = app.args.as_ref().filter(|args| !args.is_empty());
    if app.cmd.is_some() == args.is_some() && (app.cmd.is_some() || docker.is_none()) {
        let key = if app.cmd.is_some() { "args" } else { "id" };
        let message = "AppDefinition must either contain one of 'cmd' or 'args', and/or a \
                       'container'.";
        problems.push(Problem::new(key, message));
    }
    let volumes = volumes(app, problems);
    let Some(docker) = docker else {
        if !volumes.is_empty() {
            let message = "volumes are not supported yet for an app without an image";
            problems.push(Problem::new("container.volumes", message));
        }
        let command = match (&app.cmd, args) {
            (None, Some(args)) => CommandLine::Words(args.clone()),
            (cmd, _) => CommandLine::Shell(cmd.clone().unwrap_or_default()),
        };
        return (None, Some(Process { command, workdir: None, user: app.user.clone() }));
    };
    // As Mesos does it: a shell command replaces the image's entrypoint, words are given to it.
    let (entrypoint, command) = match (&app.cmd, args) {
        (Some(cmd), _) => {
            let words = vec!["-c".to_string(), cmd.clone()];
            (Some(vec!["/bin/sh".to_string()]), Some(CommandLine::Words(words)))
        }
        (None, Some(args)) => (None, Some(CommandLine::Words(args.clone()))),
        (None, None) => (None, None),
    };
    let container = Container {
        image: docker.image.clone(),
        command,
        entrypoint,
        pull: if docker.force_pull_image { Pull::Always } else { Pull::Missing },
        network,
        volumes,
        user: app.user.clone(),
        privileged: docker.privileged,
    };
    (Some(container), None)
}

fn volumes(app: &App, problems: &mut Vec<Problem>) -> Vec<Volume> {
    let volumes = app.container.iter().flat_map(|container| &container.volumes).enumerate();
    let translated = volumes.filter_map(|(index, volume)| {
        let app::Volume { container_path, host_path, mode } = volume;
        let Some(source) = host_path.clone() else {
            let key = format!("container.volumes.{index}");
            problems.push(Problem::new(key, "the key `hostPath` is missing"));
            return None;
        };
        let read_only = *mode == VolumeMode::Ro;
        Some(Volume { source, target: container_path.clone(), read_only })
    });
    translated.collect()
}

fn resources(app: &App, problems: &mut Vec<Problem>) -> Resources {
    let mut exactly = |key: &str, value: f64, factor: f64, max: f64| {
        let scaled = (value * factor).round();
        if !(0.0..=max).contains(&scaled) || (value > 0.0 && scaled == 0.0) {
            problems.push(Problem::new(key, format!("{value} is out of range")));
        }
        scaled
    };
    let cpu = exactly("cpus", app.cpus, 1000.0, f64::from(u32::MAX));
    let memory = exactly("mem", app.mem, f64::from(1 << 20), (1u64 << 53) as f64);
    Resources { cpu: Cpu(cpu as u32), memory: Bytes(memory as u64) }
}

fn rollout(app: &App, problems: &mut Vec<Problem>) -> Rollout {
    let Some(strategy) = &app.upgrade_strategy else { return Rollout::default() };
    let mut share = |key: &str, value: f64| {
        if !(0.0..=1.0).contains(&value) {
            let message = format!("{value} is not a share between 0 and 1");
            problems.push(Problem::new(format!("upgradeStrategy.{key}"), message));
        }
        Share::Millionths((value * 1e6).round() as u32)
    };
    Rollout {
        min_healthy: share("minimumHealthCapacity", strategy.minimum_health_capacity),
        max_over: share("maximumOverCapacity", strategy.maximum_over_capacity),
        ..Rollout::default()
    }
}

/// The first restart is immediate, unless the app asks for a wait.
fn restart(app: &App) -> Restart {
    let default = Restart::default();
    Restart {
        first: app.backoff_seconds.map_or(default.first, |seconds| seconds.0),
        backoff: app.backoff_seconds.map_or(default.backoff, |seconds| seconds.0),
        factor: app.backoff_factor,
        max: app.max_launch_delay_seconds.0,
        ..default
    }
}

/// What becomes of instances that are out of sight: replaced after the first of the two times. After
/// the second one Marathon forgets them, which Muster does once they are replaced.
fn lost(app: &App, problems: &mut Vec<Problem>) -> Lost {
    match &app.unreachable_strategy {
        UnreachableStrategy::Never(Disabled::Disabled) => {
            Lost { replace: false, ..Lost::default() }
        }
        UnreachableStrategy::After(times) => {
            let (after, expunge) = (times.inactive_after_seconds.0, times.expunge_after_seconds.0);
            if after > expunge {
                let message = "inactiveAfterSeconds must be at most expungeAfterSeconds";
                problems.push(Problem::new("unreachableStrategy", message));
            }
            Lost { after, ..Lost::default() }
        }
    }
}

/// A path as it is seen from `base`: `../db` is beside it.
pub(super) fn resolve(base: &str, path: &str) -> String {
    let mut resolved: Vec<&str> = match path.starts_with('/') {
        true => Vec::new(),
        false => base.split('/').filter(|segment| !segment.is_empty()).collect(),
    };
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(resolved.pop()),
            segment => resolved.push(segment),
        }
    }
    format!("/{}", resolved.join("/"))
}

/// Relative paths start at the app itself: `../db` is its sibling.
fn dependencies(
    app: &App,
    service: &ServiceId,
    problems: &mut Vec<Problem>,
) -> BTreeSet<ServiceId> {
    let mut found = BTreeSet::new();
    for (index, dependency) in app.dependencies.iter().enumerate() {
        match resolve(service.as_str(), dependency).parse::<ServiceId>() {
            Ok(service) => {
                found.insert(service);
            }
            Err(error) => {
                problems.push(Problem::new(format!("dependencies.{index}"), error.to_string()));
            }
        }
    }
    found
}

/// An app that must never run twice says so by a label; then nothing else may contradict it.
fn single_instance(app: &App, problems: &mut Vec<Problem>) {
    let label = app.labels.get("MARATHON_SINGLE_INSTANCE_APP");
    if !label.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return;
    }
    if app.instances > 1 {
        let message = "an app labelled MARATHON_SINGLE_INSTANCE_APP has at most one instance";
        problems.push(Problem::new("instances", message));
    }
    let keeps_none = app.upgrade_strategy.as_ref().is_some_and(|strategy| {
        strategy.minimum_health_capacity == 0.0 && strategy.maximum_over_capacity == 0.0
    });
    if !keeps_none {
        let message = "an app of a single instance needs an upgradeStrategy with \
                       minimumHealthCapacity 0 and maximumOverCapacity 0";
        problems.push(Problem::new("labels.MARATHON_SINGLE_INSTANCE_APP", message));
    }
}
