//! R2 and the manifest side of R1: which of our crates depend on which, read from `cargo metadata`.
//!
//! The table [`MAY_USE`] is the one of ARCHITECTURE.md. Tests may also depend on pure crates, since a test may need a
//! document or a plan; that never makes a daemon link another. Libraries with one owner are listed in `deny.toml`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Finding, Rule};

/// The crates without IO.
pub(super) const PURE: &[&str] = &["model", "planner", "compliance", "template", "formats"];

/// Which of our crates each may use. The command line and the simulator name everything but each other.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("planner", &["model"]),
    ("compliance", &["model"]),
    ("template", &[]),
    ("formats", &["model", "template"]),
    ("api", &["model"]),
    ("store", &["model"]),
    ("server", &["model", "planner", "compliance", "template", "formats", "api", "store"]),
    ("agent", &["model", "api", "template"]),
    ("gateway", &["model", "api"]),
    ("dns", &["model", "api"]),
    ("cli", &ALL),
    ("sim", &ALL),
    ("tests", &["model", "api"]),
    ("fuzz", &["model", "planner", "formats", "api", "gateway"]),
    ("xtask", &[]),
    ("simpleservice", &[]),
];

/// Which of our crates an adapter may use: it translates between a foreign system and the server.
const ADAPTER_MAY_USE: &[&str] = &["model", "formats", "api", "server", "compliance", "template"];

/// Further crates that the tests of an adapter may use: a server needs a store.
const ADAPTER_TESTS_MAY_USE: &[&str] = &["store"];

/// The crates that name adapters: the one that composes them, and those that test them from outside.
const MAY_USE_ADAPTERS: &[&str] = &["cli", "sim", "tests", "fuzz"];

const ALL: [&str; 11] = [
    "model",
    "planner",
    "compliance",
    "template",
    "formats",
    "api",
    "store",
    "server",
    "agent",
    "gateway",
    "dns",
];

/// Libraries that a pure crate must not contain, not even through another library.
const IMPURE: &[&str] = &[
    "async-std",
    "axum",
    "bollard",
    "getrandom",
    "hyper",
    "mio",
    "notify",
    "rand",
    "reqwest",
    "rusqlite",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "tempfile",
    "tokio",
    "ureq",
];

const PURE_MANIFEST: Rule = Rule {
    id: "R1",
    why: "a pure crate has no runtime, no IO, no clock and no randomness, so that equal inputs give equal plans; its manifest keeps them out",
    remedy: "take what you need as a parameter, or do it in the shell around (server, agent, cli)",
};
const EDGE: Rule = Rule {
    id: "R2",
    why: "daemons speak through `api` and fail alone; only `cli`, `sim` and `fuzz` name them",
    remedy: "move what both need into `api` (the wire) or `model` (the laws); a new crate wants a row in xtask/src/tidy/edges.rs",
};
/// Our packages and their dependencies.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    packages: Vec<Package>,
    /// Every package of the graph by id: its name and the ids it needs to be built and run, tests apart.
    graph: BTreeMap<String, (String, Vec<String>)>,
}

#[derive(Debug, Default)]
struct Package {
    id: String,
    /// The folder's name, which is the crate's name.
    name: String,
    manifest: String,
    is_adapter: bool,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    /// The folder's name for one of ours, else the package's name.
    name: String,
    is_ours: bool,
    is_adapter: bool,
    is_for_tests: bool,
}

/// Whether the folder of a crate is in the folder of adapters.
fn is_adapter(folder: &Path) -> bool {
    folder.parent().and_then(Path::file_name).is_some_and(|name| name == "adapters")
}

impl Workspace {
    /// Reads the output of `cargo metadata --format-version 1` for the repository at `top`.
    pub(super) fn parse(metadata: &str, top: &Path) -> Result<Self> {
        let document: Value =
            serde_json::from_str(metadata).context("cargo metadata printed something else")?;
        let members: BTreeSet<&str> =
            array(&document, "workspace_members").filter_map(Value::as_str).collect();
        let mut workspace = Self::default();
        let mut names = BTreeMap::new();
        for package in array(&document, "packages") {
            let (id, name) = (text(package, "id"), text(package, "name"));
            names.insert(id.to_owned(), name.to_owned());
            if members.contains(id) {
                workspace.packages.push(Package::parse(package, top));
            }
        }
        for node in array(&document["resolve"], "nodes") {
            let needed = array(node, "deps").filter(|dependency| {
                // Without a kind it is a normal dependency; `build` ones run on the builder, `dev` ones in tests.
                array(dependency, "dep_kinds").any(|kind| kind["kind"].is_null())
            });
            let needed = needed.map(|dependency| text(dependency, "pkg").to_owned()).collect();
            let id = text(node, "id");
            let name = names.get(id).cloned().unwrap_or_default();
            workspace.graph.insert(id.to_owned(), (name, needed));
        }
        Ok(workspace)
    }

    /// The shortest chain of packages from `id` to one that is not pure, if there is one.
    fn impure_chain(&self, id: &str) -> Option<Vec<&str>> {
        let mut queue = VecDeque::from([vec![id]]);
        let mut seen = BTreeSet::from([id]);
        while let Some(chain) = queue.pop_front() {
            let (name, needed) = self.graph.get(*chain.last()?)?;
            if IMPURE.contains(&name.as_str()) {
                return Some(
                    chain.iter().filter_map(|id| Some(self.graph.get(*id)?.0.as_str())).collect(),
                );
            }
            for next in needed {
                if seen.insert(next) {
                    queue.push_back(chain.iter().copied().chain([next.as_str()]).collect());
                }
            }
        }
        None
    }
}

impl Package {
    fn parse(package: &Value, top: &Path) -> Self {
        let manifest = Path::new(text(package, "manifest_path"));
        let dependencies = array(package, "dependencies").map(|dependency| {
            let path = dependency["path"].as_str().map(Path::new);
            let folder = path.and_then(Path::file_name);
            let folder = folder.map(|name| name.to_string_lossy().into_owned());
            Dependency {
                is_ours: folder.is_some(),
                is_adapter: path.is_some_and(is_adapter),
                name: folder.unwrap_or_else(|| text(dependency, "name").to_owned()),
                is_for_tests: dependency["kind"] == "dev",
            }
        });
        let folder = manifest.parent().unwrap_or(manifest);
        Self {
            id: text(package, "id").to_owned(),
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            is_adapter: is_adapter(folder),
            manifest: manifest.strip_prefix(top).unwrap_or(manifest).display().to_string(),
            dependencies: dependencies.collect(),
        }
    }

    fn finding(&self, rule: &'static Rule, what: String) -> Finding {
        Finding { path: self.manifest.clone(), line: 1, rule, what }
    }
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Findings in the manifests.
pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        findings.extend(check_edges(package));
        if PURE.contains(&package.name.as_str())
            && let Some(chain) = workspace.impure_chain(&package.id)
        {
            findings.push(
                package.finding(
                    &PURE_MANIFEST,
                    format!("a pure crate contains {}", chain.join(" -> ")),
                ),
            );
        }
    }
    findings
}

fn check_edges(package: &Package) -> Vec<Finding> {
    let row = match package.is_adapter {
        true => Some(&ADAPTER_MAY_USE),
        false => MAY_USE.iter().find(|(name, _)| *name == package.name).map(|(_, may_use)| may_use),
    };
    let Some(may_use) = row else {
        return vec![
            package.finding(
                &EDGE,
                format!("crate `{}` has no row in the table of edges", package.name),
            ),
        ];
    };
    let is_allowed = |dependency: &Dependency| {
        let name = dependency.name.as_str();
        if dependency.is_adapter {
            return MAY_USE_ADAPTERS.contains(&package.name.as_str());
        }
        let is_for_adapter_tests = package.is_adapter && ADAPTER_TESTS_MAY_USE.contains(&name);
        may_use.contains(&name)
            || (dependency.is_for_tests && (PURE.contains(&name) || is_for_adapter_tests))
    };
    let ours = package.dependencies.iter().filter(|dependency| dependency.is_ours);
    let forbidden = ours.filter(|dependency| !is_allowed(dependency));
    forbidden
        .map(|dependency| {
            package.finding(&EDGE, format!("`{}` may not use `{}`", package.name, dependency.name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace where each crate depends on the named ones; `kind` is cargo's, null for normal. A name that begins
    /// with `adapters/` is one of an adapter.
    fn found(crates: &[(&str, &[&str])], kind: Value) -> Vec<String> {
        let folder = |name: &str| match name.starts_with("adapters/") {
            true => format!("/top/{name}"),
            false => format!("/top/crates/{name}"),
        };
        let ours: Vec<&str> = crates.iter().map(|(name, _)| *name).collect();
        let others: BTreeSet<&str> = crates.iter().flat_map(|(_, uses)| *uses).copied().collect();
        let mut packages = Vec::new();
        let mut nodes = Vec::new();
        for (name, uses) in crates {
            let dependencies: Vec<Value> = uses
                .iter()
                .map(|used| {
                    let path = ours.contains(used).then(|| folder(used));
                    json!({ "name": used, "kind": kind, "path": path })
                })
                .collect();
            let manifest = format!("{}/Cargo.toml", folder(name));
            packages.push(
                json!({ "id": name, "name": name, "manifest_path": manifest, "dependencies": dependencies }),
            );
            let deps: Vec<Value> = uses
                .iter()
                .map(|used| json!({ "pkg": used, "dep_kinds": [{ "kind": kind }] }))
                .collect();
            nodes.push(json!({ "id": name, "deps": deps }));
        }
        for other in others.iter().filter(|other| !ours.contains(other)) {
            packages.push(
                json!({ "id": other, "name": other, "manifest_path": "/x/y", "dependencies": [] }),
            );
            nodes.push(json!({ "id": other, "deps": [] }));
        }
        let metadata = json!({ "packages": packages, "workspace_members": ours, "resolve": { "nodes": nodes } });
        let workspace = Workspace::parse(&metadata.to_string(), Path::new("/top")).unwrap();
        check(&workspace)
            .iter()
            .map(|finding| format!("{}: {} {}", finding.path, finding.rule.id, finding.what))
            .collect()
    }

    #[test]
    fn the_edges_of_the_table_pass() {
        let crates: &[(&str, &[&str])] = &[
            ("model", &["serde"]),
            ("planner", &["model"]),
            ("server", &["planner", "model", "tokio"]),
            ("agent", &["model", "bollard"]),
            ("cli", &["server", "agent"]),
        ];
        assert_eq!(found(crates, Value::Null), [""; 0]);
    }

    #[test]
    fn a_daemon_that_depends_on_another_is_reported() {
        let crates: &[(&str, &[&str])] = &[("server", &["agent"]), ("agent", &[])];
        assert_eq!(
            found(crates, Value::Null),
            ["crates/server/Cargo.toml: R2 `server` may not use `agent`"]
        );
        assert_eq!(found(crates, json!("dev")).len(), 1);
    }

    #[test]
    fn adapters_use_the_server_and_only_the_command_line_uses_them() {
        let crates: &[(&str, &[&str])] = &[
            ("cli", &["adapters/old"]),
            ("adapters/old", &["server", "model"]),
            ("server", &["model"]),
            ("model", &[]),
        ];
        assert_eq!(found(crates, Value::Null), [""; 0]);
        let crates: &[(&str, &[&str])] = &[("adapters/old", &["store"]), ("store", &[])];
        assert_eq!(found(crates, json!("dev")), [""; 0]);
        assert_eq!(found(crates, Value::Null).len(), 1);
        let crates: &[(&str, &[&str])] = &[
            ("server", &["adapters/old"]),
            ("adapters/old", &["agent", "adapters/other"]),
            ("adapters/other", &[]),
            ("agent", &[]),
        ];
        assert_eq!(
            found(crates, Value::Null),
            [
                "crates/server/Cargo.toml: R2 `server` may not use `old`",
                "adapters/old/Cargo.toml: R2 `old` may not use `agent`",
                "adapters/old/Cargo.toml: R2 `old` may not use `other`",
            ]
        );
    }

    #[test]
    fn tests_may_use_pure_crates() {
        let crates: &[(&str, &[&str])] = &[("planner", &["formats", "tokio"]), ("formats", &[])];
        assert_eq!(found(crates, json!("dev")), [""; 0]);
    }

    #[test]
    fn a_crate_without_a_row_is_reported() {
        let text = "crates/helper/Cargo.toml: R2 crate `helper` has no row in the table of edges";
        assert_eq!(found(&[("helper", &[])], Value::Null), [text]);
    }

    #[test]
    fn io_in_a_pure_crate_is_reported_even_if_indirect() {
        let crates: &[(&str, &[&str])] = &[("planner", &["model"]), ("model", &["tokio"])];
        assert_eq!(
            found(crates, Value::Null),
            [
                "crates/planner/Cargo.toml: R1 a pure crate contains planner -> model -> tokio",
                "crates/model/Cargo.toml: R1 a pure crate contains model -> tokio",
            ]
        );
    }
}
