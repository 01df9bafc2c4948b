//! The translation of a valid app into a service, which cannot fail.

use std::collections::BTreeSet;

use model::{
    Bytes, CommandLine, Container, Cpu, FileSpec, Lost, Millis, Network, Port, Process, Pull,
    Resources, Restart, Rollout, ScaleDown, Share, Spec, Stop, Unhealthy, Volume,
};

use super::app::{App, REPLACE_FIRST, UnreachableStrategy};
use super::container::{Docker, PortDefinition, PortMapping};
use super::names::{Access, KillSelection, Protocol};
use super::number::{Number, Seconds};
use super::{environment, fetch, probes};

/// Default time that Mesos agents wait between stop request and kill.
const KILL_GRACE: Millis = Millis::secs(3);

/// Translates an app into a service. Strings of the app are literal: Marathon has no references.
pub(super) fn translate(app: &App) -> Spec {
    let (container, process) = workload(app);
    let grace = app.task_kill_grace_period_seconds.map_or(KILL_GRACE, |Seconds(grace)| grace);
    let lost = match &app.unreachable_strategy {
        UnreachableStrategy::Disabled => Lost { replace: false, ..Lost::default() },
        // `expungeAfterSeconds` has no equivalent: Muster removes an instance once it is replaced.
        UnreachableStrategy::After(times) => {
            Lost { after: times.inactive_after_seconds.0, ..Lost::default() }
        }
    };
    Spec {
        service: app.id.clone(),
        run: None,
        frozen: None,
        instances: app.instances,
        container,
        stack: Vec::new(),
        process,
        resources: resources(app),
        ports: ports(app),
        env: environment::environment(app),
        files: files(app),
        health: probes::health(app),
        readiness: probes::readiness(app),
        rollout: rollout(app),
        restart: restart(app),
        stop: Stop { grace, ..Stop::default() },
        constraints: app.constraints.clone(),
        requires: BTreeSet::new(),
        roles: app.accepted_resource_roles.clone().unwrap_or_default(),
        lost,
        scale_down: match app.kill_selection {
            KillSelection::Youngest => ScaleDown::Youngest,
            KillSelection::Oldest => ScaleDown::Oldest,
        },
        depends_on: app.dependencies.iter().cloned().collect(),
        labels: app.labels.clone(),
    }
}

/// The workload of an app: a container if the app has an image, otherwise a process.
fn workload(app: &App) -> (Option<Container>, Option<Process>) {
    let Some(docker) = app.container.as_ref().and_then(|container| container.docker.as_ref())
    else {
        let command = match (&app.cmd, &app.args) {
            (None, Some(args)) => words(args),
            (cmd, _) => CommandLine::Shell(cmd.as_deref().unwrap_or_default().into()),
        };
        return (None, Some(Process { command, workdir: None, user: app.user.clone() }));
    };
    (Some(container(app, docker)), None)
}

fn words(args: &[String]) -> CommandLine {
    CommandLine::Words(args.iter().map(|word| word.as_str().into()).collect())
}

/// As in Mesos, `cmd` replaces the entrypoint of the image, and `args` are appended to it.
fn container(app: &App, docker: &Docker) -> Container {
    let (entrypoint, command) = match (&app.cmd, &app.args) {
        (Some(cmd), _) => {
            let words = vec!["-c".into(), cmd.as_str().into()];
            (Some(vec!["/bin/sh".into()]), Some(CommandLine::Words(words)))
        }
        (None, args) => (None, args.as_deref().map(words)),
    };
    let volumes = app.container.iter().flat_map(|container| &container.volumes);
    let volumes = volumes.map(|volume| Volume {
        source: volume.host_path.as_str().into(),
        target: volume.container_path.clone(),
        read_only: volume.mode == Access::ReadOnly,
    });
    Container {
        image: docker.image.clone(),
        command,
        entrypoint,
        pull: if docker.force_pull_image { Pull::Always } else { Pull::Missing },
        network: if app.is_on_host() { Network::Host } else { Network::Bridge },
        volumes: volumes.collect(),
        user: app.user.clone(),
        privileged: docker.privileged,
    }
}

fn files(app: &App) -> Vec<FileSpec> {
    let has_image = app.container.as_ref().is_some_and(|container| container.docker.is_some());
    let sandbox = has_image.then_some(fetch::SANDBOX);
    app.fetch.iter().map(|artifact| artifact.file(sandbox)).collect()
}

fn resources(app: &App) -> Resources {
    let (Number(cpus), Number(mem)) = (app.cpus, app.mem);
    Resources {
        cpu: Cpu((cpus * 1000.0).round() as u32),
        memory: Bytes((mem * f64::from(1 << 20)).round() as u64),
    }
}

fn ports(app: &App) -> Vec<Port> {
    if !app.is_on_host() {
        let mappings = app.container.iter().flat_map(|container| container.mappings());
        let port = |mapping: &PortMapping| Port {
            name: mapping.name.clone(),
            port: mapping.host_port.unwrap_or(0),
            container: mapping.container_port,
            protocol: protocol(mapping.protocol),
        };
        return mappings.map(port).collect();
    }
    let port = |definition: &PortDefinition| Port {
        name: definition.name.clone(),
        // Without `requirePorts`, the number is only the service port for load balancers.
        port: if app.require_ports { definition.port } else { 0 },
        container: 0,
        protocol: protocol(definition.protocol),
    };
    app.port_definitions.iter().flatten().map(port).collect()
}

fn protocol(protocol: Protocol) -> model::Protocol {
    match protocol {
        Protocol::Tcp | Protocol::Both => model::Protocol::Tcp,
        Protocol::Udp => model::Protocol::Udp,
    }
}

fn rollout(app: &App) -> Rollout {
    let share = |Number(share)| Share::Millionths((share * 1e6).round() as u32);
    let upgrade = app.upgrade_strategy.clone().unwrap_or_default();
    Rollout {
        min_healthy: share(upgrade.minimum_health_capacity),
        max_surge: share(upgrade.maximum_over_capacity),
        unhealthy: match app.is_labelled(REPLACE_FIRST) {
            true => Unhealthy::ReplaceFirst,
            false => Unhealthy::KillFirst,
        },
        ..Rollout::default()
    }
}

/// Marathon's default backoff of one second does not express a preference. With it, the first
/// restart is immediate, as is Muster's default.
fn restart(app: &App) -> Restart {
    let default = Restart::default();
    let (wait, factor) = (app.backoff_seconds.0, app.backoff_factor.0);
    let is_default = app.backoff_seconds == App::default_backoff_seconds();
    let second = Millis((wait.0 as f64 * factor) as u64);
    let (first, backoff) = if is_default { (default.first, wait) } else { (wait, second) };
    let max = app.max_launch_delay_seconds.0;
    Restart { first: first.min(max), backoff, factor, max, ..default }
}
