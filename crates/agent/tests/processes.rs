//! The process driver with real processes and a real keeper.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::LogStream;
use futures_util::StreamExt;
use model::{CommandLine, Exit, InstanceId, InstanceResource, Piece, ResourceId, Signal, Spec};
use muster_agent::drivers::process::{Processes, Settings};
use muster_agent::drivers::{
    CommandOutcome, Driver, DriverEvent, Found, Launch, OutputQuery, PartQuery,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use support::{LIMIT, eventually, keeper_of, kill_9};

#[test]
#[ignore = "runs in a child process of other tests, as their keeper"]
fn keeper_process() {
    support::be_keeper();
}

/// A node's directory and its process driver.
struct Node {
    dir: TempDir,
    driver: Option<Processes>,
    events: mpsc::UnboundedReceiver<DriverEvent>,
    settings: Settings,
}

impl Node {
    fn new() -> Node {
        Node::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            keeper_dir: dir.path().join("keeper"),
            logs_dir: dir.path().join("logs"),
            keeper_exe: support::keeper_exe(dir.path()),
            ephemeral: false,
            log_bytes_max: Settings::LOG_BYTES_MAX,
        };
        change(&mut settings);
        let (sender, events) = mpsc::unbounded_channel();
        let driver = Some(Processes::new(settings.clone(), sender));
        Node { dir, driver, events, settings }
    }

    fn driver(&self) -> &Processes {
        self.driver.as_ref().unwrap()
    }

    async fn adopt(&self) -> Vec<Found> {
        self.driver().adopt().await.unwrap()
    }

    /// Simulates that the agent is killed and started again.
    fn restart(&mut self) {
        self.driver = None;
        let (sender, events) = mpsc::unbounded_channel();
        self.driver = Some(Processes::new(self.settings.clone(), sender));
        self.events = events;
    }

    fn keeper(&self) -> i32 {
        keeper_of(&self.settings.keeper_dir).expect("the keeper runs")
    }

    fn launch(&self, name: &str, run: u32, command: &str) -> Launch {
        self.launch_with(name, run, json!({"process": {"command": command}}))
    }

    fn launch_with(&self, name: &str, run: u32, mut document: serde_json::Value) -> Launch {
        document["service"] = json!(format!("/{name}"));
        let spec: Spec = serde_json::from_value(document).unwrap();
        let instance = id(name);
        let dir = self.dir.path().join("instances").join(instance.slug());
        std::fs::create_dir_all(&dir).unwrap();
        let path = ("PATH".to_string(), "/usr/bin:/bin".to_string());
        let greeting = ("GREETING".to_string(), "hello".to_string());
        let env = vec![path, greeting];
        let piece = Piece { instance, resource: ResourceId::main(), run };
        Launch { piece, spec: Arc::new(spec), ports: Vec::new(), env, dir, files: Vec::new() }
    }

    fn start(&self, name: &str, run: u32, command: &str) {
        self.driver().start(self.launch(name, run, command));
    }

    /// Starts an instance that runs until it is stopped, with its process id in the file `pid`.
    async fn run_forever(&mut self, name: &str) -> Launch {
        self.adopt().await;
        let launch = self.launch(name, 1, "echo $$ > pid; exec sleep 1000");
        self.driver().start(launch.clone());
        self.started().await;
        eventually("it runs", || pid_in(launch.dir.join("pid"))).await;
        launch
    }

    fn stop(&self, name: &str, run: u32, grace: Duration) {
        self.driver().stop(&of(name).run(run), Signal::Term, grace);
    }

    async fn next(&mut self) -> DriverEvent {
        tokio::time::timeout(LIMIT, self.events.recv()).await.expect("an event in time").unwrap()
    }

    async fn started(&mut self) -> u32 {
        match self.next().await {
            DriverEvent::Started { piece, .. } => piece.run,
            event => panic!("expected a start, got {event:?}"),
        }
    }

    async fn exited(&mut self) -> Exit {
        match self.next().await {
            DriverEvent::Exited { exit, .. } => exit,
            event => panic!("expected an exit, got {event:?}"),
        }
    }

    async fn output(&self, name: &str, tail: Option<u32>) -> String {
        let query = OutputQuery { stream: LogStream::All, tail, follow: false };
        let mut output = self.driver().output(&of(name), query).await.unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = output.next().await {
            text.extend_from_slice(&chunk.unwrap());
        }
        String::from_utf8(text).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.driver = None;
        support::end_all(&self.settings.keeper_dir);
    }
}

fn id(name: &str) -> InstanceId {
    format!("/{name}~0.1").parse().unwrap()
}

fn of(name: &str) -> InstanceResource {
    InstanceResource { instance: id(name), resource: ResourceId::main() }
}

fn pid_in(path: PathBuf) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_follow_each_other_and_write_output() {
    let mut node = Node::new();
    assert_eq!(node.adopt().await, []);
    node.start("a", 1, "echo $GREETING $HOME$USER; echo oops >&2; exit 3");
    assert_eq!(node.started().await, 1);
    let exit = node.exited().await;
    assert_eq!(
        (exit.code(), exit.signal(), exit.to_string().as_str()),
        (Some(3), None, "exit code 3")
    );
    node.start("a", 2, "kill -SEGV $$");
    assert_eq!(node.started().await, 2);
    let exit = node.exited().await;
    assert_eq!((exit.code(), exit.signal()), (None, Some(11)));
    assert_eq!(node.output("a", None).await, "hello\noops\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_reports_its_cause() {
    let mut node = Node::new();
    node.adopt().await;
    let cases = [
        (json!({"process": {"command": ["no-such-program"]}}), "no program `no-such-program`"),
        (json!({"process": {"command": ["/etc/passwd"]}}), "may not be executed"),
        (json!({"process": {"command": "true", "workdir": "/no/dir"}}), "no directory /no/dir"),
        (json!({"process": {"command": "true", "user": "no-such-user"}}), "no user"),
    ];
    for (index, (document, expected)) in cases.into_iter().enumerate() {
        let run = u32::try_from(index).unwrap() + 1;
        node.driver().start(node.launch_with("a", run, document));
        match node.next().await {
            DriverEvent::NotStarted { message, driver_unavailable: false, .. } => {
                assert!(message.contains(expected), "{message}");
            }
            event => panic!("got {event:?}"),
        }
    }
}

/// Makes the start of an instance hang, as on a file system that does not respond. It continues
/// once the returned file is opened for reading.
fn hang(node: &Node, name: &str) -> PathBuf {
    let dir = node.settings.logs_dir.join(id(name).slug());
    std::fs::create_dir_all(&dir).unwrap();
    let pipe = dir.join("stdout");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    pipe
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_start_does_not_delay_others() {
    let mut node = Node::new();
    node.adopt().await;
    let names = ["a", "b", "c", "d"];
    let pipes = names.map(|name| hang(&node, name));
    for name in names {
        node.start(name, 1, "touch ran");
    }
    node.start("f", 1, "exit 6");
    let mut ended = None;
    for _ in 0..names.len() + 2 {
        match node.next().await {
            DriverEvent::NotStarted { message, driver_unavailable: false, .. } => {
                assert!(message.contains("has not returned within"), "{message}");
            }
            DriverEvent::Started { piece, .. } => assert_eq!(piece.instance, id("f")),
            DriverEvent::Exited { exit, .. } => ended = exit.code(),
            event => panic!("got {event:?}"),
        }
    }
    assert_eq!(ended, Some(6));
    // A cancelled start that has not returned prevents another one; its program must not run.
    node.start("a", 2, "touch ran");
    match node.next().await {
        DriverEvent::NotStarted { message, .. } => assert!(message.contains("cancelled")),
        event => panic!("got {event:?}"),
    }
    let runs = node.settings.keeper_dir.join("runs/a-0.1.id");
    assert!(!runs.exists());
    let _open = pipes.map(|pipe| std::fs::File::open(pipe).unwrap());
    std::fs::remove_file(node.settings.logs_dir.join(id("a").slug()).join("stdout")).unwrap();
    for run in 3.. {
        node.start("a", run, "exit 7");
        match node.next().await {
            DriverEvent::Started { .. } => break,
            DriverEvent::NotStarted { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
            event => panic!("got {event:?}"),
        }
    }
    assert_eq!(node.exited().await.code(), Some(7));
    assert!(!node.launch("a", 1, "").dir.join("ran").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_start_does_not_block_a_new_agent() {
    let mut node = Node::new();
    node.adopt().await;
    let pipe = hang(&node, "a");
    node.start("b", 1, "exec sleep 1000");
    node.started().await;
    node.start("a", 1, "touch ran");
    eventually("the start is under way", || {
        node.settings.keeper_dir.join("runs/a-0.1.json").exists().then_some(())
    })
    .await;
    let keeper = node.keeper();
    node.restart();
    let found: Vec<_> = node.adopt().await.into_iter().map(|found| found.piece.instance).collect();
    assert_eq!(found, [id("b")]);
    assert_eq!(node.keeper(), keeper);
    drop(std::fs::File::open(pipe).unwrap());
    node.stop("b", 1, Duration::from_secs(10));
    assert_eq!(node.exited().await.signal(), Some(15));
    assert!(!node.launch("a", 1, "").dir.join("ran").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_survives_an_agent_restart() {
    let mut node = Node::new();
    node.adopt().await;
    node.start("a", 1, "while [ ! -e go ]; do sleep 0.01; done; exit 7");
    node.start("b", 1, "exec sleep 1000");
    let dir = node.launch("a", 1, "").dir;
    assert_eq!((node.started().await, node.started().await), (1, 1));
    node.driver = None;
    std::fs::write(dir.join("go"), "").unwrap();
    let record = node.settings.keeper_dir.join("runs/a-0.1.json");
    eventually("the end is recorded", || {
        std::fs::read_to_string(&record).ok().filter(|text| text.contains("exit code 7"))
    })
    .await;
    node.restart();
    let found = node.adopt().await;
    let found: BTreeMap<_, _> = found.into_iter().map(|f| (f.piece.instance.clone(), f)).collect();
    assert_eq!(found[&id("a")].exit.as_ref().and_then(|exit| exit.code()), Some(7));
    assert_eq!((found[&id("b")].piece.run, found[&id("b")].exit.clone()), (1, None));
    // An adopted run is watched.
    node.stop("b", 1, Duration::from_secs(10));
    assert_eq!(node.exited().await.signal(), Some(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_keeper_leaves_processes_running() {
    let mut node = Node::new();
    node.adopt().await;
    node.start("a", 1, "echo $$ > pid; exec sleep 1000");
    node.start("b", 1, "echo $$ > pid; exec sleep 1000");
    node.started().await;
    node.started().await;
    let pid = |name| pid_in(node.launch(name, 1, "").dir.join("pid"));
    let a = eventually("a runs", || pid("a")).await;
    let b = eventually("b runs", || pid("b")).await;
    let keeper = node.keeper();
    kill_9(keeper);
    eventually("the next keeper runs", || {
        keeper_of(&node.settings.keeper_dir).filter(|pid| *pid != keeper)
    })
    .await;
    assert!(is_alive(a) && is_alive(b));
    // The next keeper stops runs that it did not start, and detects the end of processes that are
    // not its children.
    node.stop("a", 1, Duration::from_secs(10));
    let exit = node.exited().await;
    assert_eq!((exit.code(), exit.signal()), (None, None), "{exit}");
    assert!(!is_alive(a) && is_alive(b));
    kill_9(b);
    node.exited().await;
    node.start("b", 2, "exit 4");
    node.started().await;
    assert_eq!(node.exited().await.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_without_agent_and_keeper_is_detected_later() {
    let mut node = Node::new();
    node.adopt().await;
    node.start("a", 1, "echo $$ > pid; exec sleep 1000");
    node.started().await;
    let pid = pid_in(node.launch("a", 1, "").dir.join("pid"));
    let pid = match pid {
        Some(pid) => pid,
        None => {
            let path = node.launch("a", 1, "").dir.join("pid");
            eventually("a runs", || pid_in(path.clone())).await
        }
    };
    node.driver = None;
    kill_9(node.keeper());
    kill_9(pid);
    eventually("a is dead", || (!is_alive(pid)).then_some(())).await;
    node.restart();
    let found = node.adopt().await;
    assert_eq!(found.len(), 1);
    let exit = found[0].exit.as_ref().expect("it has ended");
    assert_eq!((exit.code(), exit.signal()), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_kills_processes_that_ignore_the_signal_with_their_children() {
    let mut node = Node::new();
    node.adopt().await;
    node.start(
        "a",
        1,
        "trap '' TERM; sleep 1000 & echo $! > child; setsid sleep 1000 & echo $! > apart; \
         echo $$ > pid; while :; do sleep 0.1; done",
    );
    node.started().await;
    let dir = node.launch("a", 1, "").dir;
    let [pid, child] = ["pid", "child"].map(|name| dir.join(name));
    let pid = eventually("it runs", || pid_in(pid.clone())).await;
    let child = pid_in(child).unwrap();
    let begun = Instant::now();
    node.stop("a", 1, Duration::from_millis(300));
    let exit = node.exited().await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!((exit.signal(), exit.code()), (Some(9), None));
    assert!(exit.to_string().contains("300ms"), "{exit}");
    assert!(!is_alive(pid));
    eventually("its child is dead", || (!is_alive(child)).then_some(())).await;
    if has_cgroups() {
        let apart = pid_in(dir.join("apart")).unwrap();
        eventually("what left its session is dead", || (!is_alive(apart)).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_do_not_outlive_a_run_that_exits() {
    let mut node = Node::new();
    node.adopt().await;
    node.start("a", 1, "sleep 1000 & echo $! > child; exit 0");
    node.started().await;
    assert_eq!(node.exited().await.code(), Some(0));
    let child = pid_in(node.launch("a", 1, "").dir.join("child")).unwrap();
    assert!(!is_alive(child));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_the_whole_family_its_grace_period() {
    let mut node = Node::new();
    node.adopt().await;
    // The shell ends at its signal; its child, as any server behind a shell, needs a moment.
    let child = "trap 'kill $!; sleep 0.2; echo drained > drained; exit' TERM; \
         echo > ready; while :; do sleep 1000 & wait; done";
    node.start("a", 1, &format!("sh -c \"{child}\" & wait"));
    node.started().await;
    let dir = node.launch("a", 1, "").dir;
    eventually("its child is ready", || dir.join("ready").exists().then_some(())).await;
    node.stop("a", 1, Duration::from_secs(10));
    let exit = node.exited().await;
    assert_eq!(exit.signal(), Some(15), "{exit}");
    assert_eq!(std::fs::read_to_string(dir.join("drained")).unwrap(), "drained\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_reach_no_keeper_whatever_the_umask_is() {
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut node = Node::new();
    node.run_forever("a").await;
    let dir = &node.settings.keeper_dir;
    let modes = [dir.clone(), dir.join("runs"), node.settings.logs_dir.join("a-0.1")]
        .map(|dir| std::fs::metadata(dir).unwrap().mode() & 0o777);
    assert_eq!(modes, [0o700; 3]);
    assert_eq!(std::fs::metadata(dir.join("log")).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn inherited_descriptors_do_not_reach_instances() {
    let (inherited, _write_end) = rustix::pipe::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inherited));
    let pipe = std::fs::read_link(path).unwrap();
    muster_agent::take_over_files().unwrap();
    let mut node = Node::new();
    node.adopt().await;
    node.start("a", 1, "readlink /proc/self/fd/* | sort");
    node.started().await;
    node.exited().await;
    let output = node.output("a", None).await;
    assert!(!output.contains(pipe.to_str().unwrap()), "{output}");
    let keeper = std::fs::read_dir(format!("/proc/{}/fd", node.keeper())).unwrap().flatten();
    let mut targets = keeper.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    assert!(targets.all(|target| target != pipe));
}

fn has_cgroups() -> bool {
    let v1 = std::fs::create_dir_all("/sys/fs/cgroup/memory/muster").is_ok();
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let root = rustix::process::geteuid().is_root();
    v1 || (root && controllers.is_ok_and(|text| text.contains("memory")))
}

#[tokio::test(flavor = "multi_thread")]
async fn exceeding_the_memory_limit_is_reported_as_such() {
    if !has_cgroups() {
        return;
    }
    let mut node = Node::new();
    node.adopt().await;
    // Doubling a shell variable needs no other program.
    let document = json!({
        "process": {"command": "x=0123456789abcdef; while :; do x=$x$x; done"},
        "resources": {"memory": "16MiB"},
    });
    node.driver().start(node.launch_with("a", 1, document));
    node.started().await;
    let exit = node.exited().await;
    assert_eq!(exit.to_string(), "out of memory: limit 16MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_rotated_and_followed_across_a_rotation() {
    let mut node = Node::with(|settings| settings.log_bytes_max = 2000);
    node.adopt().await;
    let document = json!({"process": {"command":
        "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line $i; sleep 0.005; done; sleep 1000"}});
    node.driver().start(node.launch_with("a", 1, document));
    node.started().await;
    let query = OutputQuery { stream: LogStream::Stdout, tail: None, follow: true };
    let dir = node.settings.logs_dir.join(id("a").slug());
    let mut output = node.driver().output(&of("a"), query).await.unwrap();
    let mut text = String::new();
    while !text.ends_with("line 400\n") {
        let chunk = tokio::time::timeout(LIMIT, output.next()).await.expect("more is written");
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
    let expected: String = (1..=400).map(|i| format!("line {i}\n")).collect();
    assert_eq!(text, expected);
    let copies = || std::fs::read_dir(&dir).unwrap().count() - 2;
    eventually("the file was cut", || (copies() > 0).then_some(())).await;
    assert_eq!(node.output("a", Some(2)).await, "line 399\nline 400\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_stays_bounded_and_its_offsets_only_grow() {
    const MAX: u64 = 1 << 20;
    let mut node = Node::with(|settings| settings.log_bytes_max = MAX);
    node.adopt().await;
    node.start("a", 1, "timeout 1.5 yes; echo the end");
    node.started().await;
    let dir = node.settings.logs_dir.join(id("a").slug());
    let copies = || {
        let files = std::fs::read_dir(&dir).unwrap().flatten();
        let copies = files.filter(|file| file.file_name() != "stdout");
        copies.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>()
    };
    let part = |offset, length| {
        let query = PartQuery { stream: LogStream::Stdout, offset, length };
        node.driver().part(&of("a"), query)
    };
    let mut size = 0;
    while !part(size, 100).await.unwrap().bytes.ends_with(b"the end\n") {
        let before = size;
        size = part(0, 0).await.unwrap().size.max(10) - 10;
        assert!(size >= before, "{size} after {before}");
        // The copy in progress, and two copies of at most twice the kept size.
        assert!(copies() <= 6 * MAX, "{}", copies());
    }
    eventually("it is cut", || {
        (std::fs::metadata(dir.join("stdout")).unwrap().len() <= MAX).then_some(())
    })
    .await;
    let end = part(size, 100).await.unwrap();
    assert!(end.bytes.ends_with(b"the end\n") && end.size > 10 * MAX, "{}", end.size);
    println!("{} MiB were written, {} are kept", end.size >> 20, copies() >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlink_in_place_of_a_stream_is_not_followed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut node = Node::new();
    node.adopt().await;
    let foreign = node.dir.path().join("foreign");
    std::fs::write(&foreign, "foreign").unwrap();
    let names = "stdout stderr stdout.new stdout.1 stdout.dropped";
    let link = format!("for name in {names}; do ln -sfn ../../foreign $name || exit 1; done");
    let by_nobody = |node: &Node, run, command: &str| {
        let document = json!({"process": {"command": command, "user": "nobody"}});
        node.driver().start(node.launch_with("a", run, document));
    };
    by_nobody(&node, 1, &link);
    node.started().await;
    assert_eq!(node.exited().await.code(), Some(0), "its directory is its own");
    by_nobody(&node, 2, "echo told; echo warned >&2");
    node.started().await;
    node.exited().await;
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "foreign");
    assert_eq!(node.output("a", None).await, "told\nwarned\n");
    let logs = node.settings.logs_dir.join(id("a").slug());
    let closed = |path: PathBuf| {
        let metadata = std::fs::metadata(path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o077), (0, 0));
    };
    closed(logs.join("stdout"));
    closed(logs);
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_have_a_higher_file_limit_than_their_children() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = Rlimit { current: Some(900), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, before).unwrap();
    muster_agent::take_over_files().unwrap();
    assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    let mut node = Node::new();
    node.adopt().await;
    let limit = |pid| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(3).unwrap().to_string()
    };
    assert_eq!(limit(node.keeper()), limit(std::process::id() as i32));
    node.start("a", 1, "ulimit -n");
    node.started().await;
    node.exited().await;
    assert_eq!(node.output("a", None).await, "900\n");
    let launch = node.run_forever("b").await;
    let ask = CommandLine::Shell("ulimit -n".into());
    let outcome = node.driver().command(&launch, &ask, LIMIT).await;
    assert_eq!(outcome, CommandOutcome::Ended { code: 0, output: "900".into() });
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_the_environment_of_the_instance() {
    let mut node = Node::new();
    let launch = node.run_forever("a").await;
    let run = |line: &str, timeout| {
        node.driver().command(&launch, &CommandLine::Shell(line.into()), timeout)
    };
    let ended = |code, output: &str| CommandOutcome::Ended { code, output: output.into() };
    assert_eq!(run("echo $GREETING; exit 3", LIMIT).await, ended(3, "hello"));
    let timed_out = run("sleep 1000", Duration::from_millis(50)).await;
    assert_eq!(timed_out, CommandOutcome::TimedOut);
    let words = CommandLine::Words(vec!["no-such-program".into()]);
    let outcome = node.driver().command(&launch, &words, LIMIT).await;
    assert_eq!(outcome, ended(127, "no-such-program: not found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_leaves_no_child_process_and_ends_with_the_instance() {
    let mut node = Node::new();
    let launch = node.run_forever("a").await;
    // The command ends only once the second process has left its session.
    let command = "sleep 1000 & echo $! > helper;
        setsid sh -c 'echo $$ > apart; exec sleep 1000' & until [ -s apart ]; do :; done; exit 4";
    let command = CommandLine::Shell(command.into());
    let outcome = node.driver().command(&launch, &command, LIMIT).await;
    assert!(matches!(outcome, CommandOutcome::Ended { code: 4, .. }), "{outcome:?}");
    let [helper, apart] = ["helper", "apart"].map(|name| pid_in(launch.dir.join(name)).unwrap());
    eventually("the helper is dead", || (!is_alive(helper)).then_some(())).await;
    // A process that has left the session keeps running, but the agent holds none of its pipes.
    let pipe = std::fs::read_link(format!("/proc/{apart}/fd/1")).unwrap();
    let own = || std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let holds = || own().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == pipe));
    eventually("the pipe is closed", || (!holds()).then_some(())).await;
    if !has_cgroups() {
        kill_9(apart);
        return;
    }
    let groups = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let instance = pid_in(launch.dir.join("pid")).unwrap();
    assert_eq!(groups(apart), groups(instance), "it has the limits of the instance");
    node.stop("a", 1, Duration::from_millis(100));
    node.exited().await;
    assert!(!is_alive(apart));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_keeper_leaves_no_process() {
    let mut node = Node::with(|settings| settings.ephemeral = true);
    node.adopt().await;
    node.start("a", 1, "echo $$ > pid; exec sleep 1000");
    node.started().await;
    let path = node.launch("a", 1, "").dir.join("pid");
    let pid = eventually("it runs", || pid_in(path.clone())).await;
    let keeper = node.keeper();
    node.driver = None;
    eventually("it is stopped", || (!is_alive(pid)).then_some(())).await;
    eventually("the keeper has ended", || (!is_alive(keeper)).then_some(())).await;
    assert!(!node.settings.keeper_dir.join("socket").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keeper_works_in_a_directory_with_a_long_path() {
    let long = "d".repeat(120);
    let mut node = Node::with(|settings| {
        settings.keeper_dir = settings.keeper_dir.parent().unwrap().join(long).join("keeper");
    });
    node.adopt().await;
    node.start("a", 1, "exit 5");
    node.started().await;
    assert_eq!(node.exited().await.code(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_processes_are_started_quickly() {
    let mut node = Node::new();
    node.adopt().await;
    for count in [10, 50] {
        let begun = Instant::now();
        for index in 0..count {
            node.start(&format!("a{count}-{index}"), 1, "exec sleep 1000");
        }
        for _ in 0..count {
            node.started().await;
        }
        // The goal is 2 ms each; the limit only detects a serious regression.
        let took = begun.elapsed();
        println!("{count} processes started in {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    for count in [10, 50] {
        for index in 0..count {
            node.stop(&format!("a{count}-{index}"), 1, Duration::from_secs(10));
        }
    }
    for _ in 0..60 {
        node.exited().await;
    }
    let _ = node.dir.path();
}
