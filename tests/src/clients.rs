//! Published clients of foreign APIs, unmodified, aimed at the server of a [`Cluster`].
//!
//! `cargo xtask test --only clients` puts them below `target/clients`, as pinned in
//! `tests/clients`. The scripts that use the libraries among them lie there too: they fail where
//! the library fails, and print as JSON the values that the test checks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, Run};

/// The versions of the `dcos` command line that are tried, oldest first.
pub const DCOS: [&str; 3] = ["0.4.17", "0.5.7", "0.6.1"];

/// Where a client was installed.
fn installed(client: &str) -> Result<PathBuf> {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients");
    let client = clients.join(client);
    ensure!(
        client.join("stamp").is_file(),
        "there is no {}; `cargo xtask test --only clients` makes it",
        client.display()
    );
    Ok(client)
}

/// A script of `tests/clients`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// A command that knows nothing of its surroundings but where programs lie and where it may write.
fn alone(program: impl AsRef<std::ffi::OsStr>, cluster: &Cluster) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", cluster.dir()).env("LANG", "C.UTF-8").env("PYTHONDONTWRITEBYTECODE", "1");
    command.current_dir(cluster.dir()).stdin(Stdio::null());
    command
}

/// Runs a script with marathon-python; its first argument is the address of the server.
pub fn python(cluster: &Cluster, name: &str, args: &[&str]) -> Result<Value> {
    let python = installed("marathon-python")?.join("bin/python");
    let mut command = alone(python, cluster);
    command.arg(script("marathon-python").join(name)).arg(cluster.url()).args(args);
    printed(&mut command)
}

/// The same with marathon-node.
pub fn node(cluster: &Cluster, name: &str, args: &[&str]) -> Result<Value> {
    let modules = installed("node")?.join("node_modules");
    let mut command = alone("node", cluster);
    command.env("NODE_PATH", modules).arg(script("node").join(name)).arg(cluster.url()).args(args);
    printed(&mut command)
}

/// The output of a script, parsed as JSON.
fn printed(command: &mut Command) -> Result<Value> {
    let run = Run::of(command)?;
    run.clone().ok()?;
    run.json()
}

/// The `dcos` command line in one of its versions.
pub struct Dcos<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
    /// Its version.
    pub version: &'static str,
}

impl<'a> Dcos<'a> {
    /// The version of [`DCOS`] that begins so.
    pub fn new(cluster: &'a Cluster, version: &str) -> Result<Dcos<'a>> {
        let known = DCOS.into_iter().find(|known| known.starts_with(version));
        let version = known.with_context(|| format!("there is no dcos {version}"))?;
        let program = installed(&format!("dcos-{version}"))?.join("bin/dcos");
        Ok(Dcos { cluster, program, version })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = alone(&self.program, self.cluster);
        command.env("DCOS_URL", self.cluster.url()).args(args);
        command
    }

    /// Runs a command to its end and returns its result, successful or not.
    pub fn run(&self, args: &[&str]) -> Result<Run> {
        Run::of(&mut self.command(args))
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        self.checked(&mut self.command(args), args)
    }

    /// Runs `dcos ARGS < FILE`, which must succeed.
    pub fn fed(&self, args: &[&str], file: &str) -> Result<String> {
        self.checked(self.command(args).stdin(File::open(file)?), args)
    }

    fn checked(&self, command: &mut Command, args: &[&str]) -> Result<String> {
        let what = || format!("dcos {} ({})", args.join(" "), self.version);
        Run::of(command).and_then(Run::ok).with_context(what)
    }

    /// The output of a command, parsed as JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let printed = self.ok(args)?;
        serde_json::from_str(&printed).with_context(|| format!("not JSON: {printed}"))
    }

    /// The output of a command, as a table.
    pub fn table(&self, args: &[&str]) -> Result<Table> {
        let printed = self.ok(args)?;
        let cells = |line: &str| {
            let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
            cells.map(String::from).collect::<Vec<_>>()
        };
        let mut lines = printed.lines().filter(|line| !line.trim().is_empty()).map(cells);
        let heads = lines.next().context("a table begins with its heads")?;
        let row = |cells: Vec<String>| heads.iter().cloned().zip(cells).collect();
        let rows = lines.map(row).collect();
        Ok(Table { heads, rows })
    }

    /// Starts a command that runs until it is dropped.
    pub fn follow(&self, args: &[&str]) -> Result<Following> {
        // Python buffers its output into a pipe.
        let mut command = self.command(args);
        command.env("PYTHONUNBUFFERED", "1").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut stdout = child.stdout.take().context("it is a pipe")?;
        let text = Arc::new(Mutex::new(String::new()));
        let following = Following { child, text: Arc::clone(&text) };
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut some) {
                let Ok(mut text) = text.lock() else { return };
                text.push_str(&String::from_utf8_lossy(&some[..length]));
            }
        });
        Ok(following)
    }
}

/// A table that a command has printed.
#[derive(Debug)]
pub struct Table {
    /// The heads of its columns.
    pub heads: Vec<String>,
    /// Its rows, by these heads.
    pub rows: Vec<BTreeMap<String, String>>,
}

/// A running command; it is killed when this is dropped.
pub struct Following {
    child: Child,
    text: Arc<Mutex<String>>,
}

impl Following {
    /// Its output up to now.
    pub fn text(&self) -> String {
        self.text.lock().map(|text| text.clone()).unwrap_or_default()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // One that has ended already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
