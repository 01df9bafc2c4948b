//! The results of the clients: versions over time, and failures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::output::Screen;
use crate::output::tone::Tone;

const TICK: Duration = Duration::from_millis(100);
const LINES: u32 = 16;
const WIDTH: u32 = 48;
/// The fill of each version, from the oldest.
const FILLS: [char; 3] = ['░', '█', '▒'];

/// The counts of requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// For each tick, the number of responses of each version; `None` counts failed requests.
    ticks: BTreeMap<u32, BTreeMap<Option<String>, u64>>,
    /// The number of failures by message.
    failures: BTreeMap<String, u64>,
    /// The events of the demonstration.
    pub(super) marks: Vec<Mark>,
}

/// An event while requests were sent.
#[derive(Debug)]
pub(super) struct Mark {
    /// The time since the first request.
    pub(super) at: Duration,
    /// The event.
    pub(super) what: &'static str,
}

fn tick(at: Duration) -> u32 {
    u32::try_from(at.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}

impl Tally {
    /// Counts a response: the version that sent it, or a failure.
    pub(super) fn count(&mut self, at: Duration, answer: Result<String, String>) {
        let version = match answer {
            Ok(version) => Some(version),
            Err(failure) => {
                *self.failures.entry(failure).or_default() += 1;
                None
            }
        };
        *self.ticks.entry(tick(at)).or_default().entry(version).or_default() += 1;
    }

    /// Adds the counts of another client.
    pub(super) fn add(&mut self, other: Tally) {
        for (tick, counts) in other.ticks {
            let own = self.ticks.entry(tick).or_default();
            for (version, count) in counts {
                *own.entry(version).or_default() += count;
            }
        }
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        self.marks.extend(other.marks);
    }

    /// The number of all requests.
    pub(super) fn requests(&self) -> u64 {
        self.ticks.values().flat_map(BTreeMap::values).sum()
    }

    /// The number of failed requests.
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Whether a version sent any response.
    pub(super) fn has_responses(&self, version: &str) -> bool {
        self.versions().contains(version)
    }

    fn versions(&self) -> BTreeSet<&str> {
        self.ticks.values().flat_map(|counts| counts.keys().flatten()).map(String::as_str).collect()
    }
}

/// The versions over time, with a line for each slice; the result is the last line.
pub(super) fn render(screen: &Screen, tally: &Tally) -> String {
    let versions: Vec<&str> = tally.versions().into_iter().collect();
    let fill = |index: usize| FILLS[index % FILLS.len()];
    let mut text = String::new();
    for (index, version) in versions.iter().enumerate() {
        let _ = write!(text, "{} {version}   ", fill(index));
    }
    text.push_str("(share of the responses)\n");
    let end = tally.ticks.keys().last().map_or(1, |last| last + 1);
    let per_line = end.div_ceil(LINES).max(1);
    for begin in (0..end).step_by(per_line as usize) {
        let mut counts = vec![0; versions.len()];
        let mut failed = 0;
        for (version, count) in tally.ticks.range(begin..begin + per_line).flat_map(|(_, c)| c) {
            match versions.iter().position(|known| Some(*known) == version.as_deref()) {
                Some(index) => counts[index] += count,
                None => failed += count,
            }
        }
        let seconds = (TICK * begin).as_secs_f64();
        let marks =
            tally.marks.iter().filter(|mark| (begin..begin + per_line).contains(&tick(mark.at)));
        let marks: Vec<_> = marks.map(|mark| mark.what).collect();
        let note =
            if marks.is_empty() { String::new() } else { format!("← {}", marks.join(", ")) };
        let failed = match failed {
            0 => String::new(),
            failed => screen.paint(Tone::Bad, &format!("{failed} failed ")),
        };
        let total: u64 = counts.iter().sum();
        let line = format!("{seconds:5.1}s  {}  {total:>6}  {failed}{note}", bar(&counts, fill));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for (failure, count) in tally.failures.iter().take(10) {
        let _ = writeln!(text, "{}", screen.paint(Tone::Bad, &format!("{count} × {failure}")));
    }
    let _ = write!(text, "\nrequests: {}, failed: {}", tally.requests(), tally.failed());
    text
}

/// Shares as a bar of constant length; a version with any response gets at least one cell.
fn bar(counts: &[u64], fill: impl Fn(usize) -> char) -> String {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return " ".repeat(WIDTH as usize);
    }
    let width = u64::from(WIDTH);
    let mut cells: Vec<u64> = counts
        .iter()
        .map(|count| if *count == 0 { 0 } else { (count * width / total).max(1) })
        .collect();
    // The largest share absorbs the rounding error.
    let largest = (0..cells.len()).max_by_key(|index| cells[*index]).unwrap_or(0);
    let used: u64 = cells.iter().sum();
    cells[largest] = (cells[largest] + width).saturating_sub(used);
    let part = |(index, cells): (usize, &u64)| fill(index).to_string().repeat(*cells as usize);
    cells.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::{ColorWhen, Format};

    #[test]
    fn versions_are_shown_over_time() {
        let mut tally = Tally::default();
        for millis in (0..4000).step_by(10) {
            let version =
                if millis < 1000 || (millis < 3000 && millis % 40 == 0) { "0.9" } else { "1.0" };
            tally.count(Duration::from_millis(millis), Ok(version.into()));
        }
        let mut other = Tally::default();
        other.count(Duration::from_millis(1700), Err("answered 503".into()));
        tally.add(other);
        tally.marks.push(Mark { at: Duration::from_millis(1000), what: "upgrade begins" });
        let screen = Screen::new(Format::Table, ColorWhen::Never);
        insta::assert_snapshot!(render(&screen, &tally), @r"
        ░ 0.9   █ 1.0   (share of the responses)
          0.0s  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░      30
          0.3s  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░      30
          0.6s  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░      30
          0.9s  ░░░░░░░░░░░░░░░░░░░░░░░░████████████████████████      30  ← upgrade begins
          1.2s  ░░░░░░░░░░░░████████████████████████████████████      30
          1.5s  ░░░░░░░░░░░█████████████████████████████████████      30  1 failed
          1.8s  ░░░░░░░░░░░░████████████████████████████████████      30
          2.1s  ░░░░░░░░░░░█████████████████████████████████████      30
          2.4s  ░░░░░░░░░░░░████████████████████████████████████      30
          2.7s  ░░░░░░░░░░░█████████████████████████████████████      30
          3.0s  ████████████████████████████████████████████████      30
          3.3s  ████████████████████████████████████████████████      30
          3.6s  ████████████████████████████████████████████████      30
          3.9s  ████████████████████████████████████████████████      10
        1 × answered 503

        requests: 401, failed: 1
        ");
    }

    #[test]
    fn all_bars_have_the_same_length() {
        for counts in [vec![1, 10_000], vec![10_000, 1], vec![1, 1, 1], vec![0, 3], vec![7]] {
            let bar = bar(&counts, |index| FILLS[index]);
            assert_eq!(bar.chars().count(), WIDTH as usize, "{counts:?}");
            let seen = counts.iter().filter(|count| **count > 0).count();
            assert_eq!(bar.chars().collect::<BTreeSet<_>>().len(), seen);
        }
    }
}
