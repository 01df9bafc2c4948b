//! All documents in the README and in the book are valid, or marked as wrong.
//!
//! A block that begins with ```` ```yaml ```` or ```` ```json ```` must be accepted as it is; one
//! with ```` ```yaml,wrong ```` must be rejected. Blocks that are not documents of Muster must be
//! marked with another word, such as `text`.

#![allow(clippy::unwrap_used, reason = "a page that cannot be read fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

/// A block of a page.
#[derive(Debug)]
struct Block {
    page: String,
    line: usize,
    info: String,
    text: String,
}

fn pages() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![top.join("README.md")];
    let mut folders = vec![top.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(info)) => {
                let page = page.file_name().unwrap().to_string_lossy().into_owned();
                let (info, text) = (info.trim().into(), String::new());
                open = Some(Block { page, line: index + 1, info, text });
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block is never closed: {open:?}", page.display());
    blocks
}

#[test]
fn documents_in_the_documentation_parse_as_described() {
    let mut wrong = Vec::new();
    let mut sound = 0;
    for block in pages().iter().flat_map(|page| blocks(page)) {
        let Block { page, line, info, text } = &block;
        let parsed = formats::parse_with(page, text, &[&muster_adapter_marathon::format::Apps]);
        match (info.as_str(), parsed) {
            ("yaml" | "json", Ok(_)) => sound += 1,
            ("yaml" | "json", Err(diagnostics)) => {
                let diagnostics: String =
                    diagnostics.iter().map(|diagnostic| format!("\n    {diagnostic}")).collect();
                wrong.push(format!("{page}: the block at line {line} is refused:{diagnostics}"));
            }
            ("yaml,wrong" | "json,wrong", Ok(_)) => {
                wrong.push(format!("{page}: the block at line {line} should be refused"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(sound > 10, "only {sound} documents were found: is the documentation where it was?");
}
