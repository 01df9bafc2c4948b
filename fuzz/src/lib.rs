//! What must hold for any bytes that reach Muster.
//!
//! A [`Target`] is a function from bytes to nothing. It panics when a law is broken: what is
//! accepted is written and read back equal, what is refused is refused at a place and in words,
//! saying it twice is saying it once, and however a stream is cut, it says the same. The same
//! functions are searched with coverage (`cargo xtask fuzz`), replayed on the checked-in inputs of
//! `corpus/TARGET` by `cargo test`, and run on one file by `cargo run -p muster-fuzz`.
//!
//! The readers of the daemons that are pure (`answer`, the keeper's lines in `wire`) are taken in
//! as files: so no daemon is linked, and nothing is made public for the sake of this.

mod answer;
mod marathon;
mod native;
mod scenario;
mod selector;
mod stored;
mod wire;
mod word;

/// Something that takes bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// What it reads.
    pub what: &'static str,
    /// Reads an input.
    ///
    /// # Panics
    ///
    /// A law is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "native",
        what: "documents in YAML and JSON, as files have them",
        run: native::run,
    },
    Target {
        name: "marathon-app",
        what: "Marathon apps, as files and requests have them",
        run: marathon::app,
    },
    Target {
        name: "marathon-update",
        what: "updates of a Marathon app (its own line first)",
        run: marathon::update,
    },
    Target { name: "marathon-group", what: "Marathon groups", run: marathon::group },
    Target { name: "selector", what: "label selectors", run: selector::run },
    Target {
        name: "word",
        what: "names, quantities, constraints and other words of specs",
        run: word::run,
    },
    Target { name: "stored", what: "objects of the store, a line each", run: stored::run },
    Target {
        name: "wire",
        what: "documents between daemons and clients (the kind's line first)",
        run: wire::run,
    },
    Target {
        name: "answer",
        what: "HTTP/1.1 answers of backends, however they are cut",
        run: answer::run,
    },
    Target { name: "scenario", what: "scripts of the planner's scenarios", run: scenario::run },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
