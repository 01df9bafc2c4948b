//! The real clients of foreign APIs that the acceptance tests run, unmodified, at pinned versions.
//!
//! What is installed stands in `tests/clients/`; it goes below `target/clients/`, each client into a place of its own
//! with its own libraries. A stamp beside each holds everything it was made of, so that a second run has nothing to do.
//! The stamp is written last, after the client has started once: a half-made one is made again.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    apt::{self, Package},
    shell::{Top, output, run},
};

const PACKAGES: &[Package] = &[
    Package { program: "python3", package: "python3" },
    Package { program: "node", package: "nodejs" },
    Package { program: "npm", package: "npm" },
];
const SOURCES: &str = "tests/clients";
const TARGET: &str = "target/clients";
const STAMP: &str = "stamp";

/// Clients in Python: the name of the list of requirements, further files that go into it, and what shows that it starts.
const PYTHON: &[(&str, &[&str], &[&str])] = &[
    ("dcos-0.4.17", &["dcos-libraries.txt"], &["bin/dcos", "--version"]),
    ("dcos-0.5.7", &["dcos-libraries.txt"], &["bin/dcos", "--version"]),
    ("dcos-0.6.1", &["dcos-libraries.txt"], &["bin/dcos", "--version"]),
    ("marathon-python", &[], &["bin/python", "-c", "import marathon"]),
];
const TOOLS: &str = "tools.txt";
/// The module that puts back names which Python took away; see there.
const SHIM: &str = "shim";
const SHIM_MODULE: &str = "restored_names";

const NODE: &str = "node";
const NODE_PINS: &[&str] = &["package.json", "package-lock.json"];

/// Makes sure that all clients are there as pinned and start.
pub(crate) fn ensure(top: &Top) -> Result<()> {
    apt::ensure(top, PACKAGES)?;
    // Debian keeps what makes virtual environments in a package of its own, without a program to look for.
    let has_venv =
        |top: &Top| output(top.command("python3").args(["-c", "import venv, ensurepip"]));
    if has_venv(top).is_err() {
        apt::install(top, &["python3-venv"])?;
        has_venv(top)?;
    }
    let python = output(top.command("python3").arg("--version"))?;
    for (name, more, proof) in PYTHON {
        let requirements = format!("{name}.txt");
        let pins = [&[requirements.as_str(), TOOLS], *more].concat();
        let make = || python_client(top, name, &requirements, proof);
        when_changed(top, name, &python, &pins, make)?;
    }
    let node = output(top.command("node").arg("--version"))?;
    let pins: Vec<String> = NODE_PINS.iter().map(|pin| format!("{NODE}/{pin}")).collect();
    let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
    when_changed(top, NODE, &node, &pins, || node_client(top))
}

/// Makes a client anew unless its stamp says that it was made of the same.
fn when_changed(
    top: &Top,
    name: &str,
    runtime: &str,
    pins: &[&str],
    make: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let folder = top.join(TARGET).join(name);
    // Environments name their own place in their programs: a moved repository makes them anew.
    let mut stamp = format!("{runtime}\n{}\n", folder.display());
    for pin in pins {
        stamp += &read(&top.join(SOURCES).join(pin))?;
    }
    if fs::read_to_string(folder.join(STAMP)).is_ok_and(|made_of| made_of == stamp) {
        println!("client {name} is there");
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    make()?;
    fs::write(folder.join(STAMP), stamp).context("cannot write the stamp")
}

fn python_client(top: &Top, name: &str, requirements: &str, proof: &[&str]) -> Result<()> {
    let folder = top.join(TARGET).join(name);
    run(top.command("python3").args(["-m", "venv"]).arg(&folder))?;
    let python = folder.join("bin/python");
    let pip = |arguments: &[&str], list: &str| {
        let mut command = Command::new(&python);
        command.current_dir(top.path()).args(["-m", "pip", "install", "--quiet", "--no-deps"]);
        command.args(arguments).arg("--requirement").arg(top.join(SOURCES).join(list));
        // The lists are complete by themselves, and older than what pip would like to say about them.
        run(command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1"))
    };
    pip(&[], TOOLS)?;
    pip(&["--no-build-isolation"], requirements)?;
    let where_packages_lie = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = output(Command::new(&python).args(["-c", where_packages_lie]))?;
    let shim = format!("{}\nimport {SHIM_MODULE}\n", top.join(SOURCES).join(SHIM).display());
    fs::write(Path::new(&packages).join("shim.pth"), shim).context("cannot write the shim")?;
    let [program, arguments @ ..] = proof else { return Ok(()) };
    // The command line keeps its settings in the home directory; it is not to find those of whoever runs this.
    run(Command::new(folder.join(program)).args(arguments).env("HOME", &folder))
}

fn node_client(top: &Top) -> Result<()> {
    let folder = top.join(TARGET).join(NODE);
    for pin in NODE_PINS {
        fs::copy(top.join(SOURCES).join(NODE).join(pin), folder.join(pin))?;
    }
    let npm = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"];
    run(top.command("npm").current_dir(&folder).args(npm))?;
    run(top.command("node").current_dir(&folder).args(["-e", "require('marathon-node')"]))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
