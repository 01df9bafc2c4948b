//! The files that Mesos fetches into the sandbox of a task: `fetch`, and the deprecated `uris`.
//!
//! The sandbox of a process is the directory of its instance. In a container it is the directory
//! where Mesos mounts it, and `MESOS_SANDBOX` names it. Agents fetch by http and https; `file` and
//! `hdfs` would need what only a node of Mesos has.

use model::FileSpec;
use serde::{Deserialize, Serialize};

/// The sandbox in a container.
pub(super) const SANDBOX: &str = "/mnt/mesos/sandbox";

/// Names of archives that agents unpack.
const UNPACKED: [&str; 3] = [".tar", ".tar.gz", ".tgz"];
/// Names of further archives that Mesos unpacks.
const NOT_UNPACKED: [&str; 7] = [".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip", ".tbz", ".gz"];
/// Names of files with the credentials of a registry, which Mesos uses to pull the image.
const CREDENTIALS: [&str; 3] = [".dockercfg", "docker.tar.gz", ".docker/config.json"];

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Artifact {
    pub(super) uri: String,
    #[serde(default = "yes")]
    pub(super) extract: bool,
    #[serde(default)]
    pub(super) executable: bool,
    #[serde(default)]
    pub(super) cache: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dest_path: Option<String>,
}

fn yes() -> bool {
    true
}

impl Artifact {
    /// The file of an item of `uris`.
    pub(super) fn of(uri: String) -> Artifact {
        let mut artifact =
            Artifact { uri, extract: true, executable: false, cache: false, dest_path: None };
        artifact.extract = [&UNPACKED[..], &NOT_UNPACKED[..]].iter().any(|of| artifact.ends_in(of));
        artifact
    }

    /// The path in the sandbox: by default, the last part of that of the URI.
    fn path(&self) -> &str {
        let path = self.uri.split(['?', '#']).next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        self.dest_path.as_deref().unwrap_or(name)
    }

    fn ends_in(&self, extensions: &[&str]) -> bool {
        extensions.iter().any(|extension| self.path().ends_with(extension))
    }

    /// Whether it is unpacked. As in Mesos, `extract` is ignored for other files and for programs.
    fn is_unpacked(&self) -> bool {
        self.extract && !self.executable && self.ends_in(&UNPACKED)
    }

    /// The file of a service. In a container, the sandbox has a path of its own.
    pub(super) fn file(&self, sandbox: Option<&str>) -> FileSpec {
        let path = match (self.is_unpacked(), sandbox) {
            (true, sandbox) => sandbox.unwrap_or(".").into(),
            (false, Some(sandbox)) => format!("{sandbox}/{}", self.path()),
            (false, None) => self.path().into(),
        };
        FileSpec {
            path,
            url: Some(self.uri.clone()),
            extract: self.is_unpacked(),
            cache: self.cache,
            executable: self.executable,
            ..FileSpec::default()
        }
    }

    /// The violations of rules, with the keys. `has_image` is set if the app has an image.
    pub(super) fn problems(&self, has_image: bool) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let uri = &self.uri;
        if !["http://", "https://"].iter().any(|scheme| uri.starts_with(scheme)) {
            let message = format!("`{uri}` is not supported: files are fetched by http and https");
            problems.push(("uri", message));
        }
        if has_image && CREDENTIALS.iter().any(|name| uri.ends_with(name)) {
            let message = "credentials of registries are not supported yet: log the nodes in to \
                           the registry";
            problems.push(("uri", message.into()));
        }
        let is_asked = self.extract && !self.executable && !self.is_unpacked();
        if is_asked && self.ends_in(&NOT_UNPACKED) {
            let message = "only tar and tar.gz are unpacked yet: `\"extract\": false` fetches the \
                           archive as it is";
            problems.push(("extract", message.into()));
        }
        problems
    }
}
