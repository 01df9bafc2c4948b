//! Running programs from the top of the repository, visibly.
//!
//! Every command is printed before it runs, so that it can be copied from a log and repeated.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The top directory of the repository.
#[derive(Debug)]
pub(crate) struct Top(PathBuf);

impl Top {
    /// The repository this program was compiled in: cargo compiles it anew in every clone.
    pub(crate) fn find() -> Self {
        let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self(xtask.parent().expect("xtask lies in the repository").to_owned())
    }

    /// Another tree of this repository.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path below it.
    pub(crate) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// A path below the directory where cargo builds.
    pub(crate) fn built(&self, path: impl AsRef<Path>) -> PathBuf {
        let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        self.0.join(target).join(path)
    }

    /// A command that runs in the top directory.
    ///
    /// `cargo run` describes *this* package in the environment. Passed on, that would look like a change to every build
    /// script that reads it and rebuild half the tree for each verb, so it is taken out.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.0);
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Cargo with these arguments.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("cargo");
        command.args(arguments);
        command
    }
}

/// Prints the command, runs it with our own output, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs the command quietly and returns its standard output without the last newline.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!(
            "`{line}` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8(output.stdout)
        .with_context(|| format!("`{line}` printed something else than text"))?;
    Ok(text.trim_end().to_owned())
}

/// Whether a program of this name can be started.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// The word as a shell would take it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_can_be_pasted() {
        let mut command = Command::new("docker");
        command.args(["inspect", "--format", "{{ .Id }}", "it's"]);
        assert_eq!(line(&command), r"docker inspect --format '{{ .Id }}' 'it'\''s'");
    }
}
