//! Generators of commands. They draw from a small world, so that commands affect each other: four
//! services, four nodes. Shared by the property tests of the model and of the planner.

use std::collections::BTreeMap;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::model::{
    AgentRegistration, Availability, BundleSpec, Bytes, ClusterId, Command, CommandLine,
    Constraint, Cpu, DeploymentId, Document, Failure, Gateway, Given, Guard, HealthCheck,
    HttpProbe, InstanceId, Lost, Millis, NodeId, OnFailure, Origin, Pause, Port, Principal, Probe,
    Process, Proposal, Protocol, ReadinessCheck, Registration, RequestId, Resource, Resources,
    Restart, Rollout, Route, Run, ScaleDown, Selection, ServiceId, Share, Software, Source, Spec,
    Start, Steer, Step, Stop, StopReason, Subject, Task, Term, Timestamp, Unhealthy,
};

const SERVICES: [&str; 4] = ["/a", "/b", "/c/d", "/c/e"];
const NODES: [&str; 4] = ["n0", "n1", "n2", "n3"];

pub(crate) fn service() -> impl Strategy<Value = ServiceId> {
    prop::sample::select(&SERVICES[..]).prop_map(|id| id.parse().unwrap())
}

fn run() -> impl Strategy<Value = Run> {
    prop::sample::select(&[Run::Started, Run::Paused, Run::Stopped][..])
}

pub(crate) fn node() -> impl Strategy<Value = NodeId> {
    prop::sample::select(&NODES[..]).prop_map(|id| id.parse().unwrap())
}

fn share() -> impl Strategy<Value = Share> {
    prop::sample::select(vec!["0", "1", "2", "25%", "50%", "100%"])
        .prop_map(|text| text.parse().unwrap())
}

fn constraint() -> impl Strategy<Value = Constraint> {
    let strings = vec![
        "hostname UNIQUE",
        "rack UNIQUE",
        "rack CLUSTER",
        "rack CLUSTER a",
        "rack GROUP_BY",
        "rack GROUP_BY 2",
        "rack MAX_PER 1",
        "rack MAX_PER 2",
        "rack LIKE [ab]",
        "rack UNLIKE a",
        "rack IS b",
    ];
    prop::sample::select(strings)
        .prop_map(|text| text.split(' ').map(String::from).collect::<Vec<_>>().try_into().unwrap())
}

fn rollout() -> impl Strategy<Value = Rollout> {
    let on_failure = prop::sample::select(vec![OnFailure::Rollback, OnFailure::Hold]);
    let unhealthy = prop::sample::select(vec![Unhealthy::ReplaceFirst, Unhealthy::KillFirst]);
    (share(), share(), 1u64..60, on_failure, 0u64..3, unhealthy).prop_map(
        |(min_healthy, max_surge, deadline, on_failure, min_ready, unhealthy)| Rollout {
            min_healthy,
            max_surge,
            deadline: Millis::secs(deadline),
            on_failure,
            min_ready: Millis::secs(min_ready),
            unhealthy,
        },
    )
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let fixed = prop::sample::select(vec![0u16, 0, 0, 8080, 20001]);
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
    let port =
        (fixed, protocol).prop_map(|(port, protocol)| Port { port, protocol, ..Port::default() });
    vec(port, 1..3)
}

pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let resources = (prop::sample::select(vec![0u32, 500, 1000, 2000]), 0u64..3);
    let checks = (any::<bool>(), any::<bool>());
    let runs = (0u32..4, resources, ports(), option::weighted(0.3, constraint()));
    let depends_on = btree_set(service(), 0..2);
    let times = (prop::sample::select(vec![0u64, 5]), prop::sample::select(vec![0u64, 3, 600]));
    let scale_down = prop::sample::select(vec![ScaleDown::Youngest, ScaleDown::Oldest]);
    let lost = prop::sample::select(vec![
        Lost::default(),
        Lost { after: Millis::secs(4), ..Lost::default() },
        Lost { replace: false, ..Lost::default() },
    ]);
    let roles = prop::sample::select(vec![vec![], vec![], vec![], vec!["*"], vec!["public"]]);
    let places = (lost, scale_down, roles);
    (service(), 0u32..5, runs, checks, rollout(), depends_on, times, places).prop_map(
        |(service, instances, runs, (health, ready), rollout, depends_on, times, places)| {
            let ((drain, reset), (lost, scale_down, roles)) = (times, places);
            let (version, (cpu, memory), ports, constraint) = runs;
            let probe = Probe::Http(HttpProbe { path: "/".into(), ..HttpProbe::default() });
            let health = health.then(|| HealthCheck {
                probe: probe.clone(),
                interval: Millis::secs(5),
                timeout: Millis::secs(5),
                failures: 3,
                grace: Millis::secs(30),
            });
            let readiness = ready.then(|| ReadinessCheck {
                probe,
                interval: Millis::secs(1),
                timeout: Millis::secs(5),
            });
            let spec = Spec {
                service,
                run: None,
                frozen: None,
                instances,
                container: None,
                process: Some(Process {
                    command: CommandLine::Shell(format!("serve {version}").into()),
                    workdir: None,
                    user: None,
                }),
                stack: Vec::new(),
                resources: Resources { cpu: Cpu(cpu), memory: Bytes::mib(memory * 512) },
                ports,
                env: BTreeMap::new(),
                files: Vec::new(),
                health: health.into_iter().collect(),
                readiness,
                rollout,
                restart: Restart { reset_after: Millis::secs(reset), ..Restart::default() },
                stop: Stop { drain: Millis::secs(drain), ..Stop::default() },
                constraints: constraint.into_iter().collect(),
                requires: Default::default(),
                roles: roles.into_iter().map(String::from).collect(),
                lost,
                scale_down,
                depends_on,
                labels: BTreeMap::new(),
            };
            if version == 3 { stacked(spec) } else { spec }
        },
    )
}

/// The same service with its process in a stack, between a task and another process.
fn stacked(mut spec: Spec) -> Spec {
    let process = |command: &str| {
        let command = CommandLine::Shell(command.into());
        Process { command, workdir: None, user: None }
    };
    let resource = |name: &str| Resource {
        name: name.parse().unwrap(),
        container: None,
        process: None,
        task: None,
        retries: 0,
        optional: false,
        monitor: false,
        tags: Default::default(),
        disabled: false,
        subset: None,
        resources: Resources { cpu: Cpu(100), memory: Bytes::mib(64) },
        ports: Vec::new(),
        env: BTreeMap::new(),
        files: Vec::new(),
        health: Vec::new(),
        readiness: None,
        restart: None,
        stop: None,
    };
    let prepare = Resource { task: Some(Task::Process(process("prepare"))), ..resource("prepare") };
    let web = Resource {
        process: spec.process.take(),
        resources: std::mem::take(&mut spec.resources),
        ports: std::mem::take(&mut spec.ports),
        health: std::mem::take(&mut spec.health),
        readiness: spec.readiness.take(),
        ..resource("web")
    };
    let log = Resource {
        process: Some(process("ship")),
        ports: vec![Port::default()],
        optional: true,
        ..resource("log")
    };
    spec.stack = vec![prepare, web, log];
    spec
}

fn gateway() -> impl Strategy<Value = Gateway> {
    (8000u16..8002, service()).prop_map(|(port, service)| Gateway {
        gateway: format!("on-{port}").parse().unwrap(),
        listen: port.to_string().parse().unwrap(),
        trust: Default::default(),
        routes: vec![Route {
            hosts: Default::default(),
            path: "/".into(),
            to: service.to_string().try_into().unwrap(),
        }],
    })
}

pub(crate) fn agent() -> impl Strategy<Value = AgentRegistration> {
    let rack = prop::sample::select(vec!["a", "b", "c"]);
    let ports = prop::sample::select(vec![(20000u16, 31999u16), (20000, 20003)]);
    (1u32..6, 1u64..6, option::weighted(0.8, rack), ports).prop_map(|(cpu, memory, rack, ports)| {
        AgentRegistration {
            id: rack.unwrap_or_default().into(),
            port: 4041,
            capacity: Resources { cpu: Cpu(cpu * 1000), memory: Bytes::mib(memory * 512) },
            labels: rack.map(|rack| ("rack".into(), rack.into())).into_iter().collect(),
            capabilities: Default::default(),
            ports,
            software: Software::current(),
        }
    })
}

fn registration() -> impl Strategy<Value = Registration> {
    (node(), option::weighted(0.8, agent())).prop_map(|(node, agent)| Registration {
        address: format!("{node}.example"),
        node,
        agent,
    })
}

fn availability() -> impl Strategy<Value = Availability> {
    prop::sample::select(vec![
        Availability::Active,
        Availability::Active,
        Availability::Cordoned,
        Availability::Draining,
    ])
}

/// The commands of users.
pub(crate) fn user_command() -> impl Strategy<Value = Command> {
    let described = |(spec, source): (Spec, Option<u8>)| match source {
        None => Document::service(spec),
        Some(text) => {
            let source = Source { adapter: "other".into(), text: text.to_string() };
            Document::foreign(spec, source)
        }
    };
    let bundle = || {
        let sets = (btree_set(service(), 0..2), btree_set(service(), 0..2));
        (service(), sets, option::of(0u8..2)).prop_map(|(path, (depends_on, members), text)| {
            let source =
                text.map(|text| Source { adapter: "other".into(), text: text.to_string() });
            Document::Bundle(BundleSpec { path, depends_on, members, source })
        })
    };
    let document = move || {
        prop_oneof![
            10 => (spec(), option::weighted(0.3, 0u8..2)).prop_map(described),
            1 => service().prop_map(|id| Document::Remove(Subject::Service(id))),
            1 => bundle(),
            1 => service().prop_map(|path| Document::Remove(Subject::Bundle(path))),
        ]
    };
    let services = || vec(document(), 1..3).prop_map(Command::Apply);
    let steer = prop::sample::select(vec![Steer::Pause, Steer::Resume, Steer::Abort]);
    prop_oneof![
        10 => services(),
        1 => service().prop_map(|service| Command::ResetDelay { service }),
        2 => (vec(instance(), 1..3), any::<bool>())
            .prop_map(|(instances, scale)| Command::Kill { instances, scale }),
        2 => gateway().prop_map(|gateway| Command::Apply(vec![Document::Gateway(gateway)])),
        3 => (service(), 0u32..6)
            .prop_map(|(service, instances)| Command::Scale { service, instances }),
        2 => service().prop_map(|service| Command::Restart { service }),
        2 => (vec(service(), 1..3), any::<bool>())
            .prop_map(|(services, frozen)| {
                Command::SetFrozen { services, resources: Selection::default(), frozen }
            }),
        1 => (service(), any::<bool>()).prop_map(|(service, frozen)| {
            let names = ["main".parse().unwrap()].into();
            let resources = Selection { names, ..Selection::default() };
            Command::SetFrozen { services: vec![service], resources, frozen }
        }),
        3 => (vec(service(), 1..3), run())
            .prop_map(|(services, run)| Command::SetRun { services, run }),
        3 => (service(), option::of(1u32..4))
            .prop_map(|(service, to)| Command::Undo { service, to }),
        3 => vec(service(), 1..4).prop_map(Command::RemoveServices),
        1 => (8000u16..8002).prop_map(|port| {
            Command::RemoveGateway(format!("on-{port}").parse().unwrap())
        }),
        5 => (1u64..12, steer)
            .prop_map(|(number, how)| Command::Steer { deployment: DeploymentId(number), how }),
        3 => (node(), availability())
            .prop_map(|(node, availability)| Command::SetAvailability { node, availability }),
        1 => node().prop_map(Command::RemoveNode),
        1 => Just(Command::BecomeLeader),
        1 => start().prop_map(Command::BeginTerm),
        1 => (start(), 0u64..9).prop_map(|(start, number)| {
            let lost = [Term { number, nonce: 1 }].into();
            Command::AcceptLoss { lost, start }
        }),
        1 => (node(), instance()).prop_map(|(node, instance)| {
            Command::StopUnknown { node, instances: [instance].into() }
        }),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    (0u64..3, 0u64..3, 0u64..99).prop_map(|(cluster, nonce, after)| Start {
        cluster: ClusterId(cluster),
        nonce,
        after,
    })
}

fn leave() -> impl Strategy<Value = StopReason> {
    prop::sample::select(vec![
        StopReason::Replaced,
        StopReason::Unhealthy,
        StopReason::Lost,
        StopReason::Removed,
        StopReason::Requested,
    ])
}

fn instance() -> impl Strategy<Value = InstanceId> {
    (service(), 0u32..5, 1u32..4)
        .prop_map(|(service, slot, attempt)| InstanceId::new(service, slot, attempt))
}

/// Steps that a planner might have proposed, and steps that no planner would.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (instance(), 1u32..4, node(), vec(prop::sample::select(vec![8080u16, 20001, 20002]), 1..3))
            .prop_map(|(instance, revision, node, ports)| {
                Step::Place { instance, revision, node, given: Given { ports } }
            }),
        1 => (instance(), 0u64..100, leave()).prop_map(|(instance, until, why)| {
            Step::Drain { instance, until: Timestamp(until), why }
        }),
        2 => (instance(), leave()).prop_map(|(instance, why)| Step::Stop { instance, why }),
        2 => (instance(), leave()).prop_map(|(instance, why)| Step::Forget { instance, why }),
        2 => (instance(), option::of(0u64..100)).prop_map(|(instance, until)| {
            let drain = |until| Pause::Drain { until: Timestamp(until) };
            Step::Pause { instance, pause: until.map_or(Pause::Suspend, drain) }
        }),
        1 => instance().prop_map(|instance| Step::Resume { instance }),
        1 => (service(), 0u32..5).prop_map(|(service, ready)| Step::Progress { service, ready }),
        3 => service().prop_map(|service| Step::Arrive { service }),
        2 => (1u64..12, service()).prop_map(|(number, service)| Step::Fail {
            deployment: DeploymentId(number),
            service,
            reason: Failure::Aborted.into(),
        }),
    ]
}

/// Any proposal: mostly of the usual author, some with an id, conditions or an origin, and some that
/// are not permitted.
#[allow(dead_code, reason = "the planner's tests do without")]
pub(crate) fn proposal() -> impl Strategy<Value = Proposal> {
    let command = prop_oneof![
        5 => user_command(),
        1 => registration().prop_map(Command::Register),
        8 => step().prop_map(Command::Adopt),
    ];
    let seen = vec((service(), option::of(1u32..3)), 0..2);
    let guard = (seen, vec(service(), 0..2), any::<(bool, bool)>())
        .prop_map(|(seen, still, (force, retry))| Guard { seen, still, force, retry });
    let other = prop_oneof![
        Just(Principal::operator()),
        node().prop_map(Principal::Daemon),
        Just(Principal::Planner),
        Just(Principal::Server),
    ];
    let id = (0u32..6, 0u64..2)
        .prop_map(|(key, digest)| RequestId { key: format!("r{key}").parse().unwrap(), digest });
    let id = option::weighted(0.3, id);
    let (guard, other) = (option::weighted(0.1, guard), option::weighted(0.05, other));
    let proposal = (id, command, guard, other, any::<bool>());
    proposal.prop_map(|(id, command, guard, other, has_origin)| {
        let mut proposal = Proposal { id, ..Proposal::usual(command) };
        proposal.guard = guard.unwrap_or_default();
        if let Some(other) = other {
            proposal.by = other;
        }
        let origin = || Origin { client: "10.0.0.9".into(), uri: "/v2/apps".into() };
        proposal.via = has_origin.then(origin);
        proposal
    })
}
