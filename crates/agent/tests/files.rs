//! Files of processes, from the assignment to the disk, by a complete agent with real processes.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use futures_util::StreamExt as _;
use model::Phase;
use serde_json::json;
use tokio::net::TcpListener;

use support::eventually;
use support::server::{Agent, Server, assignment, setup};

#[test]
#[ignore = "runs in a child process of other tests, as their keeper"]
fn keeper_process() {
    support::be_keeper();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_before_the_process_starts_and_again_before_each_run() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let agent = Agent::start(&server, &dir, false);
    let wanted = assignment(
        "a",
        json!({
            "process": {"command": "cat etc/a.conf >> seen; echo changed > etc/a.conf; ./wait"},
            "files": [
                {"path": "etc/a.conf", "text": {"template": "run ${run} on ${node.name}\n"}},
                {"path": "wait", "base64": "IyEvYmluL3NoCmV4ZWMgc2xlZXAgMTAwMAo=", "mode": "0600",
                 "executable": true},
            ],
        }),
    );
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    let seen = agent.path(&id, "seen");
    let has_seen = |text: &str| {
        let text = text.to_string();
        let seen = seen.clone();
        move || fs::read_to_string(&seen).ok().filter(|seen| *seen == text)
    };
    eventually("the first run reads its file", has_seen("run 1 on n1\n")).await;
    let mode = fs::metadata(agent.path(&id, "wait")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o711);
    let keeper = support::keeper_of(&dir.path().join("agent/keeper")).unwrap();
    let children = format!("/proc/{keeper}/task/{keeper}/children");
    let child: i32 = eventually("the process runs", || {
        fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()
    })
    .await;
    support::kill_9(child);
    eventually("the second run reads it anew", has_seen("run 1 on n1\nrun 2 on n1\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_a_service_has_made_is_not_followed_by_its_next_run() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let agent = Agent::start(&server, &dir, false);
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let wanted = assignment(
        "a",
        json!({
            "process": {"command": format!("rm -r etc; ln -s {} etc; exit 1", outside.display())},
            "files": [{"path": "etc/a.conf", "text": "x"}],
        }),
    );
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    let says_why = |status: &model::Status| {
        let message = status.message.as_deref().unwrap_or_default();
        message.contains("etc/a.conf is, or leads through, a link")
    };
    let status = server.until("the second run does not start", &id, says_why).await;
    assert_eq!(status.phase, Phase::Starting, "it is tried again, with the usual delays");
    assert!(agent.path(&id, "etc").is_symlink());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_belong_to_the_user_of_the_process_or_to_their_owner() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED: only root can give files to others");
        return;
    }
    let (dir, _cleanup) = setup();
    // The user of the process must be able to enter the directory of its instance.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::new().await;
    let agent = Agent::start(&server, &dir, false);
    let wanted = assignment(
        "a",
        json!({
            "process": {"command": "exec sleep 1000", "user": "1234:99"},
            "files": [
                {"path": "etc/own", "text": "x", "mode": "0400"},
                {"path": "other", "text": "x", "owner": "77:88"},
            ],
        }),
    );
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    server.until("a runs", &id, |status| status.phase == Phase::Running).await;
    let owner = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner(&agent.path(&id, "etc")), (1234, 99));
    assert_eq!(owner(&agent.path(&id, "etc/own")), (1234, 99));
    assert_eq!(owner(&agent.path(&id, "other")), (77, 88));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_signal_changes_without_a_restart() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let agent = Agent::start(&server, &dir, false);
    let with = |text: &str| {
        let command = "trap 'cat a >> seen' HUP; echo up >> seen; while :; do sleep 0.02; done";
        let file = json!({"path": "a", "text": text, "on_change": {"signal": "SIGHUP"}});
        assignment("a", json!({"process": {"command": command}, "files": [file]}))
    };
    let wanted = with("one\n");
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    let seen = agent.path(&id, "seen");
    let has_seen =
        |text: &'static str| move |seen: &Path| fs::read_to_string(seen).is_ok_and(|s| s == text);
    let up = has_seen("up\n");
    eventually("it is up", || up(&seen).then_some(())).await;
    server.want(vec![with("two\n")]);
    let reloaded = has_seen("up\ntwo\n");
    eventually("it reads the new file", || reloaded(&seen).then_some(())).await;
    assert_eq!(server.status(&id).unwrap().run, 1);
}

/// A server with an archive of the program `bin/run`, a file that never ends and a missing one.
async fn artifacts() -> (std::net::SocketAddr, Vec<u8>) {
    let mut archive = tar::Builder::new(Vec::new());
    let program = b"#!/bin/sh\necho fetched > seen; exec sleep 1000\n";
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(program.len() as u64);
    archive.append_data(&mut header, "bin/run", &program[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    let content = archive.clone();
    let endless = || async {
        let start = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from("start"))]);
        Body::from_stream(start.chain(futures_util::stream::pending()))
    };
    let router =
        Router::new().route("/app.tar", get(|| async { content })).route("/endless", get(endless));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    (address, archive)
}

fn checksum(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    model::Sha256(digest.as_ref().try_into().unwrap()).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_fetched_and_unpacked_before_the_process_starts() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let agent = Agent::start(&server, &dir, false);
    let (address, archive) = artifacts().await;
    let wanted = assignment(
        "a",
        json!({
            "process": {"command": ["app/bin/run"]},
            "files": [{"path": "app", "url": format!("http://{address}/app.tar"), "extract": true,
                       "sha256": checksum(&archive)}],
        }),
    );
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    let seen = agent.path(&id, "seen");
    let is_seen = || fs::read_to_string(&seen).is_ok_and(|seen| seen == "fetched\n");
    eventually("the fetched program runs", || is_seen().then_some(())).await;
    let kept = fs::read_dir(dir.path().join("agent/fetched")).unwrap().flatten();
    let kept: Vec<_> = kept.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(kept, [checksum(&archive)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_fetched_is_explained_and_tried_again_with_delays() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let _agent = Agent::start(&server, &dir, false);
    let (address, archive) = artifacts().await;
    let wanted = assignment(
        "a",
        json!({
            "process": {"command": "true"},
            "files": [{"path": "a", "url": format!("http://{address}/missing"),
                       "sha256": checksum(&archive)}],
        }),
    );
    let id = wanted.instance.clone();
    server.want(vec![wanted]);
    let is_explained = |status: &model::Status| {
        let message = status.message.as_deref().unwrap_or_default();
        status.failures >= 2 && message.contains("/missing returns 404 Not Found; check `url`")
    };
    let status = server.until("the second attempt has failed", &id, is_explained).await;
    assert_eq!(status.phase, Phase::Starting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_in_progress_is_shown_and_ends_with_its_instance_and_its_agent() {
    let (dir, _cleanup) = setup();
    let server = Server::new().await;
    let mut agent = Agent::start(&server, &dir, false);
    let (address, archive) = artifacts().await;
    let with = |path: &str| {
        let url = format!("http://{address}{path}");
        let file = json!({"path": "a", "url": url, "sha256": checksum(&archive)});
        assignment("a", json!({"process": {"command": "exec sleep 1000"}, "files": [file]}))
    };
    let mut wanted = with("/endless");
    let id = wanted.instance.clone();
    server.want(vec![wanted.clone()]);
    let is_fetching = |status: &model::Status| {
        status.message.as_deref().is_some_and(|message| message.starts_with("fetching http://"))
    };
    let status = server.until("it is being fetched", &id, is_fetching).await;
    assert_eq!((status.phase, status.run), (Phase::Starting, 1));
    // The next agent begins the fetch, and the start, anew.
    agent.end().await;
    let _agent = Agent::start(&server, &dir, false);
    server.until("it is fetched again", &id, |status| is_fetching(status) && status.run > 1).await;
    wanted.goal = api::Assigned::Stop;
    server.want(vec![wanted]);
    server.until("its stop ends the fetch", &id, |status| status.phase == Phase::Stopped).await;
}
