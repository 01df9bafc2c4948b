//! The lines around a position in a document, small even if its lines are long. Lines keep their
//! numbers and the position its column; omitted parts of a line are shown as `…`.

use api::Source;
use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// The maximum number of characters shown of a line.
const SHOWN_MAX: usize = 120;
/// The number of them before the position, if the line is longer.
const BEFORE: usize = 60;

/// An excerpt of a document.
#[derive(Debug)]
pub(super) struct Excerpt {
    name: String,
    text: String,
    /// The number of lines of the document before the excerpt.
    skipped: usize,
    /// The column of the position, from 0.
    column: usize,
    /// The token at the position, as a span of the excerpt.
    pub(super) token: SourceSpan,
}

impl Excerpt {
    /// The excerpt around a line and column (in characters), both from 1. A position after the end
    /// means the end.
    pub(super) fn around(source: &Source, line: usize, column: usize) -> Option<Excerpt> {
        let count = source.text.lines().count();
        let this = line.checked_sub(1)?.min(count.saturating_sub(1));
        let skipped = this.saturating_sub(1);
        let shown = source.text.lines().skip(skipped).take(3);
        let column = column.saturating_sub(1);
        let (mut text, mut token) = (String::new(), (0, 0));
        for (index, line) in (skipped..).zip(shown) {
            let from = if index == this { column } else { 0 };
            let (window, at) = window(line, from);
            if index == this {
                // A position after the last line is the end of that line.
                let at = if count < this { window.len() } else { at };
                token = (text.len() + at, token_len(&window[at..]));
            }
            text.push_str(&window);
            text.push('\n');
        }
        Some(Excerpt { name: source.name.clone(), text, skipped, column, token: token.into() })
    }
}

/// The part of a line to show, and the offset of the column in it, in bytes.
fn window(line: &str, column: usize) -> (String, usize) {
    let offset = |line: &str, chars: usize| {
        line.char_indices().nth(chars).map_or(line.len(), |(offset, _)| offset)
    };
    if offset(line, SHOWN_MAX) == line.len() {
        return (line.into(), offset(line, column));
    }
    let start = offset(line, column.saturating_sub(BEFORE));
    let at = offset(&line[start..], column.min(BEFORE));
    let rest = &line[start..];
    let end = offset(rest, SHOWN_MAX);
    let [before, after] = [start > 0, end < rest.len()].map(|cut| if cut { "…" } else { "" });
    (format!("{before}{}{after}", &rest[..end]), before.len() + at)
}

/// The length of the first token of a string, in bytes; at least one character, if there is one.
fn token_len(text: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || ":,{}[]\"…".contains(c);
    let first = text.chars().next().map_or(0, char::len_utf8);
    text.find(ends).unwrap_or(text.len()).max(first)
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.text.read_span(span, before, after)?;
        // Without lines around it, the position itself is requested.
        let column = if before == 0 { self.column } else { found.column() };
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            found.data(),
            *found.span(),
            self.skipped + found.line(),
            column,
            found.line_count(),
        )))
    }
}
