//! R5 and the form of files: names, headers, length, and leftovers.

use super::{Finding, Rule, lexer::Source};

/// The longest source file. The aim is below 500; this is where it is certainly two topics.
const LINES_MAX: usize = 700;

/// Names that do not describe their content, so that they attract everything.
const EMPTY_NAMES: &[&str] = &[
    "common", "helper", "helpers", "manager", "managers", "misc", "shared", "stuff", "types",
    "util", "utils",
];

const NAME: Rule = Rule {
    id: "R5",
    why: "a name that says nothing about its content collects everything",
    remedy: "name the file after what is in it (a noun of the domain), or move each item to where it is used",
};
const HEADER: Rule = Rule {
    id: "form",
    why: "a reader opens a file to learn what it is, what it promises and where to read next",
    remedy: "begin the file with a `//!` header that says so",
};
const LENGTH: Rule = Rule {
    id: "form",
    why: "one topic a file; the monsters of this field are its API files, façades and parsers",
    remedy: "split by resource or by topic",
};
const UNFINISHED: Rule = Rule {
    id: "form",
    why: "a stub or a skipped test looks like something that works",
    remedy: "finish it, or take it out and write down elsewhere what is missing",
};
const PLACE: Rule = Rule {
    id: "form",
    why: "a path or host of one person's machine works nowhere else",
    remedy: "use a path below the repository, an option, or the public name",
};

// In pieces, as this file is checked as well.
const PLACES: &[&str] = &[
    concat!("/wo", "rk/main"),
    concat!("/wo", "rk/shared"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/."),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("files.", "pythonhosted.org"),
    concat!("registry.", "npmjs.org"),
];
const LEFTOVERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const STUBS: &[&str] = &["todo!", "unimplemented!", "dbg!("];

/// The one reason for which a test may be ignored: another test starts it in a process of its own, to kill it there.
const CHILD: &str = "runs in a child process";

/// Whether a tool writes the file, so that its form is the tool's.
pub(super) fn is_generated(path: &str) -> bool {
    ["Cargo.lock", "package-lock.json"].iter().any(|name| path.ends_with(name))
        || path.starts_with("benches/history")
}

/// Findings in any text file.
pub(super) fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(place) = PLACES.iter().find(|place| line.contains(*place)) {
            let what = format!("names the place `{place}`");
            findings.push(Finding { path: path.to_owned(), line: index + 1, rule: &PLACE, what });
        }
    }
    findings
}

/// Findings in a Rust file.
pub(super) fn check_code(path: &str, text: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find =
        |line, rule, what| findings.push(Finding { path: path.to_owned(), line, rule, what });

    for part in path.trim_end_matches(".rs").split('/') {
        if EMPTY_NAMES.contains(&part) {
            find(1, &NAME, format!("is called `{part}`"));
        }
    }
    // An attribute for the whole file may come first: rustfmt and the compiler accept both orders.
    if !text
        .lines()
        .find(|line| !line.starts_with("#!"))
        .is_some_and(|line| line.starts_with("//!"))
    {
        find(1, &HEADER, "has no header".to_owned());
    }
    let lines = source.lines.len();
    if lines > LINES_MAX && path.contains("src/") {
        find(LINES_MAX, &LENGTH, format!("has {lines} lines, more than {LINES_MAX}"));
    }
    for (index, line) in source.lines.iter().enumerate() {
        if let Some(stub) = STUBS.iter().find(|stub| line.code.contains(*stub)) {
            find(index + 1, &UNFINISHED, format!("has `{stub}`"));
        }
        if line.code.contains("#[ignore")
            && !line.strings.iter().any(|reason| reason.starts_with(CHILD))
        {
            find(index + 1, &UNFINISHED, "has `#[ignore`".to_owned());
        }
        if let Some(leftover) = LEFTOVERS.iter().find(|leftover| has_word(&line.comment, leftover))
        {
            find(index + 1, &UNFINISHED, format!("has `{leftover}`"));
        }
        if line.code.trim_start().starts_with("mod ")
            && let Some(name) =
                line.code.trim().trim_start_matches("mod ").split([';', ' ', '{']).next()
            && EMPTY_NAMES.contains(&name)
        {
            find(index + 1, &NAME, format!("has a module `{name}`"));
        }
    }
    findings
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let mut findings = check_code(path, text, &Source::read(text));
        findings.extend(check_text(path, text));
        findings
            .iter()
            .map(|finding| format!("{} {} {}", finding.line, finding.rule.id, finding.what))
            .collect()
    }

    #[test]
    fn uninformative_names_are_reported() {
        assert_eq!(found("crates/api/src/types.rs", "//! x"), ["1 R5 is called `types`"]);
        assert_eq!(found("crates/api/src/utils/a.rs", "//! x"), ["1 R5 is called `utils`"]);
        assert_eq!(
            found("crates/api/src/a.rs", "//! x\nmod helpers {"),
            ["2 R5 has a module `helpers`"]
        );
        assert_eq!(found("crates/api/src/common_name.rs", "//! x"), [""; 0]);
    }

    #[test]
    fn a_file_must_begin_with_a_header() {
        assert_eq!(found("crates/api/src/a.rs", "use x;"), ["1 form has no header"]);
        assert_eq!(found("crates/api/src/a.rs", "#![allow(x)]\n//! x"), [""; 0]);
        assert_eq!(found("crates/api/src/a.rs", ""), ["1 form has no header"]);
    }

    #[test]
    fn long_files_are_reported() {
        let long = format!("//! x{}", "\n".repeat(LINES_MAX));
        assert_eq!(found("crates/api/src/a.rs", &long), ["700 form has 701 lines, more than 700"]);
    }

    #[test]
    fn unfinished_code_is_reported() {
        let stub = format!("//! x\nfn f() {{ {}() }}", "todo!");
        assert_eq!(found("crates/api/src/a.rs", &stub), ["2 form has `todo!`"]);
        let skipped = format!("//! x\n{}]\nfn f() {{}}", "#[ignore");
        assert_eq!(found("crates/api/src/a.rs", &skipped), ["2 form has `#[ignore`"]);
        let child =
            format!("//! x\n{} = \"{CHILD}, until it is killed\"]\nfn f() {{}}", "#[ignore");
        assert_eq!(found("crates/api/tests/a.rs", &child), [""; 0]);
        let note = format!("//! x\n// {}: more", LEFTOVERS[0]);
        assert_eq!(found("crates/api/src/a.rs", &note), [format!("2 form has `{}`", LEFTOVERS[0])]);
    }

    #[test]
    fn paths_of_one_machine_are_reported_in_every_file() {
        let text = format!("see {}/docs", PLACES[0]);
        let findings = check_text("README.md", &text);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].line, findings[0].rule.id), (1, "form"));
    }
}
