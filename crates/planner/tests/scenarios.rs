//! Scripts with their plans, in one file each: `scenarios/*.txt`, executed by `planner::scenario`.
//! With `UPDATE=1` the files are rewritten.

use std::path::Path;

use muster_planner::scenario::{World, replay};

#[test]
fn scripts_produce_the_recorded_plans() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut changed = Vec::new();
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let lines = replay(&mut World::new(), &script);
        let replayed: String = lines.iter().map(ToString::to_string).collect();
        if script == replayed {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, replayed).unwrap();
            continue;
        }
        let pairs = script.lines().zip(replayed.lines()).enumerate();
        let first = pairs.into_iter().find(|(_, (before, after))| before != after);
        let (line, (before, after)) = first.unwrap_or((0, ("", "(it is longer or shorter)")));
        changed.push(format!("{name}:{}:\n  was {before}\n  is  {after}", line + 1));
    }
    assert!(
        changed.is_empty(),
        "scenarios changed (UPDATE=1 writes them anew):\n{}",
        changed.join("\n")
    );
}
