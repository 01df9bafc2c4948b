//! The figures in the README: of each bench those of its last run.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

use super::{BENCHES, Figure, history, table};
use crate::shell::Top;

const FILE: &str = "README.md";
const BEGIN: &str = "<!-- cargo xtask bench --readme writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// Writes the newest figures between the two marks.
pub(crate) fn write(top: &Top) -> Result<()> {
    let path = top.join(FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {FILE}"))?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("no `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no `{END}`"))?;
    let table = table::markdown(&newest(history::read(top)?));
    fs::write(&path, format!("{before}{BEGIN}\n{table}\n{END}{after}"))
        .with_context(|| format!("cannot write {FILE}"))
}

/// The figures of the last run of each bench, in the order of the benches.
fn newest(known: Vec<(String, u64, Figure)>) -> Vec<(&'static str, Figure)> {
    let mut last_at = BTreeMap::new();
    for (bench, at, _) in &known {
        last_at.insert(bench.clone(), *at);
    }
    let of = |bench: &'static str| {
        let figures = known.iter().filter(|(name, at, _)| name == bench && last_at[name] == *at);
        figures.map(|(_, _, figure)| (bench, figure.clone())).collect::<Vec<_>>()
    };
    BENCHES.iter().flat_map(|bench| of(bench.name)).collect()
}
