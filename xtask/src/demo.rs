//! `demo`: builds the two programs in release mode and becomes `muster demo`.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::shell::{self, Top};

/// Builds, then replaces this process; answers only when that fails.
pub(crate) fn run(top: &Top, arguments: &[&str]) -> Result<()> {
    shell::run(&mut top.cargo(&[
        "build",
        "--release",
        "--bin",
        "muster",
        "--bin",
        "simpleservice",
    ]))?;
    let programs = top.built("release");
    let mut muster = top.command(&programs.join("muster").to_string_lossy());
    muster.arg("demo").args(arguments).env("MUSTER_SIMPLESERVICE", programs.join("simpleservice"));
    // Replacing the process hands signals, terminal and exit code straight to the demo.
    Err(muster.exec()).context("cannot start target/release/muster")
}
