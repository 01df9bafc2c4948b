//! The pages of the documentation as they lie in the repository.

use std::fs;

use anyhow::{Context as _, Result};

use crate::shell::{Top, output};

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    /// Its path from the top of the repository.
    pub(super) path: String,
    /// Its text.
    pub(super) text: String,
}

impl Page {
    /// Every markdown file that git knows, or would know.
    pub(super) fn all(top: &Top) -> Result<Vec<Page>> {
        let list = ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"];
        let names = output(top.command("git").args(list)).context("the pages of the repository")?;
        let mut pages = Vec::new();
        for path in names.lines() {
            // A page that git knows may be deleted in the tree.
            if let Ok(text) = fs::read_to_string(top.join(path)) {
                pages.push(Page { path: path.to_owned(), text });
            }
        }
        Ok(pages)
    }

    /// The lines of the page with their numbers, and the word behind the opening fence for those in a block.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, Option<&str>, &str)> {
        let mut open = None;
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            let fence = line.trim_start().strip_prefix("```");
            match (open, fence) {
                (None, Some(info)) => open = Some(info.trim()),
                (Some(_), Some(_)) => open = None,
                _ => return Some((index + 1, open, line)),
            }
            None
        })
    }
}
