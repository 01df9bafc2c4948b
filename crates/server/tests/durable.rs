//! The state after a server has stopped, was killed, or could not write.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use api::{ApplyReply, Assignments, ErrorCode, path};
use model::InstanceId;
use serde_json::json;
use support::{Server, ready, refused, service, soon};

#[tokio::test]
async fn the_state_survives_a_restart_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path()).await;
    server.register("n1").await.unwrap();
    let gateway = "gateway: public\nlisten: 18080\nroutes: [{ to: /web:http }]\n";
    server.apply(&format!("{}---\n{gateway}", service("/web", 2))).await.unwrap();
    let ids: Vec<InstanceId> = ["/web~0.1", "/web~1.1"].map(|id| id.parse().unwrap()).into();
    let statuses = || ids.iter().map(|id| (id.clone(), ready())).collect();
    for round in 0..6 {
        server.report("n1", true, statuses()).await.unwrap();
        let stream = path::with(path::NODE_ASSIGNMENTS, "n1");
        let mut lines = server.client.follow(&stream).await.unwrap();
        let assigned: Assignments = soon(lines.next_document()).await.unwrap().unwrap();
        let assigned = assigned.set.into_iter().map(|assignment| assignment.instance);
        let assigned: Vec<_> = assigned.filter(|id| id.service.as_str() == "/web").collect();
        assert_eq!(assigned, ids, "instances stay what and where they are");
        let body = json!({"service": "/other", "instances": round});
        if round == 0 {
            server.apply(&service("/other", 0)).await.unwrap();
        } else {
            server.client.post::<ApplyReply>(path::SCALE, &body).await.unwrap();
        }
        match round % 2 {
            0 => server.stop().await.unwrap(),
            _ => server.kill().await,
        }
        server = Server::start(dir.path()).await;
        let other: api::ServiceView = server.client.get("/v1/services/other").await.unwrap();
        assert_eq!(other.instances, round, "what was acknowledged is kept");
        let again = server.apply(gateway).await.unwrap();
        assert_eq!(again.changes[0].verdict, model::ChangeKind::Unchanged);
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_server_fails_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let first = Server::start(dir.path()).await;
    let Err(error) = Server::try_start(dir.path()).await else { panic!("there are two") };
    let message = error.to_string();
    assert!(message.contains("in use by another process"), "{message}");
    assert!(message.contains("choose another data directory"), "{message}");
    first.apply(&service("/web", 1)).await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_answered_when_the_server_stops() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    server.apply(&service("/web", 0)).await.unwrap();
    // Each asks for a different number: asking for the current one would make no revision.
    let requests = (1..=64).map(|i| {
        let client = server.client.clone();
        let body = json!({"service": "/web", "instances": i});
        tokio::spawn(async move { client.post::<ApplyReply>(path::SCALE, &body).await })
    });
    let requests: Vec<_> = requests.collect();
    tokio::task::yield_now().await;
    server.stop().await.unwrap();
    let mut carried_out = 0;
    for request in requests {
        match soon(request).await.unwrap() {
            Ok(_) => carried_out += 1,
            // The request came too late; its effect is unknown.
            Err(api::Error::Refused(body)) => assert_eq!(body.code, ErrorCode::Unavailable),
            Err(api::Error::Unreachable { .. } | api::Error::Timeout { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let server = Server::start(dir.path()).await;
    let web: api::ServiceView = server.client.get("/v1/services/web").await.unwrap();
    assert!(web.revision > carried_out, "each of {carried_out} is a revision after the first");
    server.stop().await.unwrap();
}

/// A small disk that is mounted until this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Disk> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(at);
        let works = mount.output().is_ok_and(|output| output.status.success());
        works.then(|| Disk(at.into()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_rejects_changes_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = Disk::mount(dir.path()) else {
        eprintln!("skipped: only root can mount a small disk");
        return;
    };
    let server = Server::start(&dir.path().join("data")).await;
    server.register("n1").await.unwrap();
    server.apply(&service("/web", 1)).await.unwrap();
    let web: InstanceId = "/web~0.1".parse().unwrap();

    let filler = dir.path().join("filler");
    let _ = fs::write(&filler, vec![1; 8 << 20]);
    let before = server.shown().await;
    // Allocated pages may still have space.
    let mut applied = Vec::new();
    let failure = loop {
        let text = format!("{}labels: {{ a: \"{}\" }}\n", service("/big", 0), "x".repeat(50_000));
        let text = text.replace("/big", &format!("/big{}", applied.len()));
        match server.apply(&text).await {
            Ok(_) => applied.push(format!("/v1/services/big{}", applied.len())),
            Err(error) => break refused::<()>(Err(error)),
        }
        assert!(applied.len() < 200, "the disk is never full");
    };
    assert_eq!(failure.code, ErrorCode::Unavailable);
    assert!(failure.message.contains("nothing was changed"), "{}", failure.message);
    assert!(failure.hint.is_some_and(|hint| hint.contains("disk")));
    if applied.is_empty() {
        assert_eq!(before, server.shown().await);
    }
    // Reports are accepted, and reads get responses.
    server.report("n1", true, vec![(web, ready())]).await.unwrap();
    server.client.get::<serde_json::Value>(path::INSTANCES).await.unwrap();

    fs::remove_file(&filler).unwrap();
    server.apply(&service("/more", 1)).await.unwrap();
    applied.push("/v1/services/more".into());
    server.stop().await.unwrap();
    let server = Server::start(&dir.path().join("data")).await;
    for path in applied {
        server.client.get::<api::ServiceView>(&path).await.unwrap();
    }
    server.stop().await.unwrap();
}
