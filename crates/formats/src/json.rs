//! Whether a text is JSON, said as one who wrote it needs to hear it.

use serde::de::IgnoredAny;

use crate::tree::Position;

const TRAILING_COMMA: &str = "JSON allows no comma before a closing bracket";

/// What is wrong with a text as JSON and where, if anything is. Takes no memory by depth beyond
/// a byte a level.
pub(crate) fn verdict(text: &str) -> Option<(Position, String)> {
    let error = serde_json::from_str::<IgnoredAny>(text).err()?;
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    // Its column counts bytes, up to and with the culprit.
    let (before, rest) = line.split_at(line.floor_char_boundary(error.column().saturating_sub(1)));
    let at = Position { line: error.line().max(1), column: before.chars().count() + 1 };
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or(&words);
    let message = match words {
        "key must be a string" if rest.starts_with('}') => TRAILING_COMMA.into(),
        "trailing comma" => TRAILING_COMMA.into(),
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
    Some((at, message))
}
