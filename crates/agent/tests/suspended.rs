//! Suspending real processes: with a real keeper, which may be killed meanwhile.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{Exit, InstanceId, Piece, ResourceId, Signal, Spec};
use muster_agent::drivers::process::{Processes, Settings};
use muster_agent::drivers::{Driver, DriverEvent, Found, Launch};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use support::{LIMIT, eventually, keeper_of, kill_9};

#[test]
#[ignore = "runs in a child process of other tests, as their keeper"]
fn keeper_process() {
    support::be_keeper();
}

struct Node {
    dir: TempDir,
    driver: Option<Processes>,
    events: mpsc::UnboundedReceiver<DriverEvent>,
    settings: Settings,
}

fn piece() -> Piece {
    let instance: InstanceId = "/a~0.1".parse().unwrap();
    Piece { instance, resource: ResourceId::main(), run: 1 }
}

impl Node {
    /// A node with a run of this shell command, which has written its process id to `pid`.
    async fn running(command: &str) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            keeper_dir: dir.path().join("keeper"),
            logs_dir: dir.path().join("logs"),
            keeper_exe: support::keeper_exe(dir.path()),
            ephemeral: false,
            log_bytes_max: Settings::LOG_BYTES_MAX,
        };
        let (sender, events) = mpsc::unbounded_channel();
        let driver = Some(Processes::new(settings.clone(), sender));
        let mut node = Node { dir, driver, events, settings };
        node.driver().adopt().await.unwrap();
        let spec = json!({"service": "/a", "process": {"command": format!("{command} echo $$ > pid; wait")}});
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let env = vec![("PATH".to_string(), "/usr/bin:/bin".to_string())];
        std::fs::create_dir_all(node.path("")).unwrap();
        let (spec, dir) = (Arc::new(spec), node.path(""));
        let launch = Launch { piece: piece(), spec, ports: vec![], env, dir, files: vec![] };
        node.driver().start(launch);
        assert!(matches!(node.next().await, DriverEvent::Started { .. }));
        eventually("it runs", || node.pid("pid")).await;
        node
    }

    fn driver(&self) -> &Processes {
        self.driver.as_ref().unwrap()
    }

    fn restart_agent(&mut self) {
        self.driver = None;
        let (sender, events) = mpsc::unbounded_channel();
        self.driver = Some(Processes::new(self.settings.clone(), sender));
        self.events = events;
    }

    async fn found(&self) -> Found {
        self.driver().adopt().await.unwrap().remove(0)
    }

    async fn suspend(&self, suspend: bool) {
        self.driver().suspend(&piece(), suspend).await.unwrap();
    }

    async fn next(&mut self) -> DriverEvent {
        tokio::time::timeout(LIMIT, self.events.recv()).await.expect("an event in time").unwrap()
    }

    async fn exited(&mut self) -> Exit {
        match self.next().await {
            DriverEvent::Exited { exit, .. } => exit,
            event => panic!("expected an exit, got {event:?}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("instance").join(name)
    }

    fn pid(&self, name: &str) -> Option<i32> {
        std::fs::read_to_string(self.path(name)).ok()?.trim().parse().ok()
    }

    /// Whether the process with its id in that file uses CPU time, within a while.
    async fn is_busy(&self, name: &str) -> bool {
        let pid = self.pid(name).unwrap();
        let ticks = || -> u64 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
            fields.map(|field| field.parse::<u64>().unwrap()).sum()
        };
        let before = ticks();
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if ticks() > before {
                return true;
            }
        }
        false
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.driver = None;
        support::end_all(&self.settings.keeper_dir);
    }
}

/// A family of two busy processes, one of them in a session of its own.
const BUSY: &str = "(while :; do :; done) & echo $! > first; \
    setsid sh -c 'echo $$ > second; while :; do :; done' & \
    while [ ! -s second ]; do sleep 0.01; done; \
    trap 'echo caught > caught; exit 9' TERM;";

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_family_rests_until_it_is_resumed() {
    let node = Node::running(BUSY).await;
    for _ in 0..2 {
        node.suspend(true).await;
        node.suspend(true).await;
        assert!(!node.is_busy("first").await && !node.is_busy("second").await);
        node.suspend(false).await;
        node.suspend(false).await;
        assert!(node.is_busy("first").await);
        assert!(node.is_busy("second").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_run_receives_the_stop_signal() {
    let mut node = Node::running(BUSY).await;
    node.suspend(true).await;
    node.driver().stop(&piece(), Signal::Term, LIMIT);
    assert_eq!(node.exited().await.code(), Some(9));
    assert!(node.path("caught").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_run_that_ignores_the_stop_signal_is_killed() {
    let mut node = Node::running("trap '' TERM; (while :; do :; done) & echo $! > first;").await;
    node.suspend(true).await;
    node.driver().stop(&piece(), Signal::Term, Duration::from_millis(50));
    assert_eq!(node.exited().await.signal(), Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_finds_a_suspended_run() {
    let mut node = Node::running(BUSY).await;
    assert!(!node.found().await.suspended);
    node.suspend(true).await;
    node.restart_agent();
    assert!(node.found().await.suspended);
    node.suspend(false).await;
    node.restart_agent();
    assert!(!node.found().await.suspended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_run_survives_the_end_of_its_keeper() {
    let mut node = Node::running(BUSY).await;
    node.suspend(true).await;
    let keeper = keeper_of(&node.settings.keeper_dir).unwrap();
    kill_9(keeper);
    eventually("the next keeper runs", || {
        keeper_of(&node.settings.keeper_dir).filter(|pid| *pid != keeper)
    })
    .await;
    node.restart_agent();
    assert!(node.found().await.suspended);
    assert!(!node.is_busy("first").await && !node.is_busy("second").await);
    node.suspend(false).await;
    assert!(node.is_busy("first").await);
    node.suspend(true).await;
    node.driver().stop(&piece(), Signal::Term, LIMIT);
    // The exit code of a process that another keeper started is unknown.
    node.exited().await;
    assert!(node.path("caught").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_running_run_can_be_suspended() {
    let mut node = Node::running("").await;
    node.driver().stop(&piece(), Signal::Term, LIMIT);
    node.exited().await;
    let refused = node.driver().suspend(&piece(), true).await;
    assert_eq!(refused, Err("it does not run".into()));
}
