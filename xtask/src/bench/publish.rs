//! The measured figures for readers: the ratios that decide in the README; in the book, the last
//! run of each bench and its figures over the commits.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::history::{self, Record};
use super::{BENCHES, Bench, Figure, plot, table};
use crate::shell::Top;

const README: &str = "README.md";
const PAGE: &str = "docs/src/performance.md";
const IMAGES: &str = "docs/src/images/bench";
const BEGIN: &str = "<!-- cargo xtask bench --readme writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// The figures of the README by bench, name and peer.
const RATIOS: [(&str, &str, &str); 8] = [
    ("containers", "50 containers, accepted to running", "dockerd"),
    ("swarm", "10 containers, applied to running", "Swarm"),
    ("swarm", "a killed container, running again", "Swarm"),
    ("swarm", "10 containers upgraded at once", "Swarm"),
    ("gateway", "processor time of a request", "HAProxy"),
    ("gateway", "latency, 99th percentile", "HAProxy"),
    ("gateway", "requests", "nginx"),
    ("writes", "durable writes, 64 at a time", "etcd"),
];

/// Writes the newest figures into the README and the book.
pub(crate) fn write(top: &Top) -> Result<()> {
    let records = history::read(top)?;
    replace(top, README, &table::ratios(&ratios(&records)?))?;
    fs::create_dir_all(top.join(IMAGES))?;
    let mut page = String::new();
    for bench in BENCHES {
        let newest = newest(&records, bench.name);
        if newest.is_empty() {
            continue;
        }
        let file = format!("{IMAGES}/{}.svg", bench.name);
        let image = plot::svg(bench.what, &series(&records, bench.name, &newest));
        fs::write(top.join(&file), image).with_context(|| format!("cannot write {file}"))?;
        page.push_str(&section(bench, &newest));
    }
    replace(top, PAGE, &page)
}

fn section(bench: &Bench, newest: &[&Record]) -> String {
    let figures: Vec<_> = newest.iter().map(|record| &record.figure).collect();
    let what = bench.what;
    let mut capital = what.chars();
    let title = capital.next().map_or(String::new(), |first| first.to_uppercase().to_string());
    format!(
        "## {title}{rest}\n\nMeasured at commit `{commit}`.\n\n{table}\n![Over the commits: {what}](images/bench/{name}.svg)\n\n",
        rest = capital.as_str(),
        commit = newest.first().map_or("", |record| &record.commit),
        table = table::markdown(&figures),
        name = bench.name,
    )
}

/// Replaces the part of a file between the two marks.
fn replace(top: &Top, file: &str, part: &str) -> Result<()> {
    let path = top.join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
    let (before, rest) =
        text.split_once(BEGIN).with_context(|| format!("{file} has no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{file} has no {END}"))?;
    let text = format!("{before}{BEGIN}\n{}\n\n{END}{after}", part.trim_end());
    fs::write(&path, text).with_context(|| format!("cannot write {file}"))
}

/// The figures of the README. Ratios of different commits are refused: one may have been measured
/// before the change that worsened another.
fn ratios(records: &[Record]) -> Result<Vec<&Figure>> {
    let mut found = Vec::new();
    for (bench, what, peer) in RATIOS {
        let is_wanted = |record: &&Record| {
            let name = record.figure.peer.as_ref().map(|(name, _)| name.as_str());
            record.bench == bench && record.figure.what == what && name == Some(peer)
        };
        let record = records.iter().rev().find(is_wanted).with_context(|| {
            format!("{what} was never compared with {peer}: run cargo xtask bench --only {bench}")
        })?;
        found.push(record);
    }
    let commits: BTreeSet<_> = found.iter().map(|record| record.commit.as_str()).collect();
    ensure!(
        commits.len() == 1,
        "the figures of the README were measured at different commits, {}: run cargo xtask bench",
        commits.into_iter().collect::<Vec<_>>().join(", ")
    );
    Ok(found.into_iter().map(|record| &record.figure).collect())
}

/// The records of the last run of a bench.
fn newest<'a>(records: &'a [Record], bench: &str) -> Vec<&'a Record> {
    let of_bench = || records.iter().filter(|record| record.bench == bench);
    let last_at = of_bench().map(|record| record.at_unix_s).max();
    of_bench().filter(|record| Some(record.at_unix_s) == last_at).collect()
}

/// The figures of the last run, each with its values at all commits at which it was measured.
fn series<'a>(records: &'a [Record], bench: &str, newest: &[&'a Record]) -> Vec<plot::Series<'a>> {
    let values = |last: &Figure| {
        let mut values: Vec<(&str, f64)> = Vec::new();
        for record in records.iter().filter(|record| record.bench == bench) {
            if record.figure.what != last.what || record.figure.unit != last.unit {
                continue;
            }
            // A commit that was measured repeatedly is shown by its last run.
            match values.last_mut() {
                Some((commit, value)) if *commit == record.commit => *value = record.figure.ours,
                _ => values.push((&record.commit, record.figure.ours)),
            }
        }
        values
    };
    let mut shown = BTreeSet::new();
    let figures = newest.iter().map(|record| &record.figure);
    // A figure that is compared with two peers is one series.
    let figures = figures.filter(|figure| shown.insert(figure.what.as_str()));
    figures.map(|last| plot::Series { figure: last, values: values(last) }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Limit;
    use super::*;

    fn record(
        commit: &str,
        at_unix_s: u64,
        (bench, what, peer): (&str, &str, &str),
        ours: f64,
    ) -> Record {
        let figure = Figure::new(what, "ms", ours, Limit::None).with_peer(peer, 2.0);
        Record { commit: commit.into(), at_unix_s, bench: bench.into(), figure }
    }

    #[test]
    fn ratios_of_different_commits_are_refused() {
        let mut records: Vec<_> = RATIOS.map(|ratio| record("a", 1, ratio, 1.0)).into();
        assert_eq!(ratios(&records).unwrap().len(), RATIOS.len());
        records.push(record("b", 2, RATIOS[0], 1.0));
        let error = ratios(&records).unwrap_err().to_string();
        assert!(error.contains("different commits, a, b"), "{error}");
    }

    #[test]
    fn a_series_has_one_value_per_commit_and_one_line_per_figure() {
        let requests = ("gateway", "requests", "nginx");
        let records = [
            record("a", 1, requests, 1.0),
            record("b", 2, requests, 2.0),
            record("b", 3, requests, 3.0),
            record("b", 3, ("gateway", "requests", "HAProxy"), 3.0),
        ];
        let newest = newest(&records, "gateway");
        assert_eq!(newest.len(), 2);
        let series = series(&records, "gateway", &newest);
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].values, [("a", 1.0), ("b", 3.0)]);
    }
}
