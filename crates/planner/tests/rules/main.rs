//! Rules that a table or an example expresses best, and that the plans of scripts do not show.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dry_run;
mod ports;
mod routes;
mod wakes;
mod work_queue;

use muster_planner::scenario::{World, replay};

/// Executes the lines of a script in a world; none may be rejected.
fn play(world: &mut World, script: &str) {
    for line in replay(world, script) {
        let printed = line.printed.as_ref();
        let refused = |lines: &Vec<String>| lines.iter().any(|line| line.starts_with("refused"));
        assert!(printed.is_ok_and(|lines| !refused(lines)), "{line}");
    }
}

/// The world after a script.
fn world(script: &str) -> World {
    let mut world = World::new();
    play(&mut world, script);
    world
}
