//! Rules that are said best by a table or an example, and do not show in the plans of scripts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agenda;
mod foresight;
mod ports;
mod routes;

use muster_planner::scenario::{World, replay};

/// Plays the lines of a script on from where a world stands; all of them must be understood.
fn play(world: &mut World, script: &str) {
    for line in replay(world, script) {
        assert!(line.printed.is_ok(), "{line}");
    }
}

/// The world after a script.
fn world(script: &str) -> World {
    let mut world = World::new();
    play(&mut world, script);
    world
}
