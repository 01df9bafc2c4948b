//! A machine within the machine: namespaces of their own for processes, mounts and networks.
//!
//! `unshare` runs this program again inside. Whatever a run starts, mounts or wires ends with the first process in
//! there, however the run ends, and no port or name meets those of the machine. Every node is a network namespace with
//! one cable to a bridge, `hub`, at whose address the server listens.

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
        bail!("namespaces, mounts and clocks want root: run it as root");
    }
    let own = std::env::current_exe().context("find this program")?;
    let mut unshare = top.command("unshare");
    unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    // The first process of a machine must bury those whose parents have died, which a shell does; for that it has to
    // stay, so the program is not its last command.
    unshare.args(["sh", "-c", r#""$0" "$@"; exit $?"#]).arg(own).args(arguments);
    let status = unshare.status().context("start unshare")?;
    if !status.success() {
        bail!("the run in its namespaces ended with {status}");
    }
    Ok(())
}

/// Prepares the inside: runtime files of our own, the loopback, the hub.
pub(super) fn prepare() -> Result<()> {
    mount("/run", "64m")?;
    // Names below it, such as those of Docker, must lead there too.
    if !std::path::Path::new("/var/run").is_symlink() {
        mount("/var/run", "64m")?;
    }
    quiet("ip", &["link", "set", "lo", "up"])?;
    quiet("ip", &["link", "add", "hub", "type", "bridge"])?;
    quiet("ip", &["address", "add", &format!("{HUB}/24"), "dev", "hub"])?;
    quiet("ip", &["link", "set", "hub", "up"])
}

/// Mounts memory at a directory.
pub(super) fn mount(at: &str, size: &str) -> Result<()> {
    quiet("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", at])
}

/// Makes a node's namespace with its cable.
pub(super) fn wire(name: &str, address: Ipv4Addr) -> Result<()> {
    quiet("ip", &["netns", "add", name])?;
    quiet("ip", &["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])?;
    quiet("ip", &["link", "set", name, "master", "hub", "up"])?;
    quiet("ip", &["-n", name, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
    quiet("ip", &["-n", name, "link", "set", "lo", "up"])?;
    quiet("ip", &["-n", name, "link", "set", "eth0", "up"])
}

/// A command on a node. Unlike `ip netns exec`, it leaves the mounts alone, below which are the control groups.
pub(super) fn on(node: Option<&str>, program: &str) -> Command {
    let Some(node) = node else { return Command::new(program) };
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{node}")).arg(program);
    command
}

/// Pulls a node's cable, or puts it back.
pub(super) fn plug(node: &str, plugged: bool) -> Result<()> {
    quiet("ip", &["link", "set", node, if plugged { "up" } else { "down" }])
}

/// One direction between a node and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Packets from the server are dropped.
    In,
    /// Packets from the node are dropped.
    Out,
}

/// Lets nothing pass between a node and the server, one way.
pub(super) fn block(node: &str, way: Way) -> Result<()> {
    let (hook, side) = match way {
        Way::In => ("input", "saddr"),
        Way::Out => ("output", "daddr"),
    };
    let chain = format!(
        "table ip chaos {{ chain c {{ type filter hook {hook} priority 0; ip {side} {HUB} drop; }}; }}"
    );
    let mut nft = on(Some(node), "nft");
    shell::output(nft.arg(chain)).map(drop)
}

/// Lets everything pass again.
pub(super) fn unblock(node: &str) -> Result<()> {
    shell::output(on(Some(node), "nft").args(["delete", "table", "ip", "chaos"])).map(drop)
}

fn quiet(program: &str, arguments: &[&str]) -> Result<()> {
    shell::output(Command::new(program).args(arguments).stdin(Stdio::null())).map(drop)
}
