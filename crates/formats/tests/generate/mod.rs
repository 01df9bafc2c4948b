//! Generators of services of all kinds, and of strings that are easily misread.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Base64, Bytes, CommandLine, Constraint, Container, Cpu, FileSpec, HealthCheck, HttpProbe, Lost,
    Millis, Network, OnChange, OnFailure, Operator, Port, PortRef, Probe, Process, Protocol, Pull,
    ReadinessCheck, Resources, Restart, Rollout, Run, ScaleDown, ServiceId, Share, Signal, Spec,
    Stop, TcpProbe, Unhealthy, Volume,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Strings of all kinds, including those that look like another type in YAML.
pub(crate) fn text() -> BoxedStrategy<String> {
    const TRAPS: &[&str] = &[
        "",
        " ",
        "null",
        "~",
        "true",
        "no",
        "1.10",
        "0x1F",
        "1e3",
        "-",
        "- a",
        "a: b",
        "# a",
        "@a",
        "a #b",
        "'",
        "\"",
        "\\",
        "\n",
        "a\n",
        "\na\n\n",
        " a",
        "a ",
        "\t",
        "a\tb",
        "\r\n",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "<<",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "---",
        "...",
        "{",
        "[",
        "{}",
        "[a]",
        "%a",
        "=",
        "2026-11-21",
        "ä\u{1f980}",
        "a\u{1b}[0m",
    ];
    prop_oneof![
        "[a-z0-9.-]{0,12}",
        "\\PC{0,24}",
        vec(any::<char>(), 0..12).prop_map(String::from_iter),
        select(TRAPS).prop_map(String::from),
        (select(TRAPS), select(TRAPS)).prop_map(|(a, b)| format!("{a}{b}")),
        "[ a-z]{90,200}",
    ]
    .boxed()
}

pub(crate) fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,8}"
}

pub(crate) fn path() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("/{text}"))
}

pub(crate) fn service() -> impl Strategy<Value = ServiceId> {
    vec(word(), 1..4)
        .prop_map(|words| words.join("/").parse())
        .prop_filter_map("a path that is short enough", Result::ok)
}

fn millis() -> impl Strategy<Value = Millis> {
    prop_oneof![0u64..100_000, 0u64..1 << 40].prop_map(Millis)
}

fn some_millis() -> impl Strategy<Value = Millis> {
    millis().prop_map(|millis| Millis(millis.0 + 1))
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![(0u32..=1_000_000).prop_map(Share::Millionths), any::<u32>().prop_map(Share::Count)]
}

/// A literal string as a value.
fn literal(text: impl Strategy<Value = String>) -> impl Strategy<Value = model::Value> {
    text.prop_map(model::Value::from)
}

fn command() -> impl Strategy<Value = CommandLine> {
    prop_oneof![
        (text(), word()).prop_map(|(before, word)| CommandLine::Shell((before + &word).into())),
        (word(), text()).prop_map(|(word, after)| CommandLine::Shell((word + &after).into())),
        (literal(word()), vec(literal(text()), 0..4))
            .prop_map(|(program, rest)| CommandLine::Words([vec![program], rest].concat())),
    ]
}

fn container() -> BoxedStrategy<Container> {
    let volume = (literal(path()), path(), any::<bool>())
        .prop_map(|(source, target, read_only)| Volume { source, target, read_only });
    (
        word(),
        option::of(command()),
        option::of(vec(literal(text()), 0..3)),
        select(&[Pull::Missing, Pull::Always, Pull::Never][..]),
        select(&[Network::Bridge, Network::Host][..]),
        vec(volume, 0..3),
        option::of(text()),
        any::<bool>(),
    )
        .prop_map(|(image, command, entrypoint, pull, network, volumes, user, privileged)| {
            Container { image, command, entrypoint, pull, network, volumes, user, privileged }
        })
        .boxed()
}

fn ports(on_bridge: bool) -> impl Strategy<Value = Vec<Port>> {
    let protocol = select(&[Protocol::Tcp, Protocol::Udp][..]);
    let port = (option::of(word()), any::<u16>(), any::<u16>(), protocol);
    vec(port, 1..4).prop_map(move |ports| {
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        let ports = ports.into_iter().map(|(name, port, container, protocol)| Port {
            name: name.filter(|name| names.insert(name.clone())),
            port: if numbers.insert((port, protocol)) { port } else { 0 },
            container: if on_bridge { container } else { 0 },
            protocol,
        });
        ports.collect()
    })
}

/// A probe of one of the ports; there must be at least one.
fn probe(ports: &[Port]) -> impl Strategy<Value = Probe> + use<> {
    let refs: Vec<PortRef> = (0..ports.len() as u32)
        .map(PortRef::Index)
        .chain(ports.iter().filter_map(|port| port.name.clone()).map(PortRef::Name))
        .collect();
    prop_oneof![
        (literal(path()), select(refs.clone()), btree_set(100u16..600, 0..3))
            .prop_map(|(path, port, statuses)| Probe::Http(HttpProbe { path, port, statuses })),
        select(refs).prop_map(|port| Probe::Tcp(TcpProbe { port })),
        command().prop_map(Probe::Command),
    ]
}

fn health(ports: &[Port]) -> impl Strategy<Value = HealthCheck> + use<> {
    (probe(ports), some_millis(), some_millis(), any::<u32>(), millis()).prop_map(
        |(probe, interval, timeout, failures, grace)| HealthCheck {
            probe,
            interval,
            timeout,
            failures,
            grace,
        },
    )
}

fn readiness(ports: &[Port]) -> impl Strategy<Value = ReadinessCheck> + use<> {
    (probe(ports), some_millis(), some_millis())
        .prop_map(|(probe, interval, timeout)| ReadinessCheck { probe, interval, timeout })
}

fn constraint() -> impl Strategy<Value = Constraint> {
    let of = |operator| move |(attribute, value)| Constraint { attribute, operator, value };
    prop_oneof![
        (text(), Just(None)).prop_map(of(Operator::Unique)),
        (text(), option::of(text())).prop_map(of(Operator::Cluster)),
        (text(), "[0-9]{1,3}".prop_map(Some)).prop_map(of(Operator::MaxPer)),
        (text(), "a([a-z]|[.][*]|[|])*".prop_map(Some)).prop_map(of(Operator::Like)),
        (text(), "[a-z0-9_/.-]{0,5}".prop_map(Some)).prop_map(of(Operator::Is)),
    ]
}

fn resources() -> impl Strategy<Value = Resources> {
    (any::<u32>(), prop_oneof![0u64..1 << 50, (0u64..1 << 20).prop_map(|mib| mib << 20)])
        .prop_map(|(cpu, memory)| Resources { cpu: Cpu(cpu), memory: Bytes(memory) })
}

fn strings() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = text().prop_map(|name| match name.replace(['=', '\0'], "") {
        name if name.is_empty() => "A".to_string(),
        name => name,
    });
    btree_map(name, text(), 0..5)
}

prop_compose! {
    fn rollout()(
        min_healthy in share(), max_surge in share(), deadline in millis(), min_ready in millis(),
        on_failure in select(&[OnFailure::Rollback, OnFailure::Hold][..]),
        unhealthy in select(&[Unhealthy::ReplaceFirst, Unhealthy::KillFirst][..]),
    ) -> Rollout {
        Rollout { min_healthy, max_surge, deadline, on_failure, min_ready, unhealthy }
    }
}

prop_compose! {
    fn restart()(
        first in millis(), backoff in millis(), factor in 1.0..1e9f64, max in millis(),
        reset_after in millis(),
    ) -> Restart {
        Restart { first, backoff, factor, max, reset_after }
    }
}

prop_compose! {
    fn stop()(
        grace in millis(), drain in millis(),
        signal in select(&[Signal::Term, Signal::Int, Signal::Quit, Signal::Usr2][..]),
    ) -> Stop {
        Stop { signal, grace, drain }
    }
}

/// A program, with ports that it supports.
fn workload() -> impl Strategy<Value = (Option<Container>, Option<Process>, Vec<Port>)> {
    let process = (command(), option::of(literal(text())), option::of(text()))
        .prop_map(|(command, workdir, user)| Process { command, workdir, user });
    prop_oneof![
        container().prop_flat_map(|container| {
            let ports = ports(container.network == Network::Bridge);
            (Just(Some(container)), Just(None), ports)
        }),
        (Just(None), process.prop_map(Some), ports(false)),
    ]
}

/// Files with paths of their own; those of a container are absolute.
fn files(in_container: bool) -> BoxedStrategy<Vec<FileSpec>> {
    let source = prop_oneof![
        text().prop_map(|text| FileSpec { text: Some(text.into()), ..FileSpec::default() }),
        vec(any::<u8>(), 0..9).prop_map(|bytes| FileSpec {
            base64: Some(Base64(bytes.into())),
            ..FileSpec::default()
        }),
    ];
    let mode = select(&["0644", "0600", "0755", "0000"][..]);
    let owner = option::of(select(&["0", "1000:1000"][..]));
    let on_change =
        select(&[OnChange::Restart, OnChange::Nothing, OnChange::Signal(Signal::Hup)][..]);
    let attributes = (mode, any::<bool>(), owner, on_change);
    let file = (source, attributes).prop_map(|(source, (mode, executable, owner, on_change))| {
        let owner = owner.map(String::from);
        FileSpec { mode: mode.parse().unwrap(), executable, owner, on_change, ..source }
    });
    let root = if in_container { "/" } else { "" };
    let named = move |(i, file)| FileSpec { path: format!("{root}dir {i}/file"), ..file };
    vec(file, 0..3)
        .prop_map(move |files| files.into_iter().enumerate().map(named).collect())
        .boxed()
}

/// Boxed, like its parts: by value, it would overflow the stack of a test.
pub(crate) fn spec() -> BoxedStrategy<Spec> {
    let parts = workload().prop_flat_map(|(container, process, ports)| {
        let files = files(container.is_some());
        let checks = (vec(health(&ports), 0..3), option::of(readiness(&ports)), files);
        (Just((container, process, ports)), checks).boxed()
    });
    let parts = parts.boxed();
    let lists =
        (vec(constraint(), 0..3), btree_set(text(), 0..3), btree_set(service(), 0..3), strings())
            .boxed();
    let steering = (rollout(), restart(), stop()).boxed();
    let lost = (any::<bool>(), millis()).prop_map(|(replace, after)| Lost { replace, after });
    let scale_down = select(&[ScaleDown::Youngest, ScaleDown::Oldest][..]);
    let run = select(&[None, Some(Run::Started), Some(Run::Paused), Some(Run::Stopped)][..]);
    let goals = (run, option::of(any::<bool>()));
    let steering = (steering, btree_set(text(), 0..2), lost, scale_down, goals).boxed();
    (service(), 0u32..=100_000, parts, resources(), strings(), steering, lists)
        .prop_map(|(service, instances, parts, resources, env, steering, lists)| {
            let ((rollout, restart, stop), roles, lost, scale_down, (run, frozen)) = steering;
            let ((container, process, ports), (health, readiness, files)) = parts;
            let (constraints, requires, depends_on, labels) = lists;
            Spec {
                run,
                frozen,
                stack: Vec::new(),
                service,
                instances,
                container,
                process,
                resources,
                ports,
                env: env.into_iter().map(|(name, text)| (name, text.into())).collect(),
                files,
                health,
                readiness,
                rollout,
                restart,
                stop,
                constraints,
                requires,
                roles,
                lost,
                scale_down,
                depends_on,
                labels,
            }
        })
        .prop_filter("a good spec", |spec| spec.problems().is_empty())
        .boxed()
}
