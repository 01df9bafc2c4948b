//! Scenarios: a cluster that is made up line by line, and the plans that come of it.
//!
//! A script is read a line at a time. `> ` begins a command, `#` a comment; everything else is
//! what the command before printed. [`replay`] carries out the commands and writes the script
//! again with what they print now, so that a script that has not changed is a test that passes,
//! and a script that has shows what changed. Nothing here reads a clock or a disk: time passes
//! when a line says so.
//!
//! ```text
//! > node n1                             an agent calls; cpu=4 memory=8GiB label.rack=a has=docker
//! > gateway n1                          a gateway calls
//! > route 8080 /shop/web                a gateway document
//! > apply /shop/web instances=2 health  a service; any key of its document, `,` between services
//! > scale /shop/web 3 · restart · undo · rm · pause d-1 · resume · abort · cordon n1 · drain · uncordon
//! > plan                                prints what would be done and why not more
//! > run                                 does it, until there is nothing to do at once
//! > report /shop/web~0.1 running healthy ready     an agent tells; also unhealthy, stopped, failed
//! > sicken /shop/web@2                  instances of that revision never become healthy
//! > settle                              lets everything work until nothing moves
//! > tick 10s                            lets time pass
//! > lose n1 · return n1                 its agent falls silent, or speaks again
//! > forget-all · tell n1                a server starts anew; an agent tells it everything
//! > show                                prints the instances
//! ```
//!
//! `world` is the cluster, `command` what the lines do, `print` how it is shown.

mod command;
mod document;
mod print;
mod world;

pub use command::{Error, execute};
pub use world::World;

/// Carries out a script and writes it again with what its commands print.
pub fn replay(script: &str) -> String {
    let mut world = World::new();
    let mut text = String::new();
    for line in script.lines() {
        let line = line.trim_end();
        if let Some(command) = line.strip_prefix("> ") {
            text.push_str(line);
            text.push('\n');
            let printed = execute(&mut world, command);
            for line in printed.unwrap_or_else(|error| vec![format!("error: {error}")]) {
                text.push_str("  ");
                text.push_str(&line);
                text.push('\n');
            }
        } else if line.is_empty() || line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}
