//! The daemons of a run: each on a node of its own, with a data directory of its own in memory, a clock that can be set
//! and, for the server, a disk that can fail. A daemon that exits by itself is restarted, as a supervisor would do.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{namespace, process};
use crate::{
    bench::dev,
    shell::{self, Top},
};

/// The agents, by node.
pub(super) const AGENTS: [&str; 3] = ["n1", "n2", "n3"];
/// The gateways, by node.
pub(super) const GATEWAYS: [&str; 2] = ["g1", "g2"];
/// The server, which is at the hub.
pub(super) const SERVER: &str = "server";
/// The directory of data directories and of the files that control faults.
pub(super) const DIR: &str = "/run/chaos";
/// How long an agent may be silent: some faults last longer, some do not.
const LOST_AFTER: &str = "3s";
const SERVER_PORT: u16 = 4040;
/// Longer than anything that stops a server for a while.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
const DATA_SIZE: &str = "64m";

/// The address of an agent's or gateway's node.
pub(super) fn address(name: &str) -> Ipv4Addr {
    let at = AGENTS.iter().chain(&GATEWAYS).position(|known| *known == name);
    Ipv4Addr::new(10, 77, 0, 11 + at.unwrap_or(200) as u8)
}

/// The data directory of a server or agent.
pub(super) fn data(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Sends a request to the server, and returns the body of a successful response.
pub(super) fn send_request(method: &str, path: &str, body: &str) -> Result<Value> {
    send_within(RESPONSE_TIMEOUT, method, path, body)
}

/// The same, if it answers within that time.
pub(super) fn send_within(limit: Duration, method: &str, path: &str, body: &str) -> Result<Value> {
    let answer = text_within(limit, method, path, body)?;
    serde_json::from_str(&answer).with_context(|| format!("no JSON: {answer}"))
}

/// All events that the server still has.
pub(super) fn events() -> Result<Vec<Value>> {
    let text = text_within(RESPONSE_TIMEOUT, "GET", "/v1/events?after=0", "")?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn text_within(limit: Duration, method: &str, path: &str, body: &str) -> Result<String> {
    let stream = TcpStream::connect_timeout(&(namespace::HUB, SERVER_PORT).into(), limit)?;
    stream.set_read_timeout(Some(limit))?;
    dev::request(stream, method, path, body)
}

/// Asks the server for something until `condition` likes it.
pub(super) fn wait_for(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let last = condition();
        if let Ok(true) = last {
            return Ok(());
        }
        if Instant::now() > deadline {
            let last = last.err().map(|error| format!(": {error:#}")).unwrap_or_default();
            bail!("waited {limit:?} in vain for {what}{last}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The programs of a run.
pub(super) struct Programs {
    pub(super) muster: PathBuf,
    pub(super) simpleservice: PathBuf,
    /// Where logs stay after the run.
    pub(super) kept: PathBuf,
    clock: PathBuf,
    disk: PathBuf,
}

impl Programs {
    /// Compiles the shims; the programs are built already.
    pub(super) fn find(top: &Top) -> Result<Programs> {
        let kept = top.built("chaos");
        fs::create_dir_all(&kept)?;
        let compile = |source: &str, library: &str| {
            let library = kept.join(library);
            let mut compiler = top.command("cc");
            compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(top.join(source));
            shell::output(compiler.arg("-ldl"))?;
            anyhow::Ok(library)
        };
        Ok(Programs {
            clock: compile("xtask/src/chaos/clock.c", "clock.so")?,
            disk: compile("crates/store/tests/faults.c", "faults.so")?,
            muster: top.built("debug/muster"),
            simpleservice: top.built("debug/simpleservice"),
            kept,
        })
    }
}

/// The daemons.
pub(super) struct Cluster {
    pub(super) programs: Programs,
    running: BTreeMap<&'static str, Child>,
    docker: Option<String>,
}

impl Cluster {
    /// Makes nodes and directories and starts all daemons. `docker`: where the last agent finds an engine.
    pub(super) fn start(programs: Programs, docker: Option<String>) -> Result<Cluster> {
        fs::create_dir_all(DIR)?;
        for name in AGENTS.into_iter().chain([SERVER]) {
            fs::create_dir_all(data(name))?;
            namespace::mount(&data(name).to_string_lossy(), DATA_SIZE)?;
        }
        fs::create_dir_all(faults())?;
        let mut cluster = Cluster { programs, running: BTreeMap::new(), docker };
        for name in [SERVER].into_iter().chain(AGENTS).chain(GATEWAYS) {
            // The logs of earlier runs are removed.
            File::create(cluster.programs.kept.join(format!("{name}.log")))?;
            set_clock(name, 0)?;
            cluster.launch(name)?;
        }
        wait_for(Duration::from_secs(30), "all nodes to be ready", all_nodes_ready)?;
        Ok(cluster)
    }

    /// Starts a daemon.
    pub(super) fn launch(&mut self, name: &'static str) -> Result<()> {
        let (muster, kept) = (&self.programs.muster, &self.programs.kept);
        let server = format!("http://{}:{SERVER_PORT}", namespace::HUB);
        let node = (name != SERVER).then_some(name);
        let mut command = namespace::on(node, &muster.to_string_lossy());
        let data = data(name);
        if name == SERVER {
            let listen = format!("{}:{SERVER_PORT}", namespace::HUB);
            command.args(["server", "--listen", &listen, "--lost-after", LOST_AFTER]);
            command.arg("--data-dir").arg(data);
        } else if GATEWAYS.contains(&name) {
            command.args(["gateway", "--server", &server, "--node", name]);
        } else {
            command.args(["agent", "--server", &server, "--node", name, "--cpu", "1000"]);
            command.args(["--memory", "1TiB", "--data-dir"]).arg(data);
            match &self.docker {
                Some(docker) if Some(&name) == AGENTS.last() => {
                    command.args(["--docker-host", docker])
                }
                _ => command.arg("--no-docker"),
            };
        }
        let mut preload = self.programs.clock.clone().into_os_string();
        if name == SERVER {
            preload.push(":");
            preload.push(&self.programs.disk);
            command.env("FAULTS", faults());
        }
        let log = File::options().append(true).open(kept.join(format!("{name}.log")))?;
        command.env("LD_PRELOAD", preload).env("CLOCK_OFFSET", clock(name)).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        self.running.insert(name, child);
        Ok(())
    }

    /// Kills a daemon as if its power were cut, and waits until it is gone.
    pub(super) fn kill(&mut self, name: &str) -> Result<()> {
        let mut child = self.running.remove(name).with_context(|| format!("{name} runs"))?;
        child.kill()?;
        child.wait().map(drop).context("wait for it")
    }

    /// Sends a signal to a daemon.
    pub(super) fn signal(&self, name: &str, signal: &str) -> Result<()> {
        process::signal(self.pid(name)?, signal)
    }

    /// The process of a daemon.
    pub(super) fn pid(&self, name: &str) -> Result<u32> {
        Ok(self.running.get(name).with_context(|| format!("{name} runs"))?.id())
    }

    /// Whether it runs, as far as anyone knows.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// Takes note of daemons that have ended by themselves.
    pub(super) fn ended(&mut self) -> Result<Vec<(&'static str, ExitStatus)>> {
        let mut ended = Vec::new();
        for (name, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                ended.push((*name, status));
            }
        }
        for (name, _) in &ended {
            self.running.remove(name);
        }
        Ok(ended)
    }
}

/// Whether every daemon's node is heard of.
pub(super) fn all_nodes_ready() -> Result<bool> {
    let nodes = send_request("GET", "/v1/nodes", "")?;
    let ready = |node: &&Value| node["state"] == "ready";
    let count = nodes.as_array().map_or(0, |nodes| nodes.iter().filter(ready).count());
    Ok(count == AGENTS.len() + GATEWAYS.len())
}

/// Sets the clock of a daemon off by this number of milliseconds.
pub(super) fn set_clock(name: &str, ms: i64) -> Result<()> {
    // In place: the daemon has the file mapped.
    let file = File::options().write(true).create(true).truncate(false).open(clock(name))?;
    std::os::unix::fs::FileExt::write_all_at(&file, &ms.to_ne_bytes(), 0)?;
    Ok(())
}

fn clock(name: &str) -> PathBuf {
    Path::new(DIR).join(format!("{name}.clock"))
}

/// The directory that the server's disk looks into.
pub(super) fn faults() -> PathBuf {
    Path::new(DIR).join("faults")
}
