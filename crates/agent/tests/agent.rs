//! A complete agent with real processes, against a minimal server.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Assigned, Assignment};
use axum::Router;
use axum::routing::get;
use model::{InstanceId, Phase, Status};
use muster_agent::Error;
use serde_json::json;
use tokio::net::TcpListener;

use support::eventually;
use support::server::{Agent, Server, assignment, options, setup};

#[test]
#[ignore = "runs in a child process of other tests, as their keeper"]
fn keeper_process() {
    support::be_keeper();
}

/// An agent in its own process, which can be killed.
#[test]
#[ignore = "runs in a child process of another test, as its agent"]
fn agent_process() {
    let var = |name| std::env::var(name).expect("only run by another test");
    let (dir, port) = (var("MUSTER_TEST_AGENT_DIR"), var("MUSTER_TEST_AGENT_PORT"));
    let options = options(port.parse().unwrap(), Path::new(&dir), false);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(muster_agent::run(options, std::future::pending())).unwrap();
}

fn sleeper(name: &str) -> Assignment {
    assignment(name, json!({"process": {"command": "echo $$ >> pids; exec sleep 1000"}}))
}

fn pids(path: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_runs_restarts_and_stops() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let agent = Agent::start(&server, &dir, false);
    let wanted = sleeper("a");
    let id = wanted.instance.clone();
    server.want(vec![wanted.clone()]);
    let status = server.until("a runs", &id, |s| s.phase == Phase::Running).await;
    assert_eq!((status.run, status.ready, status.healthy), (1, true, None));
    {
        let received = server.received.lock().unwrap();
        let registered = received.registrations[0].agent.as_ref().unwrap();
        assert!(registered.capabilities.contains("process") && registered.capacity.cpu.0 >= 1000);
        assert!(received.reports[0].whole);
    }
    let path = agent.path(&id, "pids");
    let first = eventually("it has written", || pids(&path).first().copied()).await;
    let begun = Instant::now();
    support::kill_9(first);
    let status = server.until("a runs again", &id, |s| s.run == 2 && s.phase == Phase::Running);
    let status = status.await;
    println!("running again after {:?}", begun.elapsed());
    assert_eq!((status.failures, status.last_exit.unwrap().signal()), (1, Some(9)));
    let mut stop = wanted;
    stop.goal = Assigned::Stop;
    server.want(vec![stop]);
    server.until("a is stopped", &id, |s| s.phase == Phase::Stopped).await;
    server.want(vec![]);
    let dir = agent.path(&id, "");
    eventually("a is forgotten", || (!dir.exists()).then_some(())).await;
    let logs = dir.ancestors().nth(2).unwrap().join("logs").join(id.slug());
    eventually("so are its logs", || (!logs.exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_probes_refer_to_facts_of_the_run() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let agent = Agent::start(&server, &dir, false);
    let wanted = assignment(
        "facts",
        json!({
            "process": {
                "command": {"template": "echo ${instance} ${run} > facts; exec sleep 1000"},
                "workdir": {"template": "${dir}"},
            },
            "readiness": {
                "probe": {"command": ["grep", "-q", {"template": "${service}~0.1 1"}, "facts"]},
                "interval": "10ms",
            },
        }),
    );
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    server.until("it is ready", &id, |s| s.ready).await;
    let facts = std::fs::read_to_string(agent.path(&id, "facts")).unwrap();
    assert_eq!(facts, "/facts~0.1 1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_is_reported_and_retried() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let _agent = Agent::start(&server, &dir, false);
    let document = json!({
        "process": {"command": ["no-such-program"]},
        "restart": {"backoff": "10ms", "max": "20ms"},
    });
    let wanted = assignment("a", document);
    let id = wanted.instance.clone();
    server.want(vec![wanted, assignment("c", json!({"container": {"image": "x"}}))]);
    let status = server.until("it is tried again", &id, |s| s.failures >= 3).await;
    let message = status.message.unwrap();
    assert!(message.contains("no program `no-such-program`"), "{message}");
    assert_eq!(status.phase, Phase::Starting);
    let c = "/c~0.1".parse().unwrap();
    let status = server.until("c says why", &c, |s| s.message.is_some()).await;
    assert_eq!(status.message.unwrap(), "this node runs no containers");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_outlive_the_agent_and_a_restart_without_a_server() {
    let (dir, _cleanup) = setup();
    let mut server = Server::new().await;
    let mut agent = Agent::start(&server, &dir, false);
    let document = json!({
        "process": {"command": "echo $$ >> pids; exec sleep 1000"},
        "health": [{"probe": {"command": "true"}}],
    });
    let wanted = assignment("a", document);
    let id = wanted.instance.clone();
    server.want(vec![wanted, sleeper("b")]);
    server.until("a is healthy", &id, |s| s.healthy == Some(true)).await;
    let b: InstanceId = "/b~0.1".parse().unwrap();
    server.until("b runs", &b, |s| s.phase == Phase::Running).await;
    let (a_pids, b_pids) = (agent.path(&id, "pids"), agent.path(&b, "pids"));
    let b_pid = eventually("b has written", || pids(&b_pids).first().copied()).await;
    server.close().await;
    agent.end().await;
    support::kill_9(b_pid);
    let agent = Agent::start(&server, &dir, false);
    // No server is connected, but b must be restarted and a must keep running.
    eventually("b runs again", || (pids(&b_pids).len() == 2).then_some(())).await;
    assert_eq!(pids(&a_pids).len(), 1);
    server.received.lock().unwrap().reports.clear();
    server.open().await;
    eventually("it reports again", || {
        (!server.received.lock().unwrap().reports.is_empty()).then_some(())
    })
    .await;
    let first = server.received.lock().unwrap().reports[0].clone();
    assert!(first.whole);
    let status = &first.instances.iter().find(|(other, _)| *other == id).unwrap().1;
    assert_eq!((status.phase, status.run, status.healthy), (Phase::Running, 1, Some(true)));
    let status = server.until("b runs", &b, |s| s.phase == Phase::Running).await;
    assert_eq!(status.run, 2);
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_agent_leaves_instances_running() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let wanted = [sleeper("a"), sleeper("b")];
    server.want(wanted.to_vec());
    let path = |wanted: &Assignment| {
        dir.path().join("agent/instances").join(wanted.instance.slug()).join("pids")
    };
    let begin = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "agent_process", "--ignored", "--nocapture"])
            .env("MUSTER_TEST_AGENT_DIR", dir.path())
            .env("MUSTER_TEST_AGENT_PORT", server.port.to_string())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    for _ in 0..5 {
        server.received.lock().unwrap().statuses.clear();
        let mut agent = begin();
        for wanted in &wanted {
            let running = |status: &Status| status.phase == Phase::Running;
            let status = server.until("it runs", &wanted.instance, running).await;
            assert_eq!((status.run, status.failures), (1, 0));
            eventually("it has written", || pids(&path(wanted)).first().copied()).await;
        }
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
    for wanted in &wanted {
        assert_eq!(pids(&path(wanted)).len(), 1, "it was started once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_removal_is_retried_by_the_next_agent() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let mut agent = Agent::start(&server, &dir, false);
    let wanted = sleeper("a");
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    server.until("a runs", &id, |s| s.phase == Phase::Running).await;
    agent.end().await;
    let left = ["instances/gone-0.1", "logs/gone-0.1", "logs/gone-1.1"]
        .map(|path| dir.path().join("agent").join(path));
    for dir in &left {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("stdout"), "left").unwrap();
    }
    let agent = Agent::start(&server, &dir, false);
    for dir in &left {
        eventually("it is removed", || (!dir.exists()).then_some(())).await;
    }
    let logs = dir.path().join("agent/logs").join(id.slug());
    assert!(agent.path(&id, "pids").exists() && logs.join("stdout").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_agent_leaves_no_process_or_file() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let mut agent = Agent::start(&server, &dir, true);
    let wanted = sleeper("a");
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    server.until("a runs", &id, |s| s.phase == Phase::Running).await;
    let path = agent.path(&id, "pids");
    let pid = eventually("it has written", || pids(&path).first().copied()).await;
    agent.end().await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_cannot_share_a_directory() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let _first = Agent::start(&server, &dir, false);
    eventually("the first one is there", || {
        (!server.received.lock().unwrap().registrations.is_empty()).then_some(())
    })
    .await;
    let mut second = Agent::start(&server, &dir, false);
    let outcome = second.running.take().unwrap().await.unwrap();
    assert!(matches!(outcome, Err(Error::Disk(muster_agent::DiskError::InUse { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_probes_determine_health_and_logs_are_served() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let _agent = Agent::start(&server, &dir, false);
    // The test itself responds in place of the instance.
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = healthy.clone();
    let answer = move || {
        let healthy = answers.load(std::sync::atomic::Ordering::Relaxed);
        std::future::ready(http::StatusCode::from_u16(if healthy { 200 } else { 503 }).unwrap())
    };
    tokio::spawn(async { axum::serve(listener, Router::new().route("/up", get(answer))).await });
    let check = json!([{
        "probe": {"http": {"path": "/up", "port": "http"}},
        "interval": "20ms", "grace": "0s", "failures": 3,
    }]);
    let document = json!({
        "process": {"command": "echo hello; echo $PORT_HTTP; exec sleep 1000"},
        "ports": [{"name": "http", "port": port}], "health": check,
        "readiness": {"probe": {"tcp": {"port": 0}}},
    });
    let mut wanted = assignment("a", document);
    wanted.given.ports = vec![port];
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    let status = server.until("it is healthy", &id, |s| s.healthy == Some(true) && s.ready).await;
    assert!(status.checks[0].first_success.is_some());
    healthy.store(false, std::sync::atomic::Ordering::Relaxed);
    let status = server.until("it is unhealthy", &id, |s| s.healthy == Some(false)).await;
    assert_eq!(status.checks[0].last_failure_cause.as_deref(), Some("answered 503"));
    assert_eq!((status.phase, status.run), (Phase::Running, 1));

    let log_port = server.received.lock().unwrap().registrations[0].agent.as_ref().unwrap().port;
    let client = api::Client::new(&format!("http://127.0.0.1:{log_port}")).unwrap();
    let path = |instance: &str| {
        let pairs = [("instance", instance.to_string()), ("stream", "stdout".to_string())];
        api::path::query(api::path::LOGS, pairs)
    };
    let mut lines = client.lines(&path("/a~0.1")).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "hello");
    assert_eq!(lines.next().await.unwrap().unwrap(), port.to_string());
    assert!(lines.next().await.unwrap().is_none());
    let refused = client.lines(&path("/nobody~0.1")).await.unwrap_err();
    assert!(matches!(refused, api::Error::Refused(body) if body.code == api::ErrorCode::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_sent_on_time() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let _agent = Agent::start(&server, &dir, false);
    let reports = || server.received.lock().unwrap().reports.len();
    eventually("the first report", || (reports() == 1).then_some(())).await;
    let begun = Instant::now();
    eventually("the second report", || (reports() == 2).then_some(())).await;
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
}
