//! Scripts of the planner's scenarios.
//!
//! After every line no invariant is broken, and the stored objects of the cluster make the same
//! cluster again. A script that was replayed replays as itself.

use model::State;
use model::object::Object;
use planner::scenario::{World, execute, replay};

/// Longer scripts show nothing that shorter ones do not.
const LINES_MAX: usize = 40;

pub(crate) fn run(input: &[u8]) {
    let Ok(script) = str::from_utf8(input) else { return };
    if script.lines().count() > LINES_MAX || !script.lines().all(is_small) {
        return;
    }
    let mut world = World::new();
    for line in script.lines().filter_map(|line| line.trim_end().strip_prefix("> ")) {
        match execute(&mut world, line) {
            Ok(printed) => assert!(
                printed.iter().all(|line| line != "it does not come to rest"),
                "everything comes to rest: {line}"
            ),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        assert_eq!(world.state.violations(), [], "after {line}");
    }
    let stored: Vec<_> = world.state.objects().collect();
    let read = stored.iter().map(|(key, object)| {
        let text = serde_json::to_vec(object).unwrap_or_else(|error| panic!("{error}"));
        let again = Object::read(key, &text);
        (key.clone(), again.unwrap_or_else(|error| panic!("{error}: {object:?}")))
    });
    let loaded: Vec<_> = State::load(read).objects().collect();
    assert_eq!(loaded, stored, "it is stored as it is");
    let once = replayed(script);
    assert_eq!(replayed(&once), once, "a script that was replayed replays as itself");
}

/// A made-up cluster of millions is as good a cluster, and takes as long to plan as it takes.
fn is_small(line: &str) -> bool {
    let counts = line.contains("apply") || line.contains("scale");
    let digits = |run: &str| run.len() > 2;
    !(counts && line.split(|c: char| !c.is_ascii_digit()).any(digits))
}

fn replayed(script: &str) -> String {
    replay(&mut World::new(), script).iter().map(ToString::to_string).collect()
}
