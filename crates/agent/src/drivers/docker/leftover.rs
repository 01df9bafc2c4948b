//! Processes of containers that the daemon no longer has.
//!
//! A daemon that is killed while it starts a container comes back without knowing that its process
//! runs (Docker 20.10: the container is still `created`, and the late event of its start is logged
//! as "No such container"). A removal then deletes the container and its files, but not the process.
//! The kernel still knows: the control groups of every process of a container have the id of the
//! container in their paths, whatever the daemon's cgroup driver is.

use std::fs;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::super::process::Stat;

/// Between two looks at the processes: a killed one needs a moment to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Maximum number of looks. A process that the kernel cannot end yet ends later.
const LOOKS_MAX: u32 = 20;

/// Kills the processes of a container that the daemon has removed. Almost always there are none.
pub(super) async fn end(container: &str) {
    for look in 0..LOOKS_MAX {
        let id = container.to_string();
        let left = spawn_blocking(move || processes(&id)).await.unwrap_or_default();
        if left.is_empty() {
            return;
        }
        if look == 0 {
            let pids: Vec<_> = left.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
            tracing::warn!(
                container,
                ?pids,
                "the Docker daemon has removed a container but not its processes: they are killed"
            );
        }
        for pid in left {
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => tracing::warn!(container, "cannot kill a process: {error}"),
            }
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The processes whose control groups belong to a container, by its full id. Those that have ended
/// and were not waited for are not among them.
fn processes(container: &str) -> Vec<Pid> {
    let of_container = |pid: &Pid| {
        let path = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
        fs::read_to_string(path).is_ok_and(|groups| groups.contains(container))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_container = pids.filter_map(Pid::from_raw).filter(of_container);
    of_container.filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.runs)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Docker 20.10 leaves such a process when it is killed while it starts a container.
    #[tokio::test]
    async fn the_processes_of_a_container_that_docker_forgot_are_killed() {
        let id = format!("{:064x}", std::process::id());
        // The groups of version 1, or that of version 2.
        let mounts = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let group = mounts.map(|mount| Path::new(mount).join(format!("docker-{id}.scope")));
        let Some(group) = group.iter().find(|group| fs::create_dir(group).is_ok()) else {
            // Only root may create groups.
            return;
        };
        let mut forgotten = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(group.join("cgroup.procs"), forgotten.id().to_string()).unwrap();
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        end(&id).await;
        let status = forgotten.wait().unwrap();
        let killed = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(killed, Some(Signal::KILL.as_raw()));
        assert!(other.try_wait().unwrap().is_none(), "it does not belong to the container");
        other.kill().unwrap();
        other.wait().unwrap();
        fs::remove_dir(group).unwrap();
    }
}
