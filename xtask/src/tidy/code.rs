//! R1, R3 and R4 in the code of crates and adapters: the paths and strings that sources may name.

use super::{
    Finding, Rule,
    edges::PURE,
    lexer::Source,
    uses::{self, Path},
};

const PURE_SOURCE: Rule = Rule {
    id: "R1",
    why: "equal inputs give equal plans, bit for bit: a pure crate reads no clock, draws nothing, touches no disk, network, process or global, and iterates nothing in random order",
    remedy: "take time, randomness and input as parameters; use BTreeMap and BTreeSet",
};
const PURE_HALF: Rule = Rule {
    id: "R1",
    why: "the `format` module of an adapter is pure like `formats`: documents in, values of the model out; its crate has a runtime, so no manifest keeps it out",
    remedy: "do it in the adapter's `http` module and pass the result",
};
const WIRE: Rule = Rule {
    id: "R3",
    why: "only `api` knows the paths of the native wire; a path spelled twice is changed once",
    remedy: "use the constant or function of `api` (add it there)",
};
const PROCESS: Rule = Rule {
    id: "R3",
    why: "only the agent's drivers touch processes; another place that starts or signals them loses track of them",
    remedy: "make it an effect of the agent's core that a driver performs",
};
const SURROUNDINGS: Rule = Rule {
    id: "R3",
    why: "only `cli` reads arguments, environment and terminal, so that a daemon does what its settings say and nothing else",
    remedy: "add a field to the settings that `cli` passes in; for messages use `tracing`",
};
const DISK: Rule = Rule {
    id: "R3",
    why: "only `store` knows the disk (besides the agent, which keeps its instances there, and `cli`, which reads the user's files)",
    remedy: "store it through `store`, or let `cli` read the file and pass what it says",
};
const FEASIBLE: Rule = Rule {
    id: "R4",
    why: "the feasibility rule exists once, in `model`; a second one will disagree with it at commit",
    remedy: "call `State::rejection` of `model`",
};

/// Where a source file is.
struct Place<'a> {
    /// The folder's name, which is the crate's name.
    name: &'a str,
    is_adapter: bool,
    /// Its path below `src/`.
    file: &'a str,
}

impl<'a> Place<'a> {
    /// Of a source of our crates; `None` for other files.
    fn of(path: &'a str) -> Option<Self> {
        let (folder, file) = path.split_once("/src/")?;
        let (kind, name) = folder.split_once('/')?;
        let is_adapter = kind == "adapters";
        (is_adapter || kind == "crates").then_some(Self { name, is_adapter, file })
    }

    /// Whether it is the pure half of an adapter.
    fn is_format(&self) -> bool {
        self.is_adapter && (self.file.starts_with("format/") || self.file == "format.rs")
    }

    fn is_pure(&self) -> bool {
        self.is_format() || (!self.is_adapter && PURE.contains(&self.name))
    }

    /// Whether it may use the terminal: the command line, and the simulator's own program.
    fn has_terminal(&self) -> bool {
        self.is_crate("cli") || (self.is_crate("sim") && self.file == "main.rs")
    }

    fn is_driver(&self) -> bool {
        self.is_crate("agent") && self.file.starts_with("drivers")
    }

    fn is_crate(&self, name: &str) -> bool {
        !self.is_adapter && self.name == name
    }
}

/// A rule on the paths that code may name.
struct Ban {
    rule: &'static Rule,
    /// Whether the rule applies to a file.
    applies: fn(&Place<'_>) -> bool,
    /// Path prefixes, crates (`name::`), and words that count at any position of a path.
    paths: &'static [&'static str],
}

const BANS: &[Ban] = &[
    Ban {
        rule: &PURE_SOURCE,
        applies: |place| place.is_pure(),
        paths: &[
            "std::fs",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::net::ToSocketAddrs",
            "std::os",
            "std::process",
            "std::thread",
            "std::env",
            "std::time::Instant",
            "std::time::SystemTime",
            "std::io::stdin",
            "std::io::stdout",
            "std::io::stderr",
            "std::collections::hash_map",
            "std::collections::*",
            "std::*",
            "RandomState",
            "Instant::now",
            "SystemTime::now",
            "Timestamp::now",
            "Zoned::now",
            "jiff::Timestamp::now",
            "jiff::Zoned::now",
            "HashMap",
            "HashSet",
            // The persistent kin of the two, with the same random order.
            "HashTrieMap",
            "HashTrieSet",
            "thread_local!",
            "println!",
            "eprintln!",
            "print!",
            "eprint!",
        ],
    },
    Ban {
        rule: &PURE_HALF,
        applies: |place| place.is_format(),
        paths: &["api::", "axum::", "futures_util::", "http::", "hyper::", "server::", "tokio::"],
    },
    Ban {
        rule: &PROCESS,
        applies: |place| !place.is_pure() && !place.is_driver(),
        paths: &[
            "bollard",
            "std::process::Command",
            "tokio::process",
            "rustix::process",
            "rustix::pty",
            "rustix::mount",
        ],
    },
    Ban {
        rule: &SURROUNDINGS,
        applies: |place| !place.is_pure() && !place.has_terminal() && !place.is_driver(),
        paths: &["std::env"],
    },
    Ban {
        rule: &SURROUNDINGS,
        applies: |place| !place.is_pure() && !place.has_terminal(),
        paths: &[
            "std::io::stdin",
            "std::io::stdout",
            "std::env::args",
            "std::process::exit",
            "println!",
            "eprintln!",
            "print!",
            "eprint!",
        ],
    },
    Ban {
        rule: &DISK,
        applies: |place| {
            let has_disk = ["store", "agent", "cli"].iter().any(|name| place.is_crate(name));
            !place.is_pure() && !has_disk
        },
        paths: &["std::fs", "tokio::fs", "rustix::fs"],
    },
];

/// Globals by their first words; constants behind `LazyLock` and `OnceLock` compute the same every time and may stay.
const GLOBALS: &[&str] = &["Mutex<", "RwLock<", "RefCell<", "Cell<", "Atomic"];

/// Reasons that only the feasibility rule may construct. A planner may add that a node is silent, and any code may
/// read a reason; code that constructs one of these has its own copy of the rule.
const FEASIBILITY: &[&str] = &[
    "Reason::Cordoned",
    "Reason::Draining",
    "Reason::AgentTooOld",
    "Reason::Capability",
    "Reason::Constraint",
    "Reason::Cpu",
    "Reason::Memory",
    "Reason::Port",
    "Reason::Ports",
];

/// The functions of `rustix::process` that concern the process itself.
const OWN_LIMITS: &[&str] =
    &["rustix::process::Resource", "rustix::process::getrlimit", "rustix::process::setrlimit"];

/// Findings in the code at `path`. Only sources of our crates are checked.
pub(super) fn check(path: &str, source: &Source) -> Vec<Finding> {
    let Some(place) = Place::of(path) else { return Vec::new() };
    let name = place.name;
    let mut findings = Vec::new();
    let find = |line, rule, what| Finding { path: path.to_owned(), line, rule, what };

    for Path { line, path: named, is_test, .. } in uses::paths(source) {
        if is_test {
            continue;
        }
        for ban in BANS.iter().filter(|ban| (ban.applies)(&place)) {
            let is_own = OWN_LIMITS.contains(&named.as_str());
            if let Some(banned) =
                ban.paths.iter().find(|banned| is_below(&named, banned)).filter(|_| !is_own)
            {
                findings.push(find(line, ban.rule, format!("`{name}` names `{banned}`")));
            }
        }
    }
    for (index, line) in source.lines.iter().enumerate().filter(|(_, line)| !line.is_test) {
        let number = index + 1;
        if name != "api"
            && let Some(literal) = line.strings.iter().find(|literal| is_wire_path(literal))
        {
            findings.push(find(
                number,
                &WIRE,
                format!("`{name}` spells the path `{}`", first_line(literal)),
            ));
        }
        let code = line.code.trim_start();
        if place.is_pure() && is_global(code) {
            findings.push(find(number, &PURE_SOURCE, format!("`{name}` has a global: `{code}`")));
        }
        let next = source.lines.get(number).map_or("", |next| next.code.trim_start());
        if name != "model"
            && let Some(reason) = FEASIBILITY.iter().find(|reason| is_made(code, next, reason))
        {
            findings.push(find(number, &FEASIBLE, format!("`{name}` itself concludes `{reason}`")));
        }
    }
    findings
}

/// Whether a named path is the banned one or below it. A banned single word also counts as the last of a path, since
/// `std::collections::HashMap` and `collections::HashMap` are the same type.
fn is_below(named: &str, banned: &str) -> bool {
    if banned.ends_with("::") {
        return named.starts_with(banned);
    }
    let is_prefix =
        named.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let is_within = !banned.contains("::") && named.split("::").any(|part| part == banned);
    is_prefix || is_within
}

/// Whether a text is a path of the native wire; keys of the store also hold `/v1/` but begin with our name, and a whole
/// address belongs to another server.
fn is_wire_path(literal: &str) -> bool {
    !literal.starts_with("https://")
        && literal
            .match_indices("/v1/")
            .any(|(at, _)| !literal[..at].ends_with("/muster") && !literal[..at].ends_with("/api"))
}

fn is_global(code: &str) -> bool {
    let declaration = ["static ", "pub static ", "pub(crate) static "]
        .iter()
        .find_map(|start| code.strip_prefix(start));
    declaration.is_some_and(|rest| {
        rest.starts_with("mut ") || GLOBALS.iter().any(|kind| rest.contains(kind))
    })
}

/// Whether a line makes the value, rather than matching on it: a pattern is followed by an arrow or by another pattern,
/// or it is part of a `let` or a `matches!`.
fn is_made(code: &str, next: &str, value: &str) -> bool {
    let is_pattern =
        ["|", "if let ", "let ", "while let "].iter().any(|start| code.starts_with(start))
            || code.contains("matches!")
            || next.starts_with(['|', '=']);
    !is_pattern
        && code.match_indices(value).any(|(at, _)| {
            let rest = &code[at + value.len()..];
            let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            is_whole
                && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                && !rest.contains("=>")
        })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let findings = check(path, &Source::read(text));
        findings
            .iter()
            .map(|finding| format!("{} {} {}", finding.line, finding.rule.id, finding.what))
            .collect()
    }

    #[test]
    fn a_pure_crate_uses_no_environment() {
        assert_eq!(
            found("crates/planner/src/a.rs", "use std::{fmt, fs};"),
            ["1 R1 `planner` names `std::fs`"]
        );
        assert_eq!(
            found("crates/model/src/a.rs", "\nlet now = Instant::now();"),
            ["2 R1 `model` names `Instant::now`"]
        );
        assert_eq!(
            found("crates/formats/src/a.rs", "use std::collections::{BTreeMap, HashMap};"),
            ["1 R1 `formats` names `HashMap`"]
        );
        assert_eq!(
            found("crates/model/src/a.rs", "println!(\"x\");"),
            ["1 R1 `model` names `println!`"]
        );
        assert_eq!(
            found("crates/model/src/a.rs", "static SEEN: AtomicU64 = AtomicU64::new(0);"),
            ["1 R1 `model` has a global: `static SEEN: AtomicU64 = AtomicU64::new(0);`"]
        );
        let harmless =
            "use std::{fmt, net::IpAddr, time::Duration}; // std::fs\nlet a = \"std::fs HashMap\";";
        assert_eq!(found("crates/model/src/a.rs", harmless), [""; 0]);
    }

    #[test]
    fn the_pure_half_of_an_adapter_is_pure() {
        let text = "use server::Adapter;\nuse std::{fs, collections::HashMap};";
        assert_eq!(
            found("adapters/old/src/format/app.rs", text),
            [
                "1 R1 `old` names `server::`",
                "2 R1 `old` names `std::fs`",
                "2 R1 `old` names `HashMap`",
            ]
        );
        let text = "use server::Adapter;\nuse tokio::process::Command;";
        assert_eq!(
            found("adapters/old/src/http/app.rs", text),
            ["2 R3 `old` names `tokio::process`"]
        );
        assert_eq!(
            found("adapters/old/src/format.rs", "let server = 1; use model::server;"),
            [""; 0]
        );
    }

    #[test]
    fn tests_are_exempt() {
        let text = "#[cfg(test)]\nmod tests {\n use std::collections::HashMap;\n const P: &str = \"/v1/x\";\n}";
        assert_eq!(found("crates/model/src/a.rs", text), [""; 0]);
        assert_eq!(found("crates/model/tests/a.rs", "use std::fs;"), [""; 0]);
    }

    #[test]
    fn wire_paths_are_spelled_in_api_only() {
        let text = "let a = format!(\"{base}/v1/services\");";
        assert_eq!(
            found("crates/server/src/a.rs", text),
            ["1 R3 `server` spells the path `{base}/v1/services`"]
        );
        assert_eq!(found("crates/api/src/a.rs", text), [""; 0]);
        assert_eq!(found("crates/store/src/a.rs", "let key = \"/muster/v1/services\";"), [""; 0]);
        assert_eq!(
            found("crates/server/src/a.rs", "// GET /v1/x\nlet other = \"/api/v1/services\";"),
            [""; 0]
        );
    }

    #[test]
    fn each_secret_has_one_owner() {
        assert_eq!(
            found("crates/gateway/src/a.rs", "let port = std::env::var(\"PORT\");"),
            ["1 R3 `gateway` names `std::env`"]
        );
        assert_eq!(
            found("crates/server/src/a.rs", "use tokio::process::Command;"),
            ["1 R3 `server` names `tokio::process`"]
        );
        assert_eq!(
            found("crates/server/src/a.rs", "use std::fs::File;"),
            ["1 R3 `server` names `std::fs`"]
        );
        assert_eq!(
            found("crates/agent/src/drivers/process.rs", "use tokio::process::Command;"),
            [""; 0]
        );
        assert_eq!(
            found("crates/agent/src/core.rs", "let docker = bollard::Docker::connect();"),
            ["1 R3 `agent` names `bollard`"]
        );
        assert_eq!(found("crates/cli/src/a.rs", "let a = std::env::args();"), [""; 0]);
        assert_eq!(found("crates/gateway/src/a.rs", "table.print(); a.env();"), [""; 0]);
    }

    #[test]
    fn feasibility_is_decided_once() {
        let makes = "None if full => Some(Reason::Cpu { free, needed }),";
        assert_eq!(found("crates/model/src/a.rs", makes), [""; 0]);
        assert_eq!(
            found("crates/planner/src/a.rs", makes),
            ["1 R4 `planner` itself concludes `Reason::Cpu`"]
        );
        for reads in [
            "Some(Reason::Constraint { .. }) => aside.push(entry),",
            "Reason::Cpu { .. }\n| Reason::Ports => {}",
            "let is_full = matches!(reason, Reason::Ports);",
            "_ if lost => Some(Reason::Silent),",
        ] {
            assert_eq!(found("crates/planner/src/a.rs", reads), [""; 0], "{reads}");
        }
    }
}
