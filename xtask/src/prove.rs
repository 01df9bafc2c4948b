//! The long lanes: `sim` simulates clusters, `prove` runs 100,000 cases of each property and then simulates new seeds.
//! Both are built with a profile of their own: optimised, with the assertions of a debug build.

use std::{ffi::OsStr, path::Path};

use anyhow::{Result, bail};

use crate::shell::{Top, is_installed, run};

/// The number of new seeds after the properties.
const SEEDS: &str = "1000";

/// A file system in memory. Properties test the logic of stores, not the disk; power loss has tests of its own.
const MEMORY: &str = "/dev/shm";

/// Run 100,000 cases of each property, then 1,000 new seeds of the simulator
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Cases of each property
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    cases: u32,
}

/// Runs the simulator with these options.
pub(crate) fn simulate(top: &Top, options: &[impl AsRef<OsStr>]) -> Result<()> {
    let build = ["run", "--quiet", "--profile", "prove", "--package", "muster-sim", "--"];
    run(top.cargo(&build).args(options))
}

/// Runs every property, then the simulator.
pub(crate) fn prove(top: &Top, args: &Args) -> Result<()> {
    if !is_installed("cargo-nextest") {
        bail!("cargo-nextest is missing; `cargo install cargo-nextest --locked` gets it");
    }
    let tests = ["nextest", "run", "--cargo-profile", "prove", "--profile", "prove"];
    let which = ["--workspace", "--exclude", "muster-tests", "-E", "binary(properties)"];
    let mut properties = top.cargo(&tests);
    properties.args(which).env("PROPTEST_CASES", args.cases.to_string());
    if Path::new(MEMORY).is_dir() {
        properties.env("TMPDIR", MEMORY);
    }
    run(&mut properties)?;
    simulate(top, &["--fresh", "--seeds", SEEDS])
}
