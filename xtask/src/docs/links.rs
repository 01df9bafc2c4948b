//! Links that lead somewhere, and chapters that the summary names.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::page::Page;
use crate::shell::Top;

const SUMMARY: &str = "docs/src/SUMMARY.md";
const CHAPTERS: &str = "docs/src/";

/// The broken links of all pages.
pub(super) fn check(top: &Top, pages: &[Page]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut in_summary = BTreeSet::from([SUMMARY.to_owned()]);
    for page in pages {
        for (number, target) in links(page) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = match file {
                "" => page.path.clone(),
                file => resolved(&page.path, file),
            };
            if !top.join(&path).exists() {
                wrong.push(format!("{}:{number}: there is no {path}", page.path));
            }
            if page.path.starts_with(CHAPTERS) && !path.starts_with(CHAPTERS) {
                wrong.push(format!("{}:{number}: {path} is not in the book", page.path));
            }
            let other = pages.iter().find(|other| other.path == path);
            if let Some(other) = other.filter(|other| !anchor.is_empty() && !has(other, anchor)) {
                let path = &other.path;
                wrong.push(format!("{}:{number}: {path} has no heading `{anchor}`", page.path));
            }
            if page.path == SUMMARY {
                in_summary.insert(path);
            }
        }
    }
    let chapters = pages.iter().filter(|page| page.path.starts_with(CHAPTERS));
    let forgotten = chapters.filter(|page| !in_summary.contains(&page.path));
    wrong.extend(forgotten.map(|page| format!("{}: is not in {SUMMARY}", page.path)));
    Ok(wrong)
}

/// The targets of links within the repository, with their lines.
fn links(page: &Page) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, _, line) in page.lines().filter(|(_, block, _)| block.is_none()) {
        // Code spans contain no links.
        let plain: String = line.split('`').step_by(2).collect();
        for part in plain.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// A path as seen from the page that names it, from the top of the repository.
fn resolved(page: &str, target: &str) -> String {
    let mut path = PathBuf::new();
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    for component in folder.join(target).components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            component => path.push(component),
        }
    }
    path.to_string_lossy().into_owned()
}

fn has(page: &Page, anchor: &str) -> bool {
    let headings = page.lines().filter(|(_, block, line)| block.is_none() && line.starts_with('#'));
    headings.map(|(_, _, line)| slug(line.trim_start_matches('#'))).any(|slug| slug == anchor)
}

/// The anchor of a heading, as GitHub and mdbook make it.
fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_of_code() {
        let text =
            "# A b\n[x](y.md#z) and `[n](o)` [w](https://x.org/)\n```text\n[n](o)\n```\n[u](#a-b)";
        let page = Page { path: "docs/src/p.md".into(), text: text.into() };
        assert_eq!(links(&page), [(2, "y.md#z".into()), (6, "#a-b".into())]);
        assert!(has(&page, "a-b") && !has(&page, "n"));
        assert_eq!(resolved("docs/src/a/b.md", "../../adr/0001.md"), "docs/adr/0001.md");
        assert_eq!(slug(" `muster rollout undo`, and more"), "muster-rollout-undo-and-more");
    }
}
