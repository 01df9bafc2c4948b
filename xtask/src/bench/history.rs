//! `benches/history.jsonl`: one line a figure, appended, never rewritten.

use std::fs;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Figure;
use crate::shell::{self, Top};

const FILE: &str = "benches/history.jsonl";

/// Appends the figures of one bench under the present commit.
pub(crate) fn append(top: &Top, bench: &str, figures: &[Figure]) -> Result<()> {
    let commit = commit(top)?;
    let at_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = top.join(FILE);
    fs::create_dir_all(top.join("benches"))?;
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {FILE}"))?;
    for figure in figures {
        writeln!(file, "{}", line(&commit, at_unix_s, bench, figure))
            .with_context(|| format!("cannot write {FILE}"))?;
    }
    Ok(())
}

/// A figure as it was measured.
pub(crate) struct Record {
    /// The abbreviated commit, with `+` when the tree differed from it.
    pub(crate) commit: String,
    /// When its bench ran, in seconds since 1970: the same for all figures of a run.
    pub(crate) at_unix_s: u64,
    pub(crate) bench: String,
    pub(crate) figure: Figure,
}

/// All records, oldest first.
pub(crate) fn read(top: &Top) -> Result<Vec<Record>> {
    let text = match fs::read_to_string(top.join(FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("cannot read {FILE}"))?,
    };
    text.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).context(line.to_owned())?;
            let text = |key: &str| value[key].as_str().context(line.to_owned());
            Ok(Record {
                commit: text("commit")?.to_owned(),
                at_unix_s: value["at_unix_s"].as_u64().context(line.to_owned())?,
                bench: text("bench")?.to_owned(),
                figure: Figure::from_json(&value)?,
            })
        })
        .collect()
}

/// The previous value of a figure.
pub(crate) fn last(top: &Top, bench: &str, what: &str) -> Result<Option<f64>> {
    let records = read(top)?;
    let is_wanted = |record: &&Record| record.bench == bench && record.figure.what == what;
    Ok(records.iter().rev().find(is_wanted).map(|record| record.figure.ours))
}

fn line(commit: &str, at_unix_s: u64, bench: &str, figure: &Figure) -> Value {
    let mut line = figure.to_json();
    line["commit"] = commit.into();
    line["at_unix_s"] = at_unix_s.into();
    line["bench"] = bench.into();
    line["met"] = figure.is_met().into();
    line
}

/// The commit measured, with `+` when the tree differs from it.
fn commit(top: &Top) -> Result<String> {
    let head = shell::output(top.command("git").args(["rev-parse", "--short=12", "HEAD"]))?;
    // A changed history is no change of the measured code.
    let paths = ["--", ".", ":!benches"];
    let status = ["status", "--porcelain", "--untracked-files=no"];
    let changes = shell::output(top.command("git").args(status).args(paths))?;
    Ok(if changes.is_empty() { head } else { head + "+" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Limit;
    use super::*;

    #[test]
    fn a_line_of_the_history_has_every_column_of_the_table() {
        let figure = Figure::new("10 running", "ms", 42.0, Limit::RatioMax(1.1));
        let figure = figure.with_peer("dockerd", 84.0);
        let expected = json!({
            "commit": "abc", "at_unix_s": 7, "bench": "start", "figure": "10 running", "unit": "ms", "ours": 42.0,
            "peer": { "name": "dockerd", "value": 84.0 }, "limit": { "ratio_max": 1.1 }, "met": true,
        });
        assert_eq!(line("abc", 7, "start", &figure), expected);
    }
}
