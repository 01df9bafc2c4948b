//! The counters of private prose: words that technical English does without, per 10,000 words of comments.
//!
//! Each counter stands for a habit: headless relatives ("what is told of what has ended"), personified parts
//! ("nobody waits for it"), and paraphrases of terms that exist ("so many" for a maximum). The words themselves are
//! correct English, so single uses are fine; the limits are what comparable projects need.
//!
//! Comments are counted in Rust sources, tests included. Code spans and fenced examples in comments are not prose.

use std::{collections::BTreeMap, fmt};

use super::{Finding, Rule, lexer::Source};

const PROSE: Rule = Rule {
    id: "prose",
    why: "a comment must be understood in one reading, by an engineer who does not know the code",
    remedy: "name the subject, use the term of the field; `cargo xtask tidy --prose` prints the counters of each crate",
};

/// A habit that is counted.
struct Habit {
    name: &'static str,
    /// Lower-case words, each a sequence of one or more.
    words: &'static [&'static [&'static str]],
    /// The most occurrences per 10,000 words of all comments.
    limit: f64,
}

const HABITS: [Habit; 4] = [
    Habit { name: "what", words: &[&["what"]], limit: 20.0 },
    Habit { name: "told/tell", words: &[&["told"], &["tell"], &["tells"]], limit: 4.0 },
    Habit {
        name: "nobody/whoever",
        words: &[&["nobody"], &["whoever"], &["somebody"]],
        limit: 2.0,
    },
    Habit {
        name: "so many/long",
        words: &[&["so", "many"], &["so", "long"], &["so", "much"]],
        limit: 2.0,
    },
];

/// The words of comments and the occurrences of each habit in them.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Count {
    words: usize,
    habits: [usize; HABITS.len()],
}

impl Count {
    fn of(source: &Source) -> Self {
        let mut count = Self::default();
        let text = prose(source);
        let words: Vec<&str> = text.split(is_gap).filter(|word| !word.is_empty()).collect();
        count.words = words.len();
        for at in 0..words.len() {
            for (habit, occurrences) in HABITS.iter().zip(&mut count.habits) {
                let is_here = habit.words.iter().any(|sequence| words[at..].starts_with(sequence));
                *occurrences += usize::from(is_here);
            }
        }
        count
    }

    fn add(&mut self, other: Self) {
        self.words += other.words;
        for (sum, occurrences) in self.habits.iter_mut().zip(other.habits) {
            *sum += occurrences;
        }
    }

    fn rate(&self, habit: usize) -> f64 {
        self.habits[habit] as f64 * 10_000.0 / self.words.max(1) as f64
    }
}

fn is_gap(character: char) -> bool {
    !(character.is_alphanumeric() || character == '\'' || character == '-')
}

/// The text of all comments in lower case, without code.
fn prose(source: &Source) -> String {
    let mut text = String::new();
    let mut is_example = false;
    for line in source.lines.iter().filter(|line| !line.comment.is_empty()) {
        let comment = line.comment.trim_start_matches(['/', '!', '*']).trim();
        if comment.starts_with("```") {
            is_example = !is_example;
            continue;
        }
        if is_example {
            continue;
        }
        // The pieces between back quotes are by turns prose and code.
        for piece in comment.split('`').step_by(2) {
            text.push_str(&piece.to_lowercase());
            text.push(' ');
        }
    }
    text
}

/// The counters of every crate and of all together.
#[derive(Debug, Default)]
pub(super) struct Report {
    crates: BTreeMap<String, Count>,
}

impl Report {
    /// Counts in all sources.
    pub(super) fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a Source)>) -> Self {
        let mut report = Self::default();
        for (path, source) in files {
            report.crates.entry(crate_of(path).to_owned()).or_default().add(Count::of(source));
        }
        report
    }

    /// A finding for each habit that is beyond its limit in all comments together, at the crate with the highest rate.
    pub(super) fn check(&self) -> Vec<Finding> {
        let total = self.total();
        let excess = |habit: &usize| total.rate(*habit) > HABITS[*habit].limit;
        let findings = (0..HABITS.len()).filter(excess).filter_map(|habit| {
            let worst =
                self.crates.iter().max_by(|(_, a), (_, b)| a.rate(habit).total_cmp(&b.rate(habit)));
            let Habit { name, limit, .. } = &HABITS[habit];
            let what = format!(
                "has \"{name}\" too often: {:.1} per 10,000 words in all, the limit is {limit}",
                total.rate(habit)
            );
            Some(Finding { path: worst?.0.clone(), line: 1, rule: &PROSE, what })
        });
        findings.collect()
    }

    fn total(&self) -> Count {
        let mut total = Count::default();
        self.crates.values().for_each(|count| total.add(*count));
        total
    }
}

/// The folder of the crate that a file belongs to.
fn crate_of(path: &str) -> &str {
    let mut slashes = path.match_indices('/').map(|(at, _)| at);
    let end = match path.split('/').next() {
        Some("crates" | "adapters" | "examples") => slashes.nth(1),
        _ => slashes.next(),
    };
    &path[..end.unwrap_or(path.len())]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<24} {:>7}", "per 10,000 words", "words")?;
        for habit in &HABITS {
            write!(f, " {:>15}", habit.name)?;
        }
        let total = self.total();
        let rows = self.crates.iter().map(|(name, count)| (name.as_str(), count));
        for (name, count) in rows.chain([("all", &total)]) {
            write!(f, "\n{name:<24} {:>7}", count.words)?;
            for habit in 0..HABITS.len() {
                write!(
                    f,
                    " {:>7.1} {:>7}",
                    count.rate(habit),
                    format!("({})", count.habits[habit])
                )?;
            }
        }
        write!(f, "\n{:<32}", "limit")?;
        for habit in &HABITS {
            write!(f, " {:>7.1} {:>7}", habit.limit, "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> Count {
        Count::of(&Source::read(text))
    }

    #[test]
    fn habits_are_counted_in_comments_only() {
        let text =
            "//! What is told\n//! of whoever waits so\n//! long.\nlet what = \"what\"; // Tells";
        assert_eq!(count(text), Count { words: 9, habits: [1, 2, 1, 1] });
    }

    #[test]
    fn code_in_comments_is_no_prose() {
        let text = "/// Calls `what` and `tell`: nobody\n/// ```\n/// what\n/// ```\n/// whatever";
        assert_eq!(count(text), Count { words: 4, habits: [0, 0, 1, 0] });
    }

    #[test]
    fn a_habit_beyond_its_limit_is_reported_in_the_worst_crate() {
        let words = "// a word\n".repeat(2_000);
        let (good, bad) = (Source::read(&words), Source::read("// what is it\n// nobody says"));
        let report = Report::of([("crates/a/src/x.rs", &good), ("crates/b/src/y.rs", &bad)]);
        let findings = report.check();
        let found: Vec<_> =
            findings.iter().map(|finding| (finding.path.as_str(), finding.what.as_str())).collect();
        assert_eq!(
            found,
            [(
                "crates/b",
                "has \"nobody/whoever\" too often: 2.5 per 10,000 words in all, the limit is 2"
            )]
        );
        assert!(Report::of([("crates/a/src/x.rs", &good)]).check().is_empty());
    }

    #[test]
    fn crates_are_reported_separately_and_in_total() {
        let (one, other) = (Source::read("// what is it"), Source::read("// a b c d e f g"));
        let report = Report::of([
            ("crates/a/src/x.rs", &one),
            ("adapters/b/src/y.rs", &other),
            ("tests/t.rs", &one),
        ]);
        let names: Vec<_> = report.crates.keys().cloned().collect();
        assert_eq!(names, ["adapters/b", "crates/a", "tests"]);
        assert_eq!(report.total(), Count { words: 13, habits: [2, 0, 0, 0] });
        assert!(report.to_string().contains("\ncrates/a                       3  3333.3     (1)"));
    }
}
