//! `tidy`: the rules of the house, checked by a tool instead of remembered.
//!
//! | file | rules |
//! |---|---|
//! | [`edges`] | R1 on manifests, R2: which crates may depend on which |
//! | [`code`] | R1, R3, R4 in the code of crates and adapters |
//! | [`foreign`] | R3: words of foreign systems |
//! | [`form`] | R5 and the form of files: names, headers, length, leftovers |
//! | [`parsed`] | R6: code never parses prose |
//! | [`modules`] | module cycles of each crate |
//! | [`prose`] | counters of private prose in comments |
//!
//! A finding names file and line, the rule, why the rule exists and how to comply. The rules are functions from sources to
//! findings; only this file reads the repository. Code under `#[cfg(test)]` and in `tests/` folders is exempt from R1,
//! R3 and R6, since a test may inspect a thing from outside.

mod code;
mod edges;
mod foreign;
mod form;
mod lexer;
mod modules;
mod parsed;
mod prose;
mod uses;

use std::fmt;

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, Top};

/// A rule that is checked.
#[derive(Debug)]
struct Rule {
    /// Such as `R1`.
    id: &'static str,
    /// Why it exists.
    why: &'static str,
    /// How to comply.
    remedy: &'static str,
}

/// A violation of a rule.
#[derive(Debug)]
struct Finding {
    path: String,
    line: usize,
    rule: &'static Rule,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, what } = self;
        writeln!(f, "{path}:{line}: {} {what}", rule.id)?;
        writeln!(f, "    why: {}", rule.why)?;
        write!(f, "    do:  {}", rule.remedy)
    }
}

/// Checks the repository; prints every finding and fails when there is one.
pub(crate) fn run(top: &Top) -> Result<()> {
    let metadata = shell::output(&mut top.cargo(&["metadata", "--format-version", "1"]))?;
    let mut findings = edges::check(&edges::Workspace::parse(&metadata, top.path())?);
    let files = files(top)?;
    findings.extend(check(&files));
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files keep the rules", files.len());
            Ok(())
        }
        count => bail!("tidy: {count} finding(s)"),
    }
}

/// The findings in the text files of the repository, each with its path.
fn check(files: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut sources = Vec::new();
    for (path, text) in files {
        findings.extend(form::check_text(path, text));
        if path.ends_with(".rs") {
            let source = lexer::Source::read(text);
            findings.extend(form::check_code(path, text, &source));
            findings.extend(code::check(path, &source));
            findings.extend(parsed::check(path, &source));
            findings.extend(foreign::check(path, text));
            sources.push((path.as_str(), source));
        }
    }
    let sources = || sources.iter().map(|(path, source)| (*path, source));
    findings.extend(prose::Report::of(sources()).check());
    findings.extend(modules::check(sources()));
    findings
}

/// Prints the counters of private prose, for each crate and for all.
pub(crate) fn prose(top: &Top) -> Result<()> {
    let sources = sources(top)?;
    println!("{}", prose::Report::of(sources.iter().map(|(path, source)| (path.as_str(), source))));
    Ok(())
}

/// The Rust sources of the repository.
fn sources(top: &Top) -> Result<Vec<(String, lexer::Source)>> {
    let rust = files(top)?.into_iter().filter(|(path, _)| path.ends_with(".rs"));
    Ok(rust.map(|(path, text)| (path, lexer::Source::read(&text))).collect())
}

/// The text files of the repository, as git sees them: neither ignored ones nor binaries nor the lock file.
fn files(top: &Top) -> Result<Vec<(String, String)>> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let names =
        shell::output(top.command("git").args(list)).context("the files of the repository")?;
    let mut files = Vec::new();
    for name in names.lines().filter(|name| !form::is_generated(name)) {
        // A file that git knows may be deleted in the tree, and one that is not text has no lines to check.
        if let Ok(text) = std::fs::read_to_string(top.join(name)) {
            files.push((name.to_owned(), text));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_cycle_is_a_finding_of_the_repository() {
        let file = |name: &str, code: &str| {
            (format!("crates/model/src/{name}"), format!("//! A planted file.\n\n{code}\n"))
        };
        let found = |files: &[(String, String)]| -> Vec<_> {
            check(files).iter().map(|finding| finding.rule.id).collect()
        };
        let (a, b) = (file("a.rs", "use crate::b::B;"), file("b.rs", "use crate::a::A;"));
        assert_eq!(found(&[a.clone(), b]), ["cycle"]);
        assert_eq!(found(&[a, file("b.rs", "struct B;")]), [""; 0]);
    }
}
