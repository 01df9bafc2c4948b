//! A Docker engine of this run's own, on the node of the last agent, with all that it keeps in memory: it can be killed
//! and stopped without anyone else noticing.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    cluster::{AGENTS, Programs, wait_for},
    namespace, process,
};
use crate::shell::{self, Top};

const DIR: &str = "/run/engine";
const SOCKET: &str = "/run/engine/docker.sock";
const IMAGE: &str = "chaos/simpleservice";
const SIZE: &str = "512m";

/// The engine.
pub(super) struct Engine {
    daemon: Option<Child>,
    log: PathBuf,
}

impl Engine {
    /// Starts it and gives it the image of the example service, linked statically as `program`.
    pub(super) fn start(top: &Top, program: &Path, programs: &Programs) -> Result<Engine> {
        fs::create_dir_all(DIR)?;
        namespace::mount(DIR, SIZE)?;
        let log = programs.kept.join("dockerd.log");
        File::create(&log)?;
        let mut engine = Engine { daemon: None, log };
        engine.launch(false)?;
        wait_for(Duration::from_secs(60), "dockerd to answer", || {
            Ok(docker(top, &["version"]).is_ok())
        })?;
        let context = Path::new(DIR).join("image");
        fs::create_dir(&context)?;
        fs::copy(program, context.join("simpleservice"))?;
        let tar = context.join("image.tar");
        let mut pack = top.command("tar");
        shell::output(pack.arg("-C").arg(&context).arg("-cf").arg(&tar).arg("simpleservice"))?;
        let change = "ENTRYPOINT [\"/simpleservice\"]";
        docker(top, &["import", "--change", change, &tar.to_string_lossy(), IMAGE])?;
        Ok(engine)
    }

    /// Where agents reach it.
    pub(super) fn address() -> String {
        format!("unix://{SOCKET}")
    }

    /// The image of the containers.
    pub(super) fn image() -> &'static str {
        IMAGE
    }

    /// Starts it; `live`: its containers may outlive it.
    pub(super) fn launch(&mut self, live: bool) -> Result<()> {
        let mut command = namespace::on(AGENTS.last().copied(), "dockerd");
        let below = |name: &str| format!("{DIR}/{name}");
        // One that was killed has left it, and its number may be another's by now.
        let _ = fs::remove_file(below("docker.pid"));
        command.args(["--data-root", &below("data"), "--exec-root", &below("exec")]);
        command.args(["--host", &Engine::address(), "--pidfile", &below("docker.pid")]);
        command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        command.args(["--storage-driver", "vfs", "--shutdown-timeout", "2"]);
        if live {
            command.arg("--live-restore");
        }
        let log = File::options().append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemon = Some(command.spawn().context("start dockerd")?);
        Ok(())
    }

    /// Kills it; its containers keep running until the next one terminates or adopts them.
    pub(super) fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("dockerd runs")?;
        daemon.kill()?;
        daemon.wait().map(drop).context("wait for dockerd")
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn end(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("dockerd runs")?;
        process::signal(daemon.id(), "TERM")?;
        daemon.wait().map(drop).context("wait for dockerd")
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: &str) -> Result<()> {
        process::signal(self.daemon.as_ref().context("dockerd runs")?.id(), signal)
    }

    /// How many containers run, and how many there are.
    pub(super) fn containers(top: &Top) -> Result<(usize, usize)> {
        let count = |all: &[&str]| {
            let listed = docker(top, &[&["ps", "--quiet"], all].concat())?;
            anyhow::Ok(listed.lines().count())
        };
        Ok((count(&[])?, count(&["--all"])?))
    }
}

fn docker(top: &Top, arguments: &[&str]) -> Result<String> {
    shell::output(top.command("docker").args(["--host", &Engine::address()]).args(arguments))
}
