//! Every input that was ever worth keeping keeps every law.
//!
//! One test for each target, so that a failure has a name; the message of the panic has the file.

#![allow(clippy::unwrap_used)]

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use muster_fuzz::{TARGETS, target};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(name: &str) {
    let run = target(name).unwrap().run;
    let files = sorted(&folder().join(name));
    assert!(!files.is_empty(), "{name} has no inputs");
    let broken: Vec<_> = files
        .into_iter()
        .filter(|file| {
            let input = std::fs::read(file).unwrap();
            catch_unwind(|| run(&input)).is_err()
        })
        .collect();
    assert!(broken.is_empty(), "these inputs break a law of `{name}`: {broken:#?}");
}

macro_rules! replayed {
    ($($test:ident = $name:literal)*) => {
        $(#[test]
        fn $test() {
            replay($name);
        })*

        #[test]
        fn every_target_is_replayed_and_has_a_corpus() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$($name),*]);
            let mut names: Vec<_> = names.into_iter().map(|name| folder().join(name)).collect();
            names.sort();
            assert_eq!(sorted(&folder()), names);
        }
    };
}

replayed! {
    native = "native"
    marathon_app = "marathon-app"
    marathon_update = "marathon-update"
    marathon_group = "marathon-group"
    selector = "selector"
    word = "word"
    stored = "stored"
    wire = "wire"
    answer = "answer"
    traffic = "traffic"
    scenario = "scenario"
}
