//! `demo`: builds the two programs in release mode and becomes `muster demo`.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::shell::{self, Top};

/// Build in release mode and show a service upgraded under load
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of `muster demo`, such as --exit
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Builds, then replaces this process; returns only when that fails.
pub(crate) fn run(top: &Top, args: &Args) -> Result<()> {
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
    muster
        .arg("demo")
        .args(&args.options)
        .env("MUSTER_SIMPLESERVICE", programs.join("simpleservice"));
    // Replacing the process hands signals, terminal and exit code straight to the demo.
    Err(muster.exec()).context("cannot start target/release/muster")
}
