//! The conversion of a native service into an app, for clients of Marathon.
//!
//! Settings that an app cannot express are omitted, or replaced by the closest ones that it can.
//! A string with references is shown as documents write it. The app is valid for every service: names that Marathon would reject are changed, and times are
//! rounded up to whole seconds, since clients cannot parse fractions.

use std::collections::BTreeSet;

use model::{
    CommandLine, Container, Lost, Millis, Network, Port, PortRef, Probe, Protocol, Pull, ScaleDown,
    Share, Spec,
};

use super::app::{App, SINGLE, Unreachable, UnreachableStrategy, UpgradeStrategy};
use super::check::{Command, HealthCheck, ReadinessCheck};
use super::container::{Docker, PortDefinition, PortMapping, Volume};
use super::names::{self, Access, Check, Engine, KillSelection, Mode};
use super::number::{Number, Seconds};
use super::{container, environment, normal, valid};

impl App {
    /// Returns the app that is the closest description of a service.
    pub fn of(spec: &Spec) -> App {
        let mut app = describe(spec);
        let definitions = app.port_definitions.iter_mut().flatten().enumerate();
        for (index, definition) in definitions.filter(|(_, definition)| definition.port == 0) {
            definition.port = environment::service_port(&spec.env, index).unwrap_or(0);
        }
        // Variables that Marathon adds to every app are not part of its definition.
        let given = environment::environment(&App { env: Default::default(), ..app.clone() });
        app.env.retain(|name, value| given.get(name).is_none_or(|given| given.text() != *value));
        if app.is_single() && (app.instances > 1 || !is_replaced_as_one(&app)) {
            // The label has no effect on a native service, and would contradict the rest of the
            // app.
            app.labels.remove(SINGLE);
        }
        normal::normalise(&mut app);
        app
    }
}

fn is_replaced_as_one(app: &App) -> bool {
    app.upgrade_strategy.as_ref().is_none_or(|strategy| *strategy == UpgradeStrategy::NONE)
}

fn describe(spec: &Spec) -> App {
    let (cmd, args) = command(spec);
    let on_bridge = spec.container.as_ref().is_some_and(|c| c.network == Network::Bridge);
    let names = port_names(spec);
    let ports = || spec.ports.iter().zip(&names);
    let user = match (&spec.container, &spec.process) {
        (Some(container), _) => &container.user,
        (None, Some(process)) => &process.user,
        (None, None) => &None,
    };
    App {
        id: spec.service.clone(),
        cmd,
        args,
        container: spec.container.as_ref().map(|container| {
            let mappings = on_bridge.then(|| ports().map(mapping).collect());
            self::container(container, mappings)
        }),
        health_checks: spec.health.iter().map(|check| health(check, spec)).collect(),
        instances: spec.instances,
        cpus: Number(f64::from(spec.resources.cpu.0) / 1000.0),
        mem: Number(spec.resources.memory.0 as f64 / f64::from(1 << 20)),
        disk: Number(disk(spec)),
        gpus: 0,
        executor: String::new(),
        user: user.clone(),
        role: App::default_role(),
        accepted_resource_roles: Some(spec.roles.clone()).filter(|roles| !roles.is_empty()),
        env: spec.env.iter().map(|(name, value)| (name.clone(), value.text().into())).collect(),
        labels: spec.labels.clone(),
        constraints: spec.constraints.clone(),
        dependencies: spec.depends_on.iter().cloned().collect(),
        networks: vec![if on_bridge { Mode::Bridge } else { Mode::Host }.into()],
        port_definitions: (!on_bridge).then(|| ports().map(definition).collect()),
        ports: None,
        require_ports: !on_bridge && spec.ports.iter().any(|port| port.port != 0),
        fetch: Vec::new(),
        uris: None,
        readiness_checks: spec
            .readiness
            .iter()
            .filter_map(|c| readiness(c, spec, &names))
            .collect(),
        upgrade_strategy: Some(upgrade(spec)),
        backoff_seconds: Seconds::at_least(spec.restart.backoff),
        backoff_factor: Number(spec.restart.factor),
        max_launch_delay_seconds: Seconds::at_least(spec.restart.max),
        task_kill_grace_period_seconds: Some(Seconds::at_least(spec.stop.grace)),
        kill_selection: match spec.scale_down {
            ScaleDown::Youngest => KillSelection::Youngest,
            ScaleDown::Oldest => KillSelection::Oldest,
        },
        unreachable_strategy: match &spec.lost {
            Lost { replace: false, .. } => UnreachableStrategy::Disabled,
            Lost { after, .. } => {
                let after = Seconds::at_least(*after);
                UnreachableStrategy::After(Unreachable {
                    inactive_after_seconds: after,
                    expunge_after_seconds: after,
                })
            }
        },
    }
}

/// The requested disk in MiB, which is stored only as a variable of the tasks; 0 by default.
fn disk(spec: &Spec) -> f64 {
    let declared = spec.env.get(environment::DISK).and_then(|disk| disk.text().parse().ok());
    declared.filter(|disk| (0.0..1e15).contains(disk)).unwrap_or(0.0)
}

/// The command, as `cmd` for the shell or as `args`.
fn command(spec: &Spec) -> (Option<String>, Option<Vec<String>>) {
    let command = match (&spec.container, &spec.process) {
        (Some(container), _) => return container_command(container),
        (None, process) => process.as_ref().map(|process| &process.command),
    };
    match command {
        // Marathon treats a `cmd` of a single character as absent.
        Some(CommandLine::Shell(line)) if line.text().len() > 1 => (Some(line.text().into()), None),
        Some(command) => (None, Some(command.words())),
        None => (None, None),
    }
}

/// `cmd` replaces the entrypoint of the image; `args` are appended to the entrypoint.
fn container_command(container: &Container) -> (Option<String>, Option<Vec<String>>) {
    let command = container.command.as_ref();
    let words = command.map(CommandLine::words).unwrap_or_default();
    let Some(entrypoint) = &container.entrypoint else {
        return (None, Some(words));
    };
    let entrypoint: Vec<String> = entrypoint.iter().map(|word| word.text().into()).collect();
    match (entrypoint.as_slice(), words.as_slice()) {
        ([shell], [c, line]) if shell == "/bin/sh" && c == "-c" && line.len() > 1 => {
            (Some(line.clone()), None)
        }
        _ => (None, Some([entrypoint, words].concat())),
    }
}

fn container(of: &Container, port_mappings: Option<Vec<PortMapping>>) -> container::Container {
    let volume = |volume: &model::Volume| Volume {
        container_path: volume.target.clone(),
        host_path: volume.source.text().into(),
        mode: if volume.read_only { Access::ReadOnly } else { Access::ReadWrite },
    };
    container::Container {
        engine: Engine::Docker,
        docker: Some(Docker {
            image: of.image.clone(),
            force_pull_image: of.pull == Pull::Always,
            privileged: of.privileged,
            parameters: [],
            network: None,
            port_mappings: None,
        }),
        volumes: of.volumes.iter().map(volume).collect(),
        port_mappings,
    }
}

/// The names of the ports. A port without a name gets one if the readiness check refers to it.
fn port_names(spec: &Spec) -> Vec<Option<String>> {
    let checked = match spec.readiness.as_ref().map(|check| &check.probe) {
        Some(Probe::Http(http)) => spec.port_index(&http.port),
        _ => None,
    };
    let mut taken = BTreeSet::new();
    let name = |(index, port): (usize, &Port)| {
        let own = port.name.as_deref().map(|name| name.to_ascii_lowercase().replace('_', "-"));
        let own = own.map(|name| name.trim_matches('-').to_string());
        let own = own.filter(|name| valid::is_name(name) && !taken.contains(name));
        let is_needed = checked == Some(index) || port.name.is_some();
        let made = || (index..).map(|n| format!("port{n}")).find(|name| !taken.contains(name));
        let name = own.or_else(|| is_needed.then(made).flatten());
        taken.extend(name.clone());
        name
    };
    spec.ports.iter().enumerate().map(name).collect()
}

fn protocol(port: &Port) -> names::Protocol {
    match port.protocol {
        Protocol::Tcp => names::Protocol::Tcp,
        Protocol::Udp => names::Protocol::Udp,
    }
}

fn definition((port, name): (&Port, &Option<String>)) -> PortDefinition {
    let (name, labels) = (name.clone(), Default::default());
    PortDefinition { port: port.port, protocol: protocol(port), name, labels }
}

fn mapping((port, name): (&Port, &Option<String>)) -> PortMapping {
    PortMapping {
        container_port: port.container,
        host_port: Some(port.port),
        service_port: 0,
        protocol: protocol(port),
        name: name.clone(),
        labels: Default::default(),
    }
}

fn health(check: &model::HealthCheck, spec: &Spec) -> HealthCheck {
    let port = |port: &PortRef| u32::try_from(spec.port_index(port)?).ok();
    let shown = HealthCheck {
        grace_period_seconds: Seconds::at_least(check.grace),
        interval_seconds: Seconds::at_least(check.interval),
        timeout_seconds: Seconds::at_least(check.timeout),
        // Marathon's number excludes the failure that kills the task, and 0 disables killing. So a
        // limit of one failure cannot be expressed.
        max_consecutive_failures: match check.failures {
            0 => 0,
            failures => (failures - 1).max(1),
        },
        ..HealthCheck::default()
    };
    match &check.probe {
        Probe::Http(http) => HealthCheck {
            protocol: Check::Http,
            path: Some(http.path.text().into()),
            port_index: port(&http.port),
            ..shown
        },
        Probe::Tcp(tcp) => {
            HealthCheck { protocol: Check::Tcp, port_index: port(&tcp.port), ..shown }
        }
        Probe::Command(command) => HealthCheck {
            protocol: Check::Command,
            command: Some(Command { value: line(command) }),
            delay_seconds: Seconds::whole(0),
            ..shown
        },
    }
}

/// A command as a line for the shell, with words quoted where necessary.
fn line(command: &CommandLine) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    match command {
        CommandLine::Shell(line) => line.text().into(),
        words => words.words().iter().map(quoted).collect::<Vec<_>>().join(" "),
    }
}

fn readiness(
    check: &model::ReadinessCheck,
    spec: &Spec,
    names: &[Option<String>],
) -> Option<ReadinessCheck> {
    let Probe::Http(http) = &check.probe else { return None };
    let port_name = names.get(spec.port_index(&http.port)?)?.clone()?;
    let statuses: Vec<u16> = match http.statuses.is_empty() {
        true => (200..400).collect(),
        false => http.statuses.iter().copied().collect(),
    };
    // Marathon requires that the timeout is shorter than the interval.
    let timeout = Seconds::at_least(check.timeout);
    let after = Seconds::at_least(Millis(timeout.0.0 + 1));
    Some(ReadinessCheck {
        path: http.path.text().into(),
        port_name,
        interval_seconds: Seconds::at_least(check.interval).max(after),
        timeout_seconds: timeout,
        http_status_codes_for_ready: statuses,
        ..ReadinessCheck::default()
    })
}

/// Counts of instances as fractions, chosen such that rounding yields the same counts again.
fn upgrade(spec: &Spec) -> UpgradeStrategy {
    let instances = u64::from(spec.instances.max(1));
    let millionths = |share: Share, rounded: fn(u64, u64) -> u64| {
        let millionths = match share {
            Share::Millionths(millionths) => u64::from(millionths),
            Share::Count(count) => rounded(u64::from(count) * 1_000_000, instances),
        };
        Number(millionths.min(1_000_000) as f64 / 1e6)
    };
    UpgradeStrategy {
        minimum_health_capacity: millionths(spec.rollout.min_healthy, |part, whole| part / whole),
        maximum_over_capacity: millionths(spec.rollout.max_surge, u64::div_ceil),
    }
}
