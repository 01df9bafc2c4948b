//! Debian packages that the tests need, installed when their program is missing.

use anyhow::{Context as _, Result, bail};

use crate::shell::{Top, is_installed, run};

/// A program and the package that brings it.
pub(crate) struct Package {
    /// The program looked for.
    pub(crate) program: &'static str,
    /// The Debian package.
    pub(crate) package: &'static str,
}

/// Installs the packages whose program is missing; does nothing when none is.
pub(crate) fn ensure(top: &Top, packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> =
        packages.iter().filter(|package| !is_installed(package.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(top, &missing.iter().map(|package| package.package).collect::<Vec<_>>())?;
    match missing.iter().find(|package| !is_installed(package.program)) {
        Some(absent) => bail!("package {} brought no program `{}`", absent.package, absent.program),
        None => Ok(()),
    }
}

/// Installs packages, whether they are there or not.
pub(crate) fn install(top: &Top, names: &[&str]) -> Result<()> {
    let by_hand = || format!("install {} by hand and run this again", names.join(" "));
    if !is_installed("apt-get") {
        bail!("there is no apt-get here; {}", by_hand());
    }
    let install = ["install", "--yes", "--no-install-recommends"];
    // A machine that has never asked has no package lists, and old lists name files that are gone.
    run(&mut apt_get(top, &["update", "--quiet"])).with_context(by_hand)?;
    run(apt_get(top, &install).args(names)).with_context(by_hand)
}

fn apt_get(top: &Top, arguments: &[&str]) -> std::process::Command {
    // Only root may install. `sudo` also drops the environment, so the setting that keeps apt from asking goes through env.
    let mut command = match is_root() {
        true => top.command("env"),
        false => {
            let mut sudo = top.command("sudo");
            sudo.arg("env");
            sudo
        }
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
    command
}

/// Whether this process is root, by the owner of its entry in /proc.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}
