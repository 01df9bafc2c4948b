//! Invariants for any bytes that reach Muster.
//!
//! A [`Target`] is a function of bytes that panics when an invariant is violated: accepted input is
//! written and read back equal, rejected input has a position and a message, operations are
//! idempotent, and the way in which a stream is split does not matter. `cargo xtask fuzz` searches
//! the targets with coverage, `cargo test` replays the inputs in `corpus/TARGET`, and
//! `cargo run -p muster-fuzz` runs one file.
//!
//! The pure decoders of the daemons (`answer`, the keeper's messages in `wire`) are included as
//! files, so that nothing is public only for these targets. `traffic` runs a whole gateway.

mod answer;
mod marathon;
mod native;
mod scenario;
mod selector;
mod stored;
pub mod traffic;
mod wire;
mod word;

/// Something that takes bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// The inputs that it reads.
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
    Target {
        name: "traffic",
        what: "a client and a backend of a gateway, step by step",
        run: traffic::run,
    },
    Target { name: "scenario", what: "scripts of the planner's scenarios", run: scenario::run },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
