//! `test`: everything that must hold before a change goes in, cheapest first.
//!
//! Continuous integration runs the same (`.ci/run`), on a machine that may be a fresh Debian.

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Package},
    clients, docker, docs, image,
    shell::{Top, is_installed, output, run},
    step::{self, Step},
    tidy,
};

/// The peers and engines that the acceptance tests talk to, the Docker engine apart.
const PACKAGES: &[Package] = &[Package { program: "haproxy", package: "haproxy" }];

/// The acceptance tests: their package starts real processes and is kept out of the fast step.
const ACCEPTANCE: &str = "muster-tests";

/// The longest wait for the advisory database; where it cannot be reached, the connection may hang for minutes.
const ADVISORIES_WAIT_S_MAX: &str = "60";

/// The steps, in order.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "packages",
        what: "the requirements of the tests are installed",
        needs: &[],
        run: packages,
    },
    Step { name: "format", what: "rustfmt would change nothing", needs: &[], run: format },
    Step { name: "tidy", what: "the rules of the project hold", needs: &[], run: tidy::run },
    Step {
        name: "deny",
        what: "dependencies: licences, bans, sources, advisories",
        needs: &[],
        run: deny,
    },
    Step { name: "lint", what: "clippy reports nothing", needs: &[], run: lint },
    Step { name: "build", what: "all programs build", needs: &[], run: build },
    Step {
        name: "docs",
        what: "examples in the documentation compile and run; the book is up to date",
        needs: &["build"],
        run: documentation,
    },
    Step {
        name: "engine",
        what: "a Docker engine responds and has the image",
        needs: &["packages"],
        run: engine,
    },
    Step {
        name: "clients",
        what: "the clients of foreign APIs are there as pinned and start",
        needs: &[],
        run: clients::ensure,
    },
    Step {
        name: "unit",
        what: "unit, property, scenario and contract tests",
        needs: &["build", "engine"],
        run: unit,
    },
    Step {
        name: "acceptance",
        what: "the real programs against real engines and clients",
        needs: &["packages", "build", "engine", "clients"],
        run: acceptance,
    },
];

/// Runs all steps, or one with the steps that it needs.
pub(crate) fn check(top: &Top, only: Option<&str>) -> Result<()> {
    step::run(top, "test", STEPS, only)
}

fn packages(top: &Top) -> Result<()> {
    apt::ensure(top, PACKAGES)?;
    apt::ensure(top, docker::PACKAGES)
}

fn format(top: &Top) -> Result<()> {
    run(&mut top.cargo(&["fmt", "--all", "--check"])).context("`cargo fmt --all` mends it")
}

fn lint(top: &Top) -> Result<()> {
    run(&mut top.cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}

fn deny(top: &Top) -> Result<()> {
    if !is_installed("cargo-deny") && output(&mut top.cargo(&["deny", "--version"])).is_err() {
        run(&mut top.cargo(&["install", "cargo-deny", "--locked"]))?;
    }
    run(&mut top.cargo(&["deny", "--workspace", "check", "bans", "licenses", "sources"]))?;
    let fetch = output(top.command("timeout").args([
        ADVISORIES_WAIT_S_MAX,
        "cargo",
        "deny",
        "fetch",
        "db",
    ]));
    match fetch {
        Ok(_) => run(&mut top.cargo(&["deny", "--workspace", "check", "advisories"])),
        Err(_) => {
            println!(
                "advisories NOT checked: their database, github.com/RustSec/advisory-db, cannot be fetched from here"
            );
            Ok(())
        }
    }
}

fn build(top: &Top) -> Result<()> {
    run(&mut top.cargo(&["build", "--workspace", "--bins"]))
}

fn unit(top: &Top) -> Result<()> {
    tests(top, &["--workspace", "--exclude", ACCEPTANCE])
}

fn documentation(top: &Top) -> Result<()> {
    run(&mut top.cargo(&["test", "--workspace", "--doc"]))?;
    docs::check(top)
}

fn engine(top: &Top) -> Result<()> {
    docker::ensure(top)?;
    image::ensure(top)
}

fn acceptance(top: &Top) -> Result<()> {
    tests(top, &["--package", ACCEPTANCE])
}

/// Runs tests with nextest where it is installed, else with cargo's own runner.
fn tests(top: &Top, packages: &[&str]) -> Result<()> {
    let programs = top.built("debug");
    for program in ["muster", "simpleservice"] {
        if !programs.join(program).is_file() {
            bail!(
                "there is no {program} in {}; `cargo xtask test --only build` makes it",
                programs.display()
            );
        }
    }
    let mut command = match is_installed("cargo-nextest") {
        true => top.cargo(&["nextest", "run", "--no-tests", "pass"]),
        false => top.cargo(&["test", "--tests"]),
    };
    command
        .args(packages)
        // Tests that need Docker fail without it instead of passing over it.
        .env("MUSTER_NEED_DOCKER", "1")
        .env("MUSTER_BIN", programs.join("muster"))
        .env("MUSTER_SIMPLESERVICE", programs.join("simpleservice"));
    run(&mut command)
}
