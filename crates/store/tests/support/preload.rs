//! A child process (this test binary again, running one of its tests) with C sources of this directory preloaded
//! between SQLite and the kernel.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command that runs the test `name` with `source` preloaded.
pub(crate) fn child(source: &str, name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env("LD_PRELOAD", library(source, name));
    command
}

/// Compiles `source` for this test alone: other tests may be loading their own copy.
fn library(source: &str, name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.so"));
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let compiled = Command::new(compiler)
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .args([&library, &path])
        .arg("-ldl")
        .status();
    assert!(compiled.expect("a C compiler, which SQLite needs as well").success());
    library
}
