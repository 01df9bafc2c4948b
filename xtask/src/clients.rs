//! The real clients of foreign APIs that the acceptance tests run, unmodified, at pinned versions.
//!
//! `tests/clients/clients.json` lists the clients, the files beside it pin their versions. Each client is installed
//! below `target/clients/`, in a directory of its own with its own libraries. A stamp in that directory contains all
//! inputs of the installation, so that a second run does nothing. It is written last, after the client has started
//! once: an incomplete installation is repeated.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde::Deserialize;

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

const LIST: &str = "clients.json";

/// The list of clients.
#[derive(Debug, Deserialize)]
struct Clients {
    python: Vec<PythonClient>,
    node: NodeClients,
}

/// A client in Python. Its requirements are in `NAME.txt`.
#[derive(Debug, Deserialize)]
struct PythonClient {
    name: String,
    /// Further files with requirements, which its own file includes.
    libraries: Vec<String>,
    /// The command that shows that it starts; the program is relative to its directory.
    proof: Vec<String>,
}

/// The clients in JavaScript, which share one directory.
#[derive(Debug, Deserialize)]
struct NodeClients {
    proof: Vec<String>,
}

const TOOLS: &str = "tools.txt";
/// The module that restores names which newer versions of Python have removed.
const SHIM: &str = "shim";
const SHIM_MODULE: &str = "restored_names";

const NODE: &str = "node";
const NODE_PINS: &[&str] = &["package.json", "package-lock.json"];

/// Installs all clients that are not installed at their pinned versions, and checks that they start.
pub(crate) fn ensure(top: &Top) -> Result<()> {
    apt::ensure(top, PACKAGES)?;
    // Debian has the module for virtual environments in a package of its own, which contains no program to look for.
    let has_venv =
        |top: &Top| output(top.command("python3").args(["-c", "import venv, ensurepip"]));
    if has_venv(top).is_err() {
        apt::install(top, &["python3-venv"])?;
        has_venv(top)?;
    }
    let python = output(top.command("python3").arg("--version"))?;
    let list = read(&top.join(SOURCES).join(LIST))?;
    let clients: Clients =
        serde_json::from_str(&list).with_context(|| format!("cannot read {LIST}"))?;
    for client in &clients.python {
        let requirements = format!("{}.txt", client.name);
        let mut pins = vec![requirements.as_str(), TOOLS];
        pins.extend(client.libraries.iter().map(String::as_str));
        let make = || python_client(top, client, &requirements);
        when_changed(top, &client.name, &python, &pins, make)?;
    }
    let node = output(top.command("node").arg("--version"))?;
    let pins: Vec<String> = NODE_PINS.iter().map(|pin| format!("{NODE}/{pin}")).collect();
    let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
    when_changed(top, NODE, &node, &pins, || node_client(top, &clients.node))
}

/// Installs a client again unless its stamp has the same inputs.
fn when_changed(
    top: &Top,
    name: &str,
    runtime: &str,
    pins: &[&str],
    make: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let folder = top.join(TARGET).join(name);
    // The programs of a virtual environment contain its absolute path: after a move of the repository it is stale.
    let mut stamp = format!("{runtime}\n{}\n", folder.display());
    for pin in pins {
        stamp += &read(&top.join(SOURCES).join(pin))?;
    }
    if fs::read_to_string(folder.join(STAMP)).is_ok_and(|made_of| made_of == stamp) {
        println!("client {name} is installed");
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

fn python_client(top: &Top, client: &PythonClient, requirements: &str) -> Result<()> {
    let folder = top.join(TARGET).join(&client.name);
    run(top.command("python3").args(["-m", "venv"]).arg(&folder))?;
    let python = folder.join("bin/python");
    let pip = |arguments: &[&str], list: &str| {
        let mut command = Command::new(&python);
        command.current_dir(top.path()).args(["-m", "pip", "install", "--quiet", "--no-deps"]);
        command.args(arguments).arg("--requirement").arg(top.join(SOURCES).join(list));
        // The lists are complete, and pinned to versions of which pip would only warn.
        run(command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1"))
    };
    pip(&[], TOOLS)?;
    pip(&["--no-build-isolation"], requirements)?;
    let packages_path = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = output(Command::new(&python).args(["-c", packages_path]))?;
    let shim = format!("{}\nimport {SHIM_MODULE}\n", top.join(SOURCES).join(SHIM).display());
    fs::write(Path::new(&packages).join("shim.pth"), shim).context("cannot write the shim")?;
    let [program, arguments @ ..] = client.proof.as_slice() else { return Ok(()) };
    // The client keeps its settings in the home directory; it must not find those of the user.
    run(Command::new(folder.join(program)).args(arguments).env("HOME", &folder))
}

fn node_client(top: &Top, clients: &NodeClients) -> Result<()> {
    let folder = top.join(TARGET).join(NODE);
    for pin in NODE_PINS {
        fs::copy(top.join(SOURCES).join(NODE).join(pin), folder.join(pin))?;
    }
    let npm = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"];
    run(top.command("npm").current_dir(&folder).args(npm))?;
    let [program, arguments @ ..] = clients.proof.as_slice() else { return Ok(()) };
    run(top.command(program).current_dir(&folder).args(arguments))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
