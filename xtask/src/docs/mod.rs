//! `docs`: the generated pages of the book, and whether the rest of it is true.
//!
//! Two pages are generated from the output of `muster`: the reference of documents (its JSON Schema) and that of the command
//! line (its help texts). With `--check` nothing is written: stale pages, links that lead nowhere, chapters that the
//! summary does not name and commands that `muster` rejects are printed, and the task fails. Whether the
//! documents in the book can be applied is tested in `adapters`.

mod commands;
mod links;
mod page;
mod reference;

use std::fs;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::shell::{Top, output, run};

use page::Page;

const DOCUMENTS: &str = "docs/src/reference/documents.md";
const COMMAND_LINE: &str = "docs/src/reference/cli.md";

/// Writes the generated pages.
pub(crate) fn write(top: &Top) -> Result<()> {
    for (path, text) in generated(top)? {
        let path = top.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Checks the generated pages, and all others.
pub(crate) fn check(top: &Top) -> Result<()> {
    let mut wrong = Vec::new();
    for (path, text) in generated(top)? {
        if fs::read_to_string(top.join(path)).unwrap_or_default() != text {
            wrong.push(format!("{path}: is stale; run `cargo xtask docs`"));
        }
    }
    let pages = Page::all(top)?;
    wrong.extend(links::check(top, &pages)?);
    let lines: Vec<_> = pages.iter().flat_map(commands::lines).collect();
    for line in &lines {
        if let Err(error) = commands::check_usage(top, line) {
            wrong.push(format!("{}:{}: {error:#}", line.page, line.number));
        }
    }
    match wrong.is_empty() {
        true => {
            println!("docs: {} pages and {} commands hold", pages.len(), lines.len());
            Ok(())
        }
        false => bail!("docs: {} finding(s)\n  {}", wrong.len(), wrong.join("\n  ")),
    }
}

fn generated(top: &Top) -> Result<[(&'static str, String); 2]> {
    // The whole workspace, so that dependencies keep the features of the tests.
    run(&mut top.cargo(&["build", "--quiet", "--workspace", "--bin", "muster"]))?;
    let muster = top.built("debug/muster");
    let say = |words: &[&str]| output(top.command(&muster.to_string_lossy()).args(words));
    let schema: Value = serde_json::from_str(&say(&["schema", "--output", "json"])?)
        .context("`muster schema` printed something else than JSON")?;
    let command_line = say(&["help-markdown"])? + "\n";
    Ok([(DOCUMENTS, reference::page(&schema)), (COMMAND_LINE, command_line)])
}
