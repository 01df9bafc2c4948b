//! Namespaces for processes, mounts and networks that isolate a run from the machine.
//!
//! `unshare` runs this program again inside of them. All processes, mounts and networks of a run end with the first
//! process inside, for whatever reason the run ends, and its ports and names cannot collide with those of the machine.
//! Every node is a network namespace with one link to a bridge, `hub`, at whose address the server listens.

use std::{
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Package},
    shell::{self, Top},
};

/// Required programs, besides a kernel and root.
const PACKAGES: &[Package] = &[
    Package { program: "unshare", package: "util-linux" },
    Package { program: "nsenter", package: "util-linux" },
    Package { program: "mount", package: "mount" },
    Package { program: "ip", package: "iproute2" },
    Package { program: "nft", package: "nftables" },
    Package { program: "cc", package: "gcc" },
];

/// Where the server listens: the hub's own address.
pub(super) const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Runs `cargo xtask` with these arguments inside.
pub(super) fn enter(top: &Top, arguments: &[&str]) -> Result<()> {
    apt::ensure(top, PACKAGES)?;
    if !apt::is_root() {
        bail!("namespaces, mounts and clocks require root: run it as root");
    }
    let own = std::env::current_exe().context("find this program")?;
    let mut unshare = top.command("unshare");
    unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    // The first process of a process namespace must reap orphans, which a shell does. It must not be replaced by the
    // program, so the program is not its last command.
    unshare.args(["sh", "-c", r#""$0" "$@"; exit $?"#]).arg(own).args(arguments);
    let status = unshare.status().context("start unshare")?;
    if !status.success() {
        bail!("the run in its namespaces ended with {status}");
    }
    Ok(())
}

/// Prepares the namespaces: a separate directory of runtime files, the loopback, the hub.
pub(super) fn prepare() -> Result<()> {
    mount("/run", "64m")?;
    // Names below it, such as those of Docker, must lead there too.
    if !std::path::Path::new("/var/run").is_symlink() {
        mount("/var/run", "64m")?;
    }
    run_quietly("ip", &["link", "set", "lo", "up"])?;
    run_quietly("ip", &["link", "add", "hub", "type", "bridge"])?;
    run_quietly("ip", &["address", "add", &format!("{HUB}/24"), "dev", "hub"])?;
    run_quietly("ip", &["link", "set", "hub", "up"])
}

/// Mounts memory at a directory.
pub(super) fn mount(at: &str, size: &str) -> Result<()> {
    run_quietly("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", at])
}

/// Creates a node's namespace with its link.
pub(super) fn add_node(name: &str, address: Ipv4Addr) -> Result<()> {
    run_quietly("ip", &["netns", "add", name])?;
    run_quietly(
        "ip",
        &["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name],
    )?;
    run_quietly("ip", &["link", "set", name, "master", "hub", "up"])?;
    run_quietly("ip", &["-n", name, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
    run_quietly("ip", &["-n", name, "link", "set", "lo", "up"])?;
    run_quietly("ip", &["-n", name, "link", "set", "eth0", "up"])
}

/// A command on a node. Unlike `ip netns exec`, it keeps the mounts, which include the control groups.
pub(super) fn on(node: Option<&str>, program: &str) -> Command {
    let Some(node) = node else { return Command::new(program) };
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{node}")).arg(program);
    command
}

/// Takes a node's link down, or up again.
pub(super) fn set_link(node: &str, plugged: bool) -> Result<()> {
    run_quietly("ip", &["link", "set", node, if plugged { "up" } else { "down" }])
}

/// One direction between a node and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Packets from the server are dropped.
    In,
    /// Packets from the node are dropped.
    Out,
}

/// Drops all packets between a node and the server in one direction.
pub(super) fn block(node: &str, direction: Direction) -> Result<()> {
    let (hook, side) = match direction {
        Direction::In => ("input", "saddr"),
        Direction::Out => ("output", "daddr"),
    };
    let chain = format!(
        "table ip chaos {{ chain c {{ type filter hook {hook} priority 0; ip {side} {HUB} drop; }}; }}"
    );
    let mut nft = on(Some(node), "nft");
    shell::output(nft.arg(chain)).map(drop)
}

/// Removes the block.
pub(super) fn unblock(node: &str) -> Result<()> {
    shell::output(on(Some(node), "nft").args(["delete", "table", "ip", "chaos"])).map(drop)
}

fn run_quietly(program: &str, arguments: &[&str]) -> Result<()> {
    shell::output(Command::new(program).args(arguments).stdin(Stdio::null())).map(drop)
}
