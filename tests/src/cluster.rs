//! A cluster of real daemons in a directory of its own. Dropping it kills all that it started.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::ports::{self, free_port};

/// A daemon of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// The server.
    Server,
    /// An agent, by its number.
    Agent(usize),
    /// The gateway.
    Gateway,
}

/// The result of a command of the command line.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Run {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Result<Run> {
        let output = command.output().with_context(|| format!("run {command:?}"))?;
        Ok(Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Its standard output; fails unless it succeeded.
    pub fn ok(self) -> Result<String> {
        if self.code != 0 {
            bail!("exit code {}\n{}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// Its standard output, parsed as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {self:?}"))
    }
}

/// A cluster of real daemons.
pub struct Cluster {
    dir: TempDir,
    server_port: u16,
    daemons: Vec<(Daemon, Child)>,
    /// Further arguments of all agents.
    agent_args: Vec<String>,
    /// Further arguments of the gateway.
    gateway_args: Vec<String>,
    /// The ports that each agent may assign, by its number.
    ports: BTreeMap<usize, (u16, u16)>,
}

/// Waits until `condition` gives a value; fails after `limit` with its last error.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let last = condition();
        if let Ok(Some(value)) = last {
            return Ok(value);
        }
        if started.elapsed() > limit {
            let last = last.err().map(|error| format!(": {error:#}")).unwrap_or_default();
            bail!("waited {limit:?} in vain for {what}{last}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A binary of this workspace: the one named by the environment, or the one built alongside.
fn binary(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let target = own.ancestors().find(|dir| dir.join(name).is_file());
    target.map(|dir| dir.join(name)).with_context(|| format!("build {name} first: cargo build"))
}

impl Cluster {
    /// A server, `agents` agents named n1, n2, … and a gateway.
    pub fn start(agents: usize) -> Result<Cluster> {
        Self::start_with(agents, &[])
    }

    /// The same with further arguments for every agent.
    pub fn start_with(agents: usize, agent_args: &[&str]) -> Result<Cluster> {
        let mut cluster = Cluster {
            dir: tempfile::Builder::new().prefix("muster-test-").tempdir()?,
            server_port: free_port()?,
            daemons: Vec::new(),
            agent_args: agent_args.iter().map(|arg| arg.to_string()).collect(),
            gateway_args: Vec::new(),
            ports: BTreeMap::new(),
        };
        cluster.launch(Daemon::Server)?;
        (1..=agents).try_for_each(|n| cluster.launch(Daemon::Agent(n)))?;
        cluster.launch(Daemon::Gateway)?;
        wait_for("all nodes to be ready", Duration::from_secs(30), || {
            let nodes = cluster.json(&["get", "nodes"])?;
            let ready = |node: &&Value| node["state"] == "ready";
            let count = nodes.as_array().map_or(0, |nodes| nodes.iter().filter(ready).count());
            // The gateway's node is one of its own.
            Ok((count > agents).then_some(()))
        })?;
        Ok(cluster)
    }

    /// Where simpleservice lies.
    pub fn simpleservice() -> Result<PathBuf> {
        binary("simpleservice", "MUSTER_SIMPLESERVICE")
    }

    /// The directory of this cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the server answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server_port)
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.server_port
    }

    /// The process of a daemon that was started.
    pub fn pid(&self, daemon: Daemon) -> Result<Pid> {
        let known = self.daemons.iter().find(|(known, _)| *known == daemon);
        pid(&known.context("the daemon runs")?.1)
    }

    /// Starts a daemon, and for the server waits until it answers.
    pub fn launch(&mut self, daemon: Daemon) -> Result<()> {
        self.launch_with(daemon, &[])
    }

    /// Starts a daemon with further arguments.
    pub fn launch_with(&mut self, daemon: Daemon, further: &[&str]) -> Result<()> {
        let server = self.url();
        let (name, args) = match daemon {
            Daemon::Server => {
                let listen = format!("127.0.0.1:{}", self.server_port);
                ("server".to_string(), vec!["server".into(), "--listen".into(), listen])
            }
            Daemon::Agent(n) => {
                let args = ["agent", "--server", &server, "--node", &format!("n{n}")];
                let (first, last) = self.ports_of(n)?;
                let ports = ["--ports".to_string(), format!("{first}-{last}")];
                let args = args.map(String::from).into_iter().chain(ports);
                (format!("n{n}"), args.chain(self.agent_args.clone()).collect())
            }
            Daemon::Gateway => {
                let args = ["gateway", "--server", &server, "--node", "gw"];
                let args = args.map(String::from).into_iter();
                ("gateway".into(), args.chain(self.gateway_args.clone()).collect())
            }
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir().join(format!("{name}.log")))?;
        let mut command = Command::new(binary("muster", "MUSTER_BIN")?);
        command.args(args).args(further);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if daemon != Daemon::Gateway {
            command.arg("--data-dir").arg(self.dir().join(name));
        }
        self.daemons.push((daemon, command.spawn()?));
        if daemon == Daemon::Server {
            let port = self.server_port;
            let responses = || Ok(crate::get(port, "/v1/health").ok().map(drop));
            wait_for("the server to answer", Duration::from_secs(20), responses)?;
        }
        Ok(())
    }

    fn ports_of(&mut self, agent: usize) -> Result<(u16, u16)> {
        if let Some(ports) = self.ports.get(&agent) {
            return Ok(*ports);
        }
        let ports = ports::claim()?;
        self.ports.insert(agent, ports);
        Ok(ports)
    }

    /// Gives the gateway further arguments from its next start on.
    pub fn set_gateway_args(&mut self, args: &[&str]) {
        self.gateway_args = args.iter().map(|arg| arg.to_string()).collect();
    }

    /// Kills a daemon as if its machine had lost power, and waits until it is gone.
    pub fn kill(&mut self, daemon: Daemon) -> Result<()> {
        self.end(daemon, Signal::KILL).map(drop)
    }

    /// Sends a signal that ends a daemon, and waits until it has ended.
    pub fn end(&mut self, daemon: Daemon, signal: Signal) -> Result<ExitStatus> {
        let at = self.daemons.iter().position(|(known, _)| *known == daemon);
        let (_, mut child) = self.daemons.swap_remove(at.context("the daemon runs")?);
        kill_process(pid(&child)?, signal)?;
        Ok(child.wait()?)
    }

    /// Runs a verb of the command line.
    pub fn muster(&self, args: &[&str]) -> Result<Run> {
        let mut command = Command::new(binary("muster", "MUSTER_BIN")?);
        command.args(args).env("MUSTER_SERVER", self.url()).current_dir(self.dir());
        Run::of(command.stdin(Stdio::null()))
    }

    /// Runs a verb that must succeed.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        self.muster(args)?.ok().with_context(|| format!("muster {}", args.join(" ")))
    }

    /// Runs a verb with `-o json` and parses its output.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let args: Vec<_> = args.iter().copied().chain(["-o", "json"]).collect();
        Ok(serde_json::from_str(&self.ok(&args)?)?)
    }

    /// The instances of a service that have not ended.
    pub fn instances(&self, service: &str) -> Result<Vec<Value>> {
        let instances = self.json(&["get", "instances", service])?;
        instances.as_array().cloned().context("a list")
    }

    /// Writes a document to a file of this cluster; its path.
    pub fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.dir().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// The processes of this cluster whose command line contains `text`: those that work in its
    /// directory or name it.
    pub fn processes(&self, text: &str) -> Vec<Pid> {
        let dir = self.dir().to_string_lossy().into_owned();
        let ours = |pid: &u32| {
            let works_in = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command);
            *pid != std::process::id()
                && command.contains(text)
                && (works_in.starts_with(&dir) || command.contains(&dir))
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
        pids.filter(ours).filter_map(|pid| Pid::from_raw(pid as i32)).collect()
    }

    /// The log of a daemon so far, for messages.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(format!("{name}.log"))).unwrap_or_default()
    }
}

fn pid(child: &Child) -> Result<Pid> {
    Pid::from_raw(child.id() as i32).context("a process has a pid")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The logs of the daemons are removed with the directory.
            for name in ["server", "n1", "n2", "gateway"] {
                eprintln!("---- {name}\n{}", self.log(name));
            }
        }
        for (_, child) in &mut self.daemons {
            // One that has ended already needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
        // Keepers and instances outlive their agents: they are found by their working directory.
        let inside = |entry: &Path| {
            let works_in = |link: &str| fs::read_link(entry.join(link)).unwrap_or_default();
            let command = fs::read(entry.join("cmdline")).unwrap_or_default();
            works_in("cwd").starts_with(self.dir.path())
                || String::from_utf8_lossy(&command).contains(&*self.dir.path().to_string_lossy())
        };
        let own = std::process::id().to_string();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(pid) = name.parse().ok().and_then(Pid::from_raw).filter(|_| name != own)
            else {
                continue;
            };
            if inside(&entry.path()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        self.remove_containers();
    }
}

impl Cluster {
    /// Removes the containers of all agents, which outlive them as well, and hold their ports.
    fn remove_containers(&self) {
        let docker = |args: &[&str]| Run::of(Command::new("docker").args(args));
        for agent in self.ports.keys() {
            // They are labelled with a digest (FNV-1a) of the data directory of their agent.
            let dir = self.dir().join(format!("n{agent}"));
            let fold =
                |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            let bytes = dir.as_os_str().as_encoded_bytes();
            let label = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold);
            let label = format!("label=muster.agent={label:016x}");
            // A machine without Docker has no containers to remove.
            let Ok(found) = docker(&["ps", "--all", "--quiet", "--filter", &label]) else { return };
            let ids: Vec<&str> = found.stdout.lines().collect();
            if !ids.is_empty() {
                let _ = docker(&[&["rm", "--force"], ids.as_slice()].concat());
            }
        }
    }
}
