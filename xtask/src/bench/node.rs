//! A release `muster agent` and its instances, seen from outside: its processes, their resources, and
//! how they all die at once.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use super::dev::wait_for;
use super::server::{Server, TempDir, resident};
use crate::shell::Top;

/// An agent of a server. Dropping it stops it and all that it runs.
pub(super) struct Node {
    child: Child,
    dir: TempDir,
    name: String,
}

/// The processes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The agent.
    Agent,
    /// The process that stands between the instances and the agent's death.
    Keeper,
    /// The program of the instances.
    Instance,
}

impl Node {
    /// Starts one that can take everything but containers, and waits until it is ready.
    pub(super) fn start(top: &Top, server: &Server, name: &str) -> Result<Node> {
        let dir = TempDir::new(&format!("{}-{name}", server.port()));
        let data_dir = dir.0.to_string_lossy().into_owned();
        let url = format!("http://127.0.0.1:{}", server.port());
        let mut command = Command::new(top.built("release/muster"));
        command.args(["agent", "--server", &url, "--data-dir", &data_dir, "--node", name]);
        command.args(["--ephemeral", "--no-docker", "--cpu", "1000", "--memory", "1TiB"]);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = quiet.spawn().context("start muster agent")?;
        let node = Node { child, dir, name: name.to_owned() };
        wait_for("the node to be ready", || {
            let nodes = server.get("/v1/nodes")?;
            let mut nodes = nodes.as_array().context("a list")?.iter();
            let is_ready = nodes.any(|node| node["node"]["id"] == name && node["state"] == "ready");
            Ok(is_ready.then_some(()))
        })?;
        Ok(node)
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// All its processes.
    pub(super) fn processes(&self) -> Vec<(u32, Part)> {
        let dir = self.dir.0.to_string_lossy().into_owned();
        let holds = |pid: u32, file: &str| {
            let content = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&content).contains(&dir)
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(|pid| {
            let part = match pid {
                pid if pid == self.child.id() => Part::Agent,
                pid if holds(pid, "environ") => Part::Instance,
                pid if holds(pid, "cmdline") => Part::Keeper,
                _ => return None,
            };
            Some((pid, part))
        })
        .collect()
    }

    /// The processes of one kind.
    pub(super) fn pids(&self, part: Part) -> Vec<u32> {
        let all = self.processes().into_iter();
        all.filter(|(_, other)| *other == part).map(|(pid, _)| pid).collect()
    }

    /// The memory of its agent, and of its keeper, in KiB.
    pub(super) fn resident(&self) -> Result<(u64, u64)> {
        let keepers = self.pids(Part::Keeper).into_iter().map(resident);
        Ok((resident(self.child.id())?, keepers.sum::<Result<u64>>()?))
    }

    /// Kills the agent, its keeper and all that it runs, as when the power goes.
    pub(super) fn lose(&mut self) -> Result<()> {
        let pids: Vec<String> = self.processes().iter().map(|(pid, _)| pid.to_string()).collect();
        Command::new("kill").arg("-KILL").args(&pids).status().context("run kill")?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // On SIGTERM it stops its instances; SIGKILL would leave them to its keeper.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let pid = self.child.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
        }
        let _ = self.child.wait();
    }
}

/// The processor time that a process has used, all its threads together, in microseconds.
pub(super) fn cpu_micros(pid: u32) -> Result<f64> {
    /// The unit of processor time, on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let ticks: f64 = ticks.collect::<Result<Vec<_>, _>>()?.into_iter().sum();
    Ok(ticks * 1e6 / TICKS_PER_SECOND)
}
