//! Starts: the configuration of a container, and the messages when it cannot be started.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use agent::drivers::{Content, Driver as _, DriverEvent, LaunchFile};
use model::Signal;
use serde_json::json;

use crate::engine::{Engine, IMAGE};
use crate::harness::{Harness, WAIT_MAX};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The response on a port, once there is one.
fn read_port(port: u16) -> String {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port))
            && stream.read_to_string(&mut text).is_ok()
            && !text.is_empty()
        {
            return text;
        }
        assert!(Instant::now() < deadline, "nobody answers on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_run_starts_and_its_exit_code_is_reported() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let instance = harness.run(0, 1, "echo hi; exit 3").await;
    let exit = harness.exit(&instance, 1).await;
    assert_eq!(
        (exit.code(), exit.signal(), exit.to_string().as_str()),
        (Some(3), None, "exit code 3")
    );
    assert!(exit.at.0.abs_diff(now_ms()) < 30_000);

    let instance = harness.run(1, 1, "echo hi").await;
    assert_eq!(harness.exit(&instance, 1).await.code(), Some(0));
    assert_eq!(harness.events(), []);
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

#[tokio::test]
async fn simultaneous_exits_are_each_reported_once_in_order() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    for slot in 0..12 {
        harness.start(slot, 1, &format!("exit {slot}"));
    }
    for slot in 0..12 {
        let instance = harness.instance(slot);
        harness.started(&instance, 1).await;
        assert_eq!(harness.exit(&instance, 1).await.code(), Some(slot as i32));
    }
    assert_eq!(harness.events(), []);
}

#[tokio::test]
async fn a_container_on_the_bridge_is_reachable_at_its_mapped_port() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let more = json!({
        "container": {"network": "bridge"}, "ports": [{"container": 8080}],
        "env": {},
    });
    let mut launch = harness.launch(0, 1, "serve over the bridge", more.clone());
    launch.ports = vec![free_port()];
    launch.env = vec![("PORT0".into(), "8080".into())];
    harness.driver.start(launch.clone());
    harness.started(&launch.piece.instance, 1).await;
    assert_eq!(read_port(launch.ports[0]), "over the bridge");

    // No other run gets that port, and the message names the remedy.
    let mut other = harness.launch(1, 1, "serve x", more);
    other.ports = launch.ports.clone();
    harness.driver.start(other.clone());
    let (message, unavailable) = harness.failure(&other.piece.instance, 1).await;
    assert!(message.contains("already") && message.contains("leave `port` out"), "{message}");
    assert!(!unavailable);
    harness.containers_are(&["0.1-r1 running"]).await;
}

#[tokio::test]
async fn a_container_on_the_nodes_network_listens_on_its_port() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let port = free_port();
    let mut launch = harness.launch(0, 1, "serve on the node", json!({"ports": [{}]}));
    launch.ports = vec![port];
    launch.env = vec![("PORT0".into(), port.to_string())];
    harness.driver.start(launch.clone());
    harness.started(&launch.piece.instance, 1).await;
    assert_eq!(read_port(port), "on the node");
}

#[tokio::test]
async fn the_container_has_the_settings_of_the_spec() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let dir = tempfile::TempDir::new().unwrap();
    let source = dir.path().to_str().unwrap();
    let more = json!({
        "container": {
            "command": "env COLOR; uid; can-write /out; can-write /in; wait",
            "user": "65534",
            "volumes": [
                {"source": source, "target": "/out"},
                {"source": source, "target": "/in", "read_only": true},
            ],
        },
        "resources": {"cpu": 0.25, "memory": "32MiB"},
    });
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), permissions).unwrap();
    let mut launch = harness.launch(0, 1, "", more);
    launch.env = vec![("COLOR".into(), "dark red".into()), ("MUSTER_REVISION".into(), "7".into())];
    harness.driver.start(launch.clone());
    harness.started(&launch.piece.instance, 1).await;

    let format = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.CpuShares}} \
                  {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.LogConfig.Type}} \
                  {{index .Config.Labels \"muster.revision\"}} \
                  {{index .Config.Labels \"muster.instance\"}}";
    let filter = format!("label=muster.instance={}", launch.piece.instance);
    let id = harness.engine.docker(&["ps", "-q", "--filter", &filter]);
    let seen = harness.engine.docker(&["inspect", "--format", format, &id]);
    let memory = 32 << 20;
    assert_eq!(seen, format!("{memory} {memory} 256 no json-file 7 {}", launch.piece.instance));

    harness.stop(&launch.piece.instance, 1, WAIT_MAX);
    assert_eq!(harness.exit(&launch.piece.instance, 1).await.code(), Some(0));
    let expected = "COLOR=dark red\nuid 65534\nyes\nno\ntold by 15\n";
    assert_eq!(harness.output(0, None).await, expected);
}

#[tokio::test]
async fn a_failed_start_is_explained_and_leaves_no_container() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let cases = [
        (json!({"container": {"image": "muster-absent:1", "pull": "never"}}), "`pull: never`"),
        (json!({"container": {"image": "127.0.0.1:1/absent:1"}}), "cannot be reached"),
        (json!({"container": {"image": "Not An Image"}}), "not the name of an image"),
        (json!({"container": {"entrypoint": ["/nope"]}}), "no such program"),
        (json!({"container": {"user": "nobody-here"}}), "`container.user`"),
        (json!({"resources": {"memory": "1MiB"}}), "`resources.memory`"),
    ];
    for (slot, (more, expected)) in (0..).zip(cases) {
        let launch = harness.launch(slot, 1, "wait", more);
        harness.driver.start(launch.clone());
        let (message, unavailable) = harness.failure(&launch.piece.instance, 1).await;
        assert!(message.contains(expected) && !unavailable, "{message}");
    }
    let rest: Vec<_> = harness
        .events()
        .into_iter()
        .filter(|event| !matches!(event, DriverEvent::Preparing { .. }))
        .collect();
    assert_eq!(rest, []);
    harness.containers_are(&[]).await;
}

#[tokio::test]
async fn a_taken_container_name_does_not_prevent_a_start() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    // The container of an earlier attempt by this agent is removed; containers of other agents are
    // left alone.
    for (slot, agent) in [(0, harness_label(&harness)), (1, "muster.agent=other".to_string())] {
        let instance = harness.instance(slot);
        let name = format!("muster-{}-r1", instance.slug());
        let [instance, run] = [format!("muster.instance={instance}"), "muster.run=1".to_string()];
        let labels = ["-l", &agent, "-l", &instance, "-l", &run];
        let create = ["create", "--name", &name].into_iter().chain(labels);
        harness.engine.docker(&create.chain([IMAGE, "wait"]).collect::<Vec<_>>());
        harness.run(slot, 1, "wait").await;
    }
    let taken = format!("muster-{}-r1", harness.instance(1).slug());
    assert_eq!(
        harness.engine.docker(&["inspect", "--format", "{{.State.Status}}", &taken]),
        "created"
    );
    harness.engine.docker(&["rm", "-f", &taken]);
    assert_eq!(harness.containers().len(), 2);
}

fn harness_label(harness: &Harness) -> String {
    let name = harness.instance(0).service.to_string();
    format!("muster.agent={}", name.trim_start_matches('/').trim_end_matches("/web"))
}

#[tokio::test]
async fn files_are_in_the_container_when_it_starts() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine.clone()).await;
    let file = |path: &str, mode, owner: Option<&str>, content: &'static str| LaunchFile {
        path: path.into(),
        mode,
        owner: owner.map(String::from),
        content: Content::Bytes(content.into()),
    };
    let mut launch = harness.launch(0, 1, "wait", json!({"container": {"user": "7:8"}}));
    launch.files =
        vec![file("/etc/web/a.conf", 0o640, None, "one"), file("/check", 0o755, Some("9"), "two")];
    let instance = harness.instance(0);
    harness.driver.start(launch);
    harness.started(&instance, 1).await;
    let filter = format!("label=muster.instance={instance}");
    let container = engine.docker(&["ps", "-q", "--filter", &filter]);
    let copied = |path: &str| {
        let archive = engine.docker(&["cp", &format!("{container}:{path}"), "-"]);
        let mut archive = tar::Archive::new(archive.as_bytes());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let header = entry.header();
        let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
        (uid, gid, header.mode().unwrap() & 0o7777, content)
    };
    assert_eq!(copied("/etc/web/a.conf"), (7, 8, 0o640, "one".into()));
    assert_eq!(copied("/check"), (9, 9, 0o755, "two".into()));

    let mut launch = harness.launch(0, 1, "wait", json!({}));
    launch.files = vec![file("/check", 0o700, None, "three")];
    harness.driver.update_files(&launch, vec![Signal::Int]).await.unwrap();
    assert_eq!(copied("/check"), (0, 0, 0o700, "three".into()));
    let exit = harness.exit(&instance, 1).await;
    assert_eq!(exit.code(), Some(0), "the signal follows the file, and ends this program");
    let refused = harness.driver.update_files(&launch, vec![]).await.unwrap_err();
    assert!(refused.contains("does not run"), "{refused}");
}

#[tokio::test]
async fn a_file_in_the_place_of_a_directory_of_the_image_is_refused() {
    let Some(engine) = Engine::of_machine() else { return };
    let mut harness = Harness::new(engine).await;
    let mut launch = harness.launch(0, 1, "sleep 1000", json!({}));
    let (mode, owner) = (0o644, None);
    launch.files =
        vec![LaunchFile { path: "/proc".into(), mode, owner, content: Content::Bytes("x".into()) }];
    let instance = harness.instance(0);
    harness.driver.start(launch);
    let event = harness.event_of(&instance, 1).await;
    let DriverEvent::NotStarted { message, driver_unavailable: false, .. } = event else {
        panic!("{event:?}")
    };
    assert!(message.contains("cannot copy its files"), "{message}");
}
