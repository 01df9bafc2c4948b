//! Rules that are said best by a table or an example, and do not show in the plans of scripts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dry_run;
mod ports;
mod routes;
mod wakes;
mod work_queue;

use muster_planner::scenario::{World, replay};

/// Plays the lines of a script on from where a world stands; none of them may be refused.
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
