//! R3 on foreign systems: the name of one appears in its adapter and where the command line composes the adapters.
//!
//! The table is data (`foreign.txt`), so that this file is no exception to the rule it checks. All Rust sources are
//! checked, with comments, strings and tests: a comment that explains a law by a foreign system is a second place that
//! knows it.

use std::sync::LazyLock;

use super::{Finding, Rule};

const FOREIGN: Rule = Rule {
    id: "R3",
    why: "only its adapter knows a foreign system; what others know of it makes them change with it",
    remedy: "move the code behind the `Adapter` trait, or say in our words what it does; places are in xtask/src/tidy/foreign.txt",
};

/// One row of the table.
#[derive(Debug)]
struct System {
    words: Vec<&'static str>,
    places: Vec<&'static str>,
}

static SYSTEMS: LazyLock<Vec<System>> = LazyLock::new(|| {
    let rows = include_str!("foreign.txt").lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let mut columns = row.split('|').skip(1).map(|column| column.split_whitespace().collect());
        System {
            words: columns.next().unwrap_or_default(),
            places: columns.next().unwrap_or_default(),
        }
    })
    .collect()
});

/// Foreign words in a Rust source where they do not belong.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let systems = SYSTEMS.iter();
    let elsewhere =
        systems.filter(|system| !system.places.iter().any(|place| path.starts_with(place)));
    let words: Vec<&str> = elsewhere.flat_map(|system| system.words.iter().copied()).collect();
    let mut find = |line, what| {
        findings.push(Finding { path: path.to_owned(), line, rule: &FOREIGN, what });
    };
    if let Some(word) = words.iter().find(|word| has_word(path, word)) {
        find(1, format!("is named after `{word}`"));
    }
    for (index, line) in text.lines().enumerate() {
        if let Some(word) = words.iter().find(|word| has_word(line, word)) {
            find(index + 1, format!("names `{word}`"));
        }
    }
    findings
}

/// Whether a text has the word in any case, whole or as a part of an identifier such as `MarkedApp` or `marked_app`.
fn has_word(text: &str, word: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.match_indices(word).any(|(at, _)| {
        let end = at + word.len();
        let continues = |inner: usize, outer: Option<char>| {
            let is_lower = text.as_bytes()[inner].is_ascii_lowercase();
            is_lower && outer.is_some_and(|c| c.is_ascii_lowercase())
        };
        let is_begun = continues(at, text[..at].chars().next_back());
        !is_begun && !continues(end - 1, text[end..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let findings = check(path, text);
        findings.into_iter().map(|finding| format!("{} {}", finding.line, finding.what)).collect()
    }

    /// A word of the table: this file must not have one.
    fn word() -> &'static str {
        SYSTEMS[0].words[0]
    }

    #[test]
    fn a_foreign_word_is_reported_outside_its_adapter() {
        let word = word();
        let text = format!("use x;\n// as {word} does");
        assert_eq!(found("crates/model/src/id.rs", &text), [format!("2 names `{word}`")]);
        let capital = format!("{}{}App", word[..1].to_uppercase(), &word[1..]);
        assert_eq!(found("crates/api/src/a.rs", &capital), [format!("1 names `{word}`")]);
        let path = format!("crates/server/src/{word}/app.rs");
        assert_eq!(found(&path, ""), [format!("1 is named after `{word}`")]);
    }

    #[test]
    fn the_adapter_may_use_its_own_words() {
        for place in &SYSTEMS[0].places {
            assert_eq!(found(place, word()), [""; 0]);
        }
    }

    #[test]
    fn a_word_matches_only_as_a_whole() {
        assert!(has_word("a sub_way b", "way"));
        assert!(has_word("SubWay", "way"));
        assert!(has_word("Wayside way", "way"));
        assert!(!has_word("subway, ways, always", "way"));
        assert!(!has_word("Ways", "way"));
    }

    #[test]
    fn the_table_is_complete() {
        for system in SYSTEMS.iter() {
            assert!(!system.words.is_empty() && !system.places.is_empty(), "{system:?}");
        }
    }
}
