//! The container image of `examples/simpleservice`, under the name the lab's files use.
//!
//! The program is linked statically and the image contains nothing else. A label has the fingerprint of its sources; while
//! that is unchanged the image is not built again, since a release build takes most of a minute. Versions of libraries are not part of the fingerprint: they change with every lock file and never affect the responses.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::shell::{Top, output, run};

const TAG: &str = "mhausenblas/simpleservice:0.4.0";
const LABEL: &str = "muster.sources";
const SOURCES: &str = "examples/simpleservice";
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Apart from the usual one, as other flags would rebuild everything there, back and forth.
const TARGET_DIR: &str = "target/image";

/// Makes sure that the engine has the image of the present sources. The engine must answer, see [`crate::docker`].
pub(crate) fn ensure(top: &Top) -> Result<()> {
    let fingerprint = fingerprint(&top.join(SOURCES))?;
    let format = format!("{{{{ index .Config.Labels \"{LABEL}\" }}}}");
    let present =
        output(top.command("docker").args(["image", "inspect", "--format", &format, TAG]));
    if present.is_ok_and(|present| present == fingerprint) {
        println!("image {TAG} is there, built from the present sources");
        return Ok(());
    }

    let program = program(top)?;
    // The context holds just the two files; the whole repository would be sent to the engine otherwise.
    let context = top.join(TARGET_DIR).join("context");
    fs::create_dir_all(&context)?;
    fs::copy(&program, context.join("simpleservice"))
        .with_context(|| format!("cannot copy {}", program.display()))?;
    fs::copy(top.join(SOURCES).join("Dockerfile"), context.join("Dockerfile"))?;
    let label = format!("{LABEL}={fingerprint}");
    run(top.command("docker").args(["build", "--tag", TAG, "--label", &label]).arg(&context))
}

/// Builds the program without dependencies on shared libraries; returns its path.
pub(crate) fn program(top: &Top) -> Result<PathBuf> {
    let build = [
        "build",
        "--release",
        "--package",
        "simpleservice",
        "--target",
        TARGET,
        "--target-dir",
        TARGET_DIR,
    ];
    run(top.cargo(&build).env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(top.join(TARGET_DIR).join(TARGET).join("release/simpleservice"))
}

/// A number that differs when any file below `folder` does, in name or content.
fn fingerprint(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        let name = file.strip_prefix(folder).expect("collected below the folder");
        hasher.write(name.as_os_str().as_encoded_bytes());
        hasher.write_u8(0);
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        hasher.write_usize(content.len());
        hasher.write(&content);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        match path.is_dir() {
            // Tests do not go into the image.
            true if path.ends_with("tests") => {}
            true => collect(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
