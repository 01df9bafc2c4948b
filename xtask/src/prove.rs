//! The long lanes: simulated clusters from as many seeds as one likes (`sim`), and that after 100,000 cases of each
//! property (`prove`). Both are built with a profile of their own: quick, with the assertions of a debug build.

use std::path::Path;

use anyhow::{Result, bail};

use crate::shell::{Top, is_installed, run};

/// As many cases of each property.
const CASES: &str = "100000";
/// As many seeds, new ones each time.
const SEEDS: &str = "1000";

/// Where files lie in memory. Properties are of what stores do; a disk only makes them wait, and
/// what one does when its power fails is tested by itself.
const MEMORY: &str = "/dev/shm";

/// Runs the simulator with these arguments.
pub(crate) fn simulate(top: &Top, arguments: &[&str]) -> Result<()> {
    let build = ["run", "--quiet", "--profile", "prove", "--package", "muster-sim", "--"];
    run(top.cargo(&build).args(arguments))
}

/// Runs every property for as many cases as it takes, then the simulator.
pub(crate) fn prove(top: &Top, cases: Option<&str>) -> Result<()> {
    if !is_installed("cargo-nextest") {
        bail!("cargo-nextest is missing; `cargo install cargo-nextest --locked` gets it");
    }
    let tests = ["nextest", "run", "--cargo-profile", "prove", "--profile", "prove"];
    let which = ["--workspace", "--exclude", "muster-tests", "-E", "binary(properties)"];
    let mut properties = top.cargo(&tests);
    properties.args(which).env("PROPTEST_CASES", cases.unwrap_or(CASES));
    if Path::new(MEMORY).is_dir() {
        properties.env("TMPDIR", MEMORY);
    }
    run(&mut properties)?;
    simulate(top, &["--fresh", "--seeds", SEEDS])
}
