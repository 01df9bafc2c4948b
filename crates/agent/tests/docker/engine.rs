//! The daemons of the tests, and the image that they need.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// The image with the program of `probe.c`.
pub(crate) const IMAGE: &str = "muster-probe:1";

/// A daemon, by its address.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) host: Option<String>,
}

impl Engine {
    /// The daemon of the machine, with the image.
    pub(crate) fn of_machine() -> Option<Engine> {
        static ANSWERS: OnceLock<bool> = OnceLock::new();
        let engine = Engine { host: std::env::var("DOCKER_HOST").ok() };
        let is_up = *ANSWERS.get_or_init(|| {
            let is_up = engine.try_docker(&["version"]).is_ok();
            if is_up {
                engine.load_image();
            }
            is_up
        });
        let needed = std::env::var_os("MUSTER_NEED_DOCKER").is_some();
        assert!(is_up || !needed, "no Docker daemon answers: `cargo xtask test` starts one");
        if !is_up {
            eprintln!("NOT TESTED: no Docker daemon answers");
        }
        is_up.then_some(engine)
    }

    /// Runs the Docker client; returns its output.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        self.try_docker(args).unwrap_or_else(|error| panic!("docker {args:?}: {error}"))
    }

    pub(crate) fn try_docker(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.args(["-H", host]);
        }
        let output = command.args(args).output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_string()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        }
    }

    fn load_image(&self) {
        let layer = layer();
        let layer = layer.path().join("layer.tar");
        // Each import creates another image, even from the same files.
        let mut hasher = DefaultHasher::new();
        hasher.write(&std::fs::read(&layer).unwrap());
        let mark = format!("{:016x}", hasher.finish());
        let format = "{{ index .Config.Labels \"muster.layer\" }}";
        let known = self.try_docker(&["image", "inspect", "--format", format, IMAGE]);
        if known.is_ok_and(|known| known == mark) {
            return;
        }
        let file = File::open(layer).unwrap();
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.args(["-H", host]);
        }
        let label = format!("LABEL muster.layer={mark}");
        let changes = ["--change", "ENTRYPOINT [\"/probe\"]", "--change", &label];
        command.arg("import").args(changes).args(["-", IMAGE]);
        let imported = command.stdin(file).output().unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    }
}

/// A directory with `layer.tar`: the files of the image.
pub(crate) fn layer() -> TempDir {
    let dir = TempDir::new().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/probe.c");
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    let mut compile = Command::new("cc");
    compile.args(["-static", "-O1", "-o"]).arg(root.join("probe")).arg(source);
    assert!(compile.status().unwrap().success());
    std::fs::copy(root.join("probe"), root.join("bin/sh")).unwrap();
    let mut pack = Command::new("tar");
    // The archive must be reproducible, so that an image imported earlier is recognized.
    pack.args(["--mtime=@0", "--sort=name", "--owner=0", "--group=0", "-cf"])
        .arg(dir.path().join("layer.tar"))
        .arg("-C")
        .arg(&root)
        .args(["bin", "probe"]);
    assert!(pack.status().unwrap().success());
    dir
}

/// The private daemon of one test, which may be killed. It runs in its own network namespace
/// without a bridge, since daemons would take the bridge from each other.
pub(crate) struct Private {
    dir: TempDir,
    process: Option<Child>,
}

impl Private {
    /// A directory for a daemon that is not started yet. `None` if a private daemon cannot run
    /// here.
    pub(crate) fn absent() -> Option<Private> {
        Engine::of_machine()?;
        let is_root = geteuid().is_root();
        if !is_root || Command::new("dockerd").arg("--version").output().is_err() {
            eprintln!("NOT TESTED: a private dockerd needs root and dockerd");
            return None;
        }
        // Paths of sockets must be short.
        let dir = tempfile::Builder::new().prefix("mdk").tempdir_in("/tmp").unwrap();
        Some(Private { dir, process: None })
    }

    /// A running daemon with the image.
    pub(crate) fn start() -> Option<Private> {
        let mut private = Private::absent()?;
        private.launch();
        private.engine().load_image();
        Some(private)
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine { host: Some(format!("unix://{}", self.path("d.sock").display())) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the daemon, and waits until it responds.
    pub(crate) fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        // The next daemon may take a containerd that was killed for a running one.
        let left = std::fs::read_to_string(self.path("exec/containerd/containerd.pid"));
        if let Some(pid) = left.ok().and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = std::fs::remove_file(self.path("exec/containerd/containerd.pid"));
        }
        let mut dockerd = Command::new("unshare");
        dockerd.args(["--net", "dockerd"]);
        for (option, name) in [("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")] {
            dockerd.arg(format!("--{option}={}", self.path(name).display()));
        }
        dockerd
            .arg(format!("--host=unix://{}", self.path("d.sock").display()))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let _ = std::fs::remove_file(self.path("pid"));
        self.process = Some(dockerd.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.engine().try_docker(&["version"]).is_err() {
            if Instant::now() > deadline {
                panic!("{}", std::fs::read_to_string(self.path("log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it was launched");
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    /// Kills the daemon without cleanup; its containers keep running.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut process) = self.process.take() {
            process.wait().unwrap();
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if self.process.is_none() {
            return;
        }
        let _ = self.engine().try_docker(&["version"]).and_then(|_| {
            let all = self.engine().try_docker(&["ps", "-aq"])?;
            let all: Vec<_> = ["rm", "-f"].into_iter().chain(all.split_whitespace()).collect();
            self.engine().try_docker(&all)
        });
        if let Some(mut process) = self.process.take() {
            let _ = kill_process(Pid::from_child(&process), Signal::TERM);
            let _ = process.wait();
        }
        // Mounts that a killed daemon has left would prevent the removal of the directory.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = self.dir.path().to_string_lossy().into_owned();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| point.starts_with(&below)) {
            let _ = Command::new("umount").args(["-l", point]).output();
        }
    }
}
