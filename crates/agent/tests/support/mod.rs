//! Helpers of tests with real processes: a keeper that is this test program itself, and waiting for
//! a condition with a timeout.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod server;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster_agent::keeper;

/// Timeout of any single step on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

const DIR: &str = "MUSTER_TEST_KEEPER_DIR";
const EPHEMERAL: &str = "MUSTER_TEST_KEEPER_EPHEMERAL";

/// Writes a program that runs this test program's `keeper_process` test, which is a keeper.
pub(crate) fn keeper_exe(dir: &Path) -> PathBuf {
    let path = dir.join("keeper.sh");
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\n{DIR}=\"$3\" {EPHEMERAL}=\"$4\" exec {} --exact keeper_process --ignored \
         --nocapture\n",
        this.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// The body of `keeper_process`.
pub(crate) fn be_keeper() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("only run by other tests"));
    let ephemeral = std::env::var(EPHEMERAL).is_ok_and(|text| text == "--ephemeral");
    keeper::run(&keeper::Args { dir, ephemeral }).unwrap();
}

/// Waits until `condition` returns a value.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < LIMIT, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Kills a process with SIGKILL.
pub(crate) fn kill_9(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The keeper of a keeper directory, by the lock that it holds.
pub(crate) fn keeper_of(keeper_dir: &Path) -> Option<i32> {
    let lock = std::fs::canonicalize(keeper_dir.join("lock")).ok()?;
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let holds = |pid: &i32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|target| target == lock)
    };
    pids.find(holds)
}

/// Kills all processes of a keeper, and waits until the keeper ends by itself, which removes its
/// control groups.
pub(crate) fn end_all(keeper_dir: &Path) {
    let begun = Instant::now();
    while keeper_of(keeper_dir).is_some() && begun.elapsed() < LIMIT {
        let runs = std::fs::read_dir(keeper_dir.join("runs")).into_iter().flatten().flatten();
        for entry in runs.filter(|e| e.path().extension().is_some_and(|x| x == "id")) {
            let stat = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let pid = stat.split(' ').next().and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
