//! Installs and starts a Docker engine, and waits until it responds.
//!
//! Debian's `docker.io` needs nothing special to run below a plain process supervisor: cgroup v1 or v2, overlay2 and the
//! bridge network come from the kernel, the rules for published ports from the `iptables` it depends on. What does go
//! wrong is a process id file left over from a machine that was switched off: its number may belong to another process
//! today, and then dockerd refuses to start. Such files are taken away first.
//!
//! A responding engine is left as it is, however it was started and wherever `DOCKER_HOST` points.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Package},
    shell::{Top, is_installed, output, run},
};

/// The packages of the engine and its client.
pub(crate) const PACKAGES: &[Package] = &[
    Package { program: "dockerd", package: "docker.io" },
    Package { program: "docker", package: "docker.io" },
    Package { program: "iptables", package: "iptables" },
];

const RESPONSE_WAIT_MAX: Duration = Duration::from_secs(60);
const RESPONSE_POLL: Duration = Duration::from_millis(100);
const LOG: &str = "target/dockerd.log";

/// The files in which daemons note their process ids, with the name of the daemon.
const PID_FILES: &[(&str, &str)] = &[
    ("/var/run/docker.pid", "dockerd"),
    ("/var/run/docker/containerd/containerd.pid", "containerd"),
];

/// Makes sure that a Docker engine responds; otherwise starts one that outlives this process.
pub(crate) fn ensure(top: &Top) -> Result<()> {
    if let Ok(version) = engine_version(top) {
        println!("the Docker engine responds: {version}");
        return Ok(());
    }
    apt::ensure(top, PACKAGES)?;
    // Installing may have started it, where an init system takes care of such things.
    if engine_version(top).is_err() {
        start(top)?;
    }
    let version = wait(top)?;
    println!("the Docker engine responds: {version}");
    Ok(())
}

/// The version of the engine, if one responds.
fn engine_version(top: &Top) -> Result<String> {
    if !is_installed("docker") {
        bail!("there is no docker client");
    }
    output(top.command("docker").args([
        "version",
        "--format",
        "{{.Server.Version}}, API {{.Server.APIVersion}}",
    ]))
}

fn start(top: &Top) -> Result<()> {
    if Path::new("/run/systemd/system").is_dir() {
        let mut systemctl = top.command(if apt::is_root() { "systemctl" } else { "sudo" });
        if !apt::is_root() {
            systemctl.arg("systemctl");
        }
        return run(systemctl.args(["start", "docker"]));
    }
    if !apt::is_root() {
        bail!(
            "no Docker engine responds and only root can start one; run `sudo dockerd` and this again"
        );
    }
    for (file, daemon) in PID_FILES {
        remove_if_stale(Path::new(file), daemon)?;
    }
    fs::create_dir_all(top.join("target"))?;
    let log = fs::File::create(top.join(LOG)).with_context(|| format!("cannot write {LOG}"))?;
    // Its own session, so that neither an interrupt from the terminal nor our end reaches it.
    let mut dockerd = top.command("setsid");
    dockerd.args(["--fork", "dockerd"]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    run(&mut dockerd).context("cannot start dockerd")
}

fn wait(top: &Top) -> Result<String> {
    let deadline = Instant::now() + RESPONSE_WAIT_MAX;
    loop {
        let error = match engine_version(top) {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            let log = fs::read_to_string(top.join(LOG)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(8)..].join("\n  ");
            bail!(
                "no Docker engine responded within {} s ({error:#}); {LOG} ends with:\n  {last}",
                RESPONSE_WAIT_MAX.as_secs()
            );
        }
        std::thread::sleep(RESPONSE_POLL);
    }
}

/// Removes a process id file unless its daemon is alive.
fn remove_if_stale(file: &Path, daemon: &str) -> Result<()> {
    let Ok(pid) = fs::read_to_string(file) else { return Ok(()) };
    let process = fs::read_to_string(format!("/proc/{}/comm", pid.trim())).unwrap_or_default();
    if process.trim() == daemon {
        return Ok(());
    }
    println!("removing {}: process {} is not {daemon}", file.display(), pid.trim());
    fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}
