//! Whether a text is JSON, said as one who wrote it needs to hear it.

use std::borrow::Cow;
use std::fmt::Write;

use serde::de::IgnoredAny;

use crate::tree::Position;

/// What is wrong with a text as JSON.
pub(crate) struct Verdict {
    pub(crate) at: Position,
    pub(crate) message: String,
    /// Whether it stands behind the end of the document.
    pub(crate) is_behind: bool,
}

/// What is wrong with a text as JSON, if anything is. Takes no memory by depth beyond a byte a
/// level.
pub(crate) fn verdict(text: &str) -> Option<Verdict> {
    let error = serde_json::from_str::<IgnoredAny>(text).err()?;
    // Both its line and its column count up to and with the culprit, the column in bytes.
    let line_begin = match error.line().checked_sub(2) {
        Some(breaks) => text.match_indices('\n').nth(breaks).map_or(text.len(), |(at, _)| at + 1),
        None => 0,
    };
    let end = (line_begin + error.column().saturating_sub(1)).min(text.len());
    let (before, rest) = text.split_at(text.floor_char_boundary(end));
    let column = before.get(line_begin..).unwrap_or_default().chars().count() + 1;
    let at = Position { line: error.line().max(1), column };
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or(&words);
    let is_behind = words == "trailing characters";
    let after_comma = rest.starts_with([']', '}']) && before.trim_end().ends_with(',');
    let message = match words {
        _ if after_comma => "JSON allows no comma before a closing bracket".into(),
        "key must be a string" => "a key must be a text in double quotes".into(),
        "trailing characters" => {
            "nothing may follow the end of a JSON document: put several into a list".into()
        }
        "expected value" => "expected a value: a text in double quotes, a number, true, false, \
                             null, `{` or `[`"
            .into(),
        words if words.starts_with("EOF") => {
            format!("the source ends too early{}", words.strip_prefix("EOF").unwrap_or_default())
        }
        words => format!("not valid JSON: {words}"),
    };
    Some(Verdict { at, message, is_behind })
}

/// A JSON text as YAML takes it: the few characters that JSON allows in texts as they are, and
/// YAML only as escapes, are escaped. What stands behind one on its line moves to the right.
pub(crate) fn as_yaml(text: &str) -> Cow<'_, str> {
    let is_foreign = |c: char| matches!(c, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    if !text.contains(is_foreign) {
        return Cow::Borrowed(text);
    }
    let mut yaml = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if is_foreign(c) {
            // Writing to a `String` cannot fail.
            let _ = write!(yaml, "\\u{:04x}", u32::from(c));
        } else {
            yaml.push(c);
        }
    }
    Cow::Owned(yaml)
}
