//! An example of each stored object and each message, in which every field has a value that is not
//! its default. The struct literals are complete, so a new field does not compile without a value.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use model::object::Object;
use model::{
    About, AgentRegistration, Availability, Backend, Base64, Bundle, BundleRef, BundleSpec, Bytes,
    Cause, Change, ChangeKind, CheckResult, Cluster, ClusterId, CommandLine, Constraint, Container,
    Cpu, Daemon, Deployment, DeploymentId, Ending, Event, ExecutedRequest, Exit, FailedRevision,
    Failure, FileSpec, Gateway, Given, Goal, HealthCheck, HttpProbe, Laggard, Listener, Lost, Meta,
    Millis, Mismatch, Move, MoveState, Network, Node, NotServing, OnChange, OnFailure, Origin,
    Pause, PauseReport, Phase, Placement, Port, PortRef, Principal, Probe, Problem, Process,
    Protocol, Pull, ReadinessCheck, Reason, Refusal, Registration, Resource, ResourceStatus,
    Resources, Restart, Revision, RevisionOutcome, Rollout, Route, RouteTable, Run, RunChange,
    ScaleDown, ServiceHead, Sha256, Share, Signal, Slot, Software, Source, Spec, Stage, Stall,
    Status, Stop, StopReason, StopSignal, TableRoute, Task, TcpProbe, Term, TermStart, Timestamp,
    Unhealthy, Value, Volume, What,
};
use muster_api::{Assigned, Assignment, Assignments, GatewayReport, Report, ReportReply};
use serde::Serialize;

/// The examples, each with its kind: that of its key if it is stored.
pub(crate) fn all() -> Vec<(&'static str, serde_json::Value)> {
    fn of<T: Serialize>(
        kind: &'static str,
        examples: impl IntoIterator<Item = T>,
    ) -> impl Iterator<Item = (&'static str, serde_json::Value)> {
        examples.into_iter().map(move |example| (kind, json(&example)))
    }
    fn json(example: &impl Serialize) -> serde_json::Value {
        serde_json::to_value(example).unwrap()
    }
    let stored = stored().into_iter().map(|object| (kind(&object), json(&object)));
    stored
        .chain(of("event", facts().map(event)))
        .chain(of("registration", [registration()]))
        .chain(of("assignments", [assignments()]))
        .chain(of("report", [report()]))
        .chain(of("report-reply", [ReportReply { resync: true }]))
        .chain(of("gateway-report", [gateway_report()]))
        .chain(of("route-table", [route_table()]))
        .collect()
}

fn stored() -> Vec<Object> {
    let mut all = vec![
        Object::Meta(Meta { deployments: 7, epoch: 3, attempts: 4 }),
        Object::Cluster(cluster()),
        Object::Node(node()),
        Object::Service(service()),
        Object::Gateway(gateway()),
        Object::Bundle(bundle()),
    ];
    all.extend([container(), process(), stack()].map(revision).map(Object::Revision));
    all.extend(revision_outcomes().map(|outcome| {
        Object::Revision(Revision { outcome: Some(outcome), ..revision(process()) })
    }));
    all.extend(goals().map(placement).map(Object::Instance));
    all.extend(stages().map(deployment).map(Object::Deployment));
    all.extend(outcomes().map(request).map(Object::Request));
    all
}

/// A new kind of object needs a line here, and an example in [`stored`].
fn kind(object: &Object) -> &'static str {
    match object {
        Object::Meta(_) => "meta",
        Object::Cluster(_) => "cluster",
        Object::Node(_) => "nodes",
        Object::Service(_) => "services",
        Object::Revision(_) => "revisions",
        Object::Instance(_) => "instances",
        Object::Request(_) => "requests",
        Object::Deployment(_) => "deployments",
        Object::Gateway(_) => "gateways",
        Object::Bundle(_) => "bundles",
    }
}

/// A key of the kind of stored objects.
pub(crate) fn key(kind: &str) -> String {
    let name = match kind {
        "meta" | "cluster" => return kind.into(),
        "revisions" => "shop/web@2",
        "instances" => "shop/web~0.1",
        "deployments" => "d-2",
        "bundles" => "shop@2",
        _ => "web",
    };
    format!("{kind}/{name}")
}

fn parsed<T: FromStr>(text: &str) -> T {
    text.parse().ok().unwrap()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn labels() -> BTreeMap<String, String> {
    [("team".to_string(), "shop".to_string())].into()
}

fn software() -> Software {
    Software { version: "0.3.0".into(), features: names(&["stack", "values"]) }
}

fn cluster() -> Cluster {
    let term = Term { number: 3, nonce: 14 };
    let terms = vec![TermStart { term, after: 17 }];
    Cluster { id: ClusterId(21), terms, lost: [Term { number: 2, nonce: 15 }].into() }
}

fn node() -> Node {
    Node {
        id: parsed("n1"),
        capacity: Some(Resources { cpu: Cpu(4000), memory: Bytes::mib(8192) }),
        gateway: true,
        address: "10.0.0.1".into(),
        agent_id: "agent-1".into(),
        agent_port: 7947,
        labels: labels(),
        capabilities: names(&["docker"]),
        software: software(),
        ports: (21000, 22000),
        availability: Availability::Draining,
        stop_unknown: [parsed("/shop/old~0.1")].into(),
    }
}

fn service() -> ServiceHead {
    ServiceHead {
        id: parsed("/shop/web"),
        target: 3,
        run: Run::Stopped,
        frozen: true,
        frozen_resources: [parsed("db")].into(),
        settled: Some(2),
        deployment: Some(DeploymentId(5)),
        failed: Some(FailedRevision {
            revision: 4,
            reason: Arc::new(failure()),
            at: Timestamp(1_000),
        }),
        removing: true,
        slots: vec![Slot { attempts: 6, failures: 7, failed_at: Timestamp(2_000) }],
        attempts_before: 8,
        retries: 9,
    }
}

fn failure() -> Failure {
    let laggard = Laggard {
        instance: parsed("/shop/web~0.1"),
        node: parsed("n1"),
        why: NotServing::NotRunning {
            phase: Phase::Starting,
            failures: 3,
            detail: Some("no such image".into()),
            retry_after: Some(Millis::secs(25)),
        },
    };
    Failure::Irreversible {
        failure: Arc::new(Failure::Stalled {
            service: parsed("/shop/web"),
            revision: 2,
            deadline: Millis::secs(61),
            cause: Stall::NotReady(laggard),
        }),
    }
}

/// A failure for want of a node.
fn unplaced() -> Failure {
    let nodes = vec![(parsed("n1"), Reason::Cordoned)];
    let cause = Stall::Unplaced { placed: 1, wanted: 3, nodes, node_count: 2, failures: 4 };
    let (service, deadline) = (parsed("/shop/web"), Millis::secs(61));
    Failure::Stalled { service, revision: 2, deadline, cause }
}

fn revision(spec: Spec) -> Revision {
    Revision {
        number: 3,
        template: 2,
        created_at: Timestamp(4_000),
        configured_at: Some(Timestamp(3_000)),
        spec: Arc::new(spec),
        source: Some(Arc::new(source())),
        bundle: Some(BundleRef { path: parsed("/shop"), revision: 5 }),
        outcome: None,
    }
}

fn revision_outcomes() -> [RevisionOutcome; 3] {
    let (reason, at) = (|| Arc::new(failure()), Timestamp(11_000));
    [
        RevisionOutcome::Succeeded { at },
        RevisionOutcome::Failed { reason: reason(), at },
        RevisionOutcome::Withdrawn { reason: reason(), at },
    ]
}

fn source() -> Source {
    Source { adapter: "other".into(), text: "a document".into() }
}

fn container() -> Spec {
    Spec {
        service: parsed("/shop/web"),
        instances: 5,
        container: Some(image()),
        process: None,
        stack: Vec::new(),
        resources: Resources { cpu: Cpu(1500), memory: Bytes::mib(256) },
        ports: vec![port("http")],
        env: env(),
        files: files(),
        health: vec![health()],
        readiness: Some(readiness()),
        rollout: Rollout {
            min_healthy: parsed("60%"),
            max_surge: Share::Count(2),
            deadline: Millis::secs(301),
            on_failure: OnFailure::Hold,
            min_ready: Millis::secs(7),
            unhealthy: Unhealthy::KillFirst,
        },
        restart: restart(),
        stop: Stop { signal: Signal::Int, grace: Millis::secs(11), drain: Millis::secs(12) },
        constraints: vec![constraint()],
        requires: names(&["ssd"]),
        roles: names(&["web"]),
        lost: Lost { replace: false, after: Millis::secs(13) },
        scale_down: ScaleDown::Oldest,
        run: Some(Run::Stopped),
        frozen: Some(true),
        depends_on: [parsed("/shop/db")].into(),
        labels: labels(),
    }
}

fn process() -> Spec {
    let process = Process {
        command: CommandLine::Words(vec!["serve".into(), "--port".into()]),
        workdir: Some("/srv".into()),
        user: Some("web".into()),
    };
    Spec { container: None, process: Some(process), ..container() }
}

fn stack() -> Spec {
    let main = Resource {
        name: parsed("web"),
        container: Some(image()),
        process: None,
        task: None,
        retries: 0,
        optional: true,
        monitor: true,
        tags: BTreeSet::from(["noaction".to_string()]),
        disabled: true,
        subset: Some("front".into()),
        resources: Resources { cpu: Cpu(600), memory: Bytes::mib(64) },
        ports: vec![port("admin")],
        env: env(),
        files: files(),
        health: vec![health()],
        readiness: Some(readiness()),
        restart: Some(restart()),
        stop: Some(StopSignal { signal: Signal::Quit, grace: Millis::secs(14) }),
    };
    let command = CommandLine::Shell("migrate".into());
    let program = Process { command, workdir: Some("/data".into()), user: Some("db".into()) };
    let task = Resource {
        name: parsed("migrate"),
        container: None,
        task: Some(Task::Process(program)),
        retries: 3,
        ..main.clone()
    };
    Spec { container: None, stack: vec![task, main], ..container() }
}

fn image() -> Container {
    Container {
        image: "shop/web:1".into(),
        command: Some(CommandLine::Shell("serve".into())),
        entrypoint: Some(vec!["/init".into()]),
        pull: Pull::Always,
        network: Network::Host,
        volumes: vec![Volume {
            source: "/var/web".into(),
            target: "/data".into(),
            read_only: true,
        }],
        user: Some("web".into()),
        privileged: true,
    }
}

fn port(name: &str) -> Port {
    Port { name: Some(name.into()), port: 8080, container: 80, protocol: Protocol::Udp }
}

fn files() -> Vec<FileSpec> {
    let text = FileSpec {
        path: "/etc/web.conf".into(),
        text: Some(Value::parse("${node.name}").unwrap()),
        base64: None,
        url: None,
        sha256: None,
        extract: false,
        cache: true,
        mode: parsed("0600"),
        executable: true,
        owner: Some("7:8".into()),
        on_change: OnChange::Signal(Signal::Hup),
    };
    let binary = FileSpec {
        path: "/check".into(),
        base64: Some(Base64(vec![0, 255].into())),
        ..FileSpec::default()
    };
    let archive = FileSpec {
        path: "/srv".into(),
        url: Some("https://example.com/a.tar.gz".into()),
        sha256: Some(Sha256([7; 32])),
        extract: true,
        cache: false,
        ..FileSpec::default()
    };
    vec![text, binary, archive]
}

fn env() -> BTreeMap<String, Value> {
    let reference = Value::parse("${node.name}").unwrap();
    [("PLAIN".to_string(), Value::from("text")), ("NODE".to_string(), reference)].into()
}

fn health() -> HealthCheck {
    HealthCheck {
        probe: Probe::Http(HttpProbe {
            path: "/health".into(),
            port: PortRef::Name("http".into()),
            statuses: [204].into(),
        }),
        interval: Millis::secs(15),
        timeout: Millis::secs(16),
        failures: 17,
        grace: Millis::secs(18),
    }
}

fn readiness() -> ReadinessCheck {
    ReadinessCheck {
        probe: Probe::Tcp(TcpProbe { port: PortRef::Index(1) }),
        interval: Millis::secs(19),
        timeout: Millis::secs(20),
    }
}

fn restart() -> Restart {
    Restart {
        first: Millis::secs(21),
        backoff: Millis::secs(22),
        factor: 2.5,
        max: Millis::secs(23),
        reset_after: Millis::secs(24),
    }
}

fn constraint() -> Constraint {
    ["rack", "MAX_PER", "2"].map(String::from).to_vec().try_into().unwrap()
}

fn goals() -> [Goal; 3] {
    [
        Goal::Run,
        Goal::Drain { until: Timestamp(5_000), why: StopReason::Replaced },
        Goal::Stop { why: StopReason::Requested },
    ]
}

fn placement(goal: Goal) -> Placement {
    Placement {
        revision: 3,
        node: parsed("n1"),
        given: Given { ports: vec![21000, 21001] },
        goal,
        pause: Some(Pause::Drain { until: Timestamp(5_500) }),
        placed_at: Timestamp(6_000),
    }
}

fn stages() -> [Stage; 8] {
    let (reason, at) = (|| Arc::new(failure()), Timestamp(7_000));
    [
        Stage::Running,
        Stage::Paused,
        Stage::RollingBack { reason: reason() },
        Stage::Held { reason: reason() },
        Stage::Succeeded { at },
        Stage::RolledBack { reason: reason(), at },
        Stage::RollbackFailed { reason: reason(), cause: Arc::new(unplaced()), at },
        Stage::Superseded { by: DeploymentId(9), at },
    ]
}

fn deployment(stage: Stage) -> Deployment {
    Deployment {
        id: DeploymentId(2),
        created_at: Timestamp(8_000),
        cause: Cause::Undo,
        by: Some(Principal::operator()),
        via: Some(Origin { client: "10.0.0.9".into(), uri: "/apps/web".into() }),
        forced: true,
        moves: vec![Move {
            service: parsed("/shop/web"),
            from: Some(1),
            aimed: Some(2),
            to: Some(3),
            run: Some(RunChange { from: Run::Started, to: Run::Stopped }),
            state: MoveState::Superseded,
            ready: 4,
            progressed_at: Some(Timestamp(9_000)),
            failure: Some(Arc::new(failure())),
        }],
        stage,
    }
}

fn outcomes() -> [Result<Vec<Change>, Refusal>; 6] {
    let (service, by) = (parsed("/shop/web"), vec![DeploymentId(4)]);
    let change = Change {
        kind: "service".into(),
        name: "/shop/web".into(),
        verdict: ChangeKind::Updated,
        revision: Some(3),
        run: Some(RunChange { from: Run::Started, to: Run::Stopped }),
        frozen: Some(true),
        deployment: Some(DeploymentId(4)),
        note: Some("a note".into()),
    };
    [
        Ok(vec![change]),
        Err(Refusal::Unknown {
            kind: "service".into(),
            name: "/shop/wev".into(),
            nearest: Some("/shop/web".into()),
        }),
        Err(Refusal::Invalid { problems: vec![(1, Problem::new("ports.0", "a message"))] }),
        Err(Refusal::Moving { service, by }),
        Err(Refusal::Changed { service: parsed("/shop/web") }),
        Err(Refusal::Conflict { message: "a conflict".into() }),
    ]
}

fn request(outcome: Result<Vec<Change>, Refusal>) -> ExecutedRequest {
    let by = Principal::operator();
    ExecutedRequest { number: 5, digest: 6, by, at: Timestamp(18_000), outcome }
}

fn route() -> Route {
    Route {
        hosts: names(&["shop.example"]),
        path: "/api".into(),
        to: serde_json::from_str("\"/shop/web:http\"").unwrap(),
    }
}

fn gateway() -> Gateway {
    Gateway {
        gateway: parsed("public"),
        listen: parsed("127.0.0.1:8080"),
        trust: [parsed("10.0.0.0/8")].into(),
        routes: vec![route()],
    }
}

fn bundle() -> Bundle {
    Bundle {
        revision: 5,
        created_at: Timestamp(10_000),
        spec: BundleSpec {
            path: parsed("/shop"),
            depends_on: [parsed("/infra")].into(),
            members: [parsed("/shop/web")].into(),
            source: Some(source()),
        },
    }
}

fn facts() -> [What; 30] {
    let (reason, detail) = (|| Arc::new(failure()), || Some("a detail".to_string()));
    [
        What::ServerStarted { epoch: 3 },
        What::LossAccepted { epoch: 4 },
        What::DaemonRefused {
            daemon: Daemon::Agent,
            mismatch: Mismatch::OtherCluster { daemon: ClusterId(1), server: ClusterId(2) },
        },
        What::DaemonAdmitted { daemon: Daemon::Gateway },
        What::UnknownInstances { count: 5 },
        What::UnknownStopped { count: 6 },
        What::NodeJoined,
        What::NodeLost,
        What::NodeReturned,
        What::GatewayApplied { listen: parsed("8080") },
        What::RouteBroken { route: Box::new(route()) },
        What::Arrived { revision: 2 },
        What::RunChanged { change: RunChange { from: Run::Started, to: Run::Stopped } },
        What::DeploymentStarted {
            cause: Cause::Apply,
            services: vec![parsed("/shop/web")],
            more: 3,
        },
        What::DeploymentHeld { reason: reason() },
        What::DeploymentRollingBack { reason: reason() },
        What::DeploymentRolledBack { reason: reason() },
        What::DeploymentRollbackFailed { reason: reason(), cause: reason() },
        What::DeploymentSuperseded { successor: DeploymentId(2) },
        What::Placed { node: parsed("n1"), revision: 1 },
        What::Starting { detail: "pulling".into(), retry_after: Some(Millis::secs(26)) },
        What::Running { run: 2 },
        What::NotStarted { run: 2, detail: detail() },
        What::Exited { run: 2, exit: Box::new(exit()) },
        What::Failed { detail: detail() },
        What::Unhealthy { cause: detail() },
        What::CheckFailed { check: 1, count: 2, cause: detail() },
        What::CheckPassed { check: 1 },
        What::Draining { why: StopReason::Surplus },
        What::Stopped { why: StopReason::Removed },
    ]
}

fn event(what: What) -> Event {
    let by = Some(Principal::operator());
    Event { at: Timestamp(11_000), about: About::Instance(parsed("/shop/web~0.1")), by, what }
}

fn exit() -> Exit {
    let how = Ending::OutOfMemory {
        code: Some(137),
        signal: Some(9),
        limit: "128MiB".into(),
        afterwards: true,
    };
    Exit { at: Timestamp(12_000), how }
}

fn registration() -> Registration {
    Registration {
        node: parsed("n1"),
        address: "10.0.0.1".into(),
        agent: Some(AgentRegistration {
            id: "agent-1".into(),
            port: 7947,
            capacity: Resources { cpu: Cpu(2000), memory: Bytes::mib(4096) },
            labels: labels(),
            capabilities: names(&["docker"]),
            ports: (21000, 22000),
            software: software(),
        }),
    }
}

fn assignments() -> Assignments {
    let assignment = |goal| Assignment {
        instance: parsed("/shop/web~0.1"),
        revision: 2,
        revision_created_at: Timestamp(1),
        goal,
        frozen: true,
        frozen_resources: [parsed("cache")].into(),
        paused: true,
        given: Given { ports: vec![21000] },
        retries: 3,
        env: labels(),
        spec: Arc::new(container()),
    };
    Assignments {
        generation: 4,
        whole: true,
        set: vec![assignment(Assigned::Run), assignment(Assigned::Stop)],
        removed: vec![parsed("/shop/web~1.1")],
        explicit: true,
        unreadable: Vec::new(),
    }
}

fn check() -> CheckResult {
    CheckResult {
        consecutive_failures: 2,
        first_success: Some(Timestamp(13_000)),
        last_success: Some(Timestamp(14_000)),
        last_failure: Some(Timestamp(15_000)),
        last_failure_cause: Some("503".into()),
    }
}

fn report() -> Report {
    let resource = ResourceStatus {
        name: parsed("web"),
        phase: Phase::Running,
        run: 3,
        failures: 4,
        healthy: Some(true),
        ready: true,
        checks: vec![check()],
        last_exit: Some(exit()),
        message: Some("a resource".into()),
        retry_after: Some(Millis::secs(27)),
    };
    let status = Status {
        phase: Phase::Starting,
        run: 5,
        failures: 6,
        since: Timestamp(16_000),
        started_at: Some(Timestamp(17_000)),
        healthy: Some(false),
        ready: true,
        checks: vec![check()],
        last_exit: Some(Box::new(exit())),
        message: Some("an instance".into()),
        retry_after: Some(Millis::secs(28)),
        pause: Some(PauseReport::Failed { message: "a pause".into() }),
        resources: vec![resource],
    };
    Report {
        node: parsed("n1"),
        life: 7,
        number: 8,
        generation: 9,
        whole: true,
        instances: vec![(parsed("/shop/web~0.1"), status)],
    }
}

fn gateway_report() -> GatewayReport {
    GatewayReport {
        node: parsed("n1"),
        generation: 5,
        busy: [parsed("/shop/web~0.1")].into(),
        failed: vec![(parsed("8080"), "in use".into())],
        stuck: [(1, "a connection of 10.0.0.9:5000".into())].into(),
    }
}

fn route_table() -> RouteTable {
    RouteTable {
        generation: 6,
        listeners: vec![Listener {
            gateway: parsed("public"),
            listen: parsed("8080"),
            trust: [parsed("10.0.0.0/8")].into(),
            routes: vec![TableRoute {
                hosts: names(&["shop.example"]),
                path: "/api".into(),
                service: parsed("/shop/web"),
                backends: vec![Backend {
                    instance: parsed("/shop/web~0.1"),
                    address: "10.0.0.1:21000".into(),
                }],
                empty_because: Some("none is ready".into()),
            }],
        }],
    }
}
