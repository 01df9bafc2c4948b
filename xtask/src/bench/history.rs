//! `benches/history.jsonl`: one line a figure, appended, never rewritten.

use std::{
    fs,
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Figure, Limit, commit};
use crate::shell::Top;

const FILE: &str = "benches/history.jsonl";

/// Appends the figures under the present commit.
pub(crate) fn append(top: &Top, measured: &[(&str, Figure)]) -> Result<()> {
    if measured.is_empty() {
        return Ok(());
    }
    let commit = commit(top)?;
    let at_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = top.join(FILE);
    fs::create_dir_all(top.join("benches"))?;
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {FILE}"))?;
    for (bench, figure) in measured {
        writeln!(file, "{}", line(&commit, at_unix_s, bench, figure))
            .with_context(|| format!("cannot write {FILE}"))?;
    }
    Ok(())
}

fn line(commit: &str, at_unix_s: u64, bench: &str, figure: &Figure) -> Value {
    let (kind, value) = match figure.limit {
        Limit::Max(value) => ("max", value),
        Limit::Min(value) => ("min", value),
        Limit::RatioMax(value) => ("ratio_max", value),
        Limit::RatioMin(value) => ("ratio_min", value),
    };
    json!({
        "commit": commit,
        "at_unix_s": at_unix_s,
        "bench": bench,
        "figure": figure.what,
        "unit": figure.unit,
        "ours": figure.ours,
        "peer": figure.peer.map(|(name, value)| json!({ "name": name, "value": value })),
        "limit": { kind: value },
        "met": figure.is_met(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_all_that_the_table_shows() {
        let figure = Figure {
            what: "10 running".to_owned(),
            unit: "ms",
            ours: 42.0,
            peer: Some(("dockerd", 84.0)),
            limit: Limit::RatioMax(1.1),
        };
        let expected = json!({
            "commit": "abc", "at_unix_s": 7, "bench": "start", "figure": "10 running", "unit": "ms", "ours": 42.0,
            "peer": { "name": "dockerd", "value": 84.0 }, "limit": { "ratio_max": 1.1 }, "met": true,
        });
        assert_eq!(line("abc", 7, "start", &figure), expected);
    }
}
