//! R6: code never parses prose. What is written for people (messages, causes, details, errors as strings) is not
//! searched, split or compared.
//!
//! Types are not inferred, so the rule goes by names and by where a string comes from. Prose is
//! - a field, method or variable called `message`, `cause`, `detail`, `hint`, `sentence`, `error` or `err`;
//! - the result of `to_string()` on anything, and of `format!`;
//! - a variable bound by `let` to the `to_string()` of an error, up to the end of the function.
//!
//! A finding is a call on prose that searches, splits or rewrites it ([`SEARCHES`]), a comparison of a named message
//! with `==` or `!=`, and a `match` of one against string literals. A field `kind` counts for searches only: kinds are
//! identifiers, which may be compared as a whole.

use super::{Finding, Rule, lexer::Source, uses};

const PARSED: Rule = Rule {
    id: "R6",
    why: "a message is formatted once, for people; code that parses it breaks when its wording improves",
    remedy: "give the value a type: an enum variant, an error kind, a field",
};

/// Names of fields, methods and variables that hold sentences.
const PROSE: &[&str] = &["message", "cause", "detail", "hint", "sentence", "error", "err"];

/// Names of errors, whose `to_string()` is a sentence.
const ERRORS: &[&str] = &["error", "err", "failure", "refusal", "source"];

/// Methods of `str` that take a string apart.
const SEARCHES: &[&str] = &[
    "contains",
    "ends_with",
    "find",
    "lines",
    "match_indices",
    "replace",
    "rfind",
    "rsplit",
    "rsplit_once",
    "split",
    "split_once",
    "split_whitespace",
    "splitn",
    "starts_with",
    "strip_prefix",
    "strip_suffix",
    "trim_end_matches",
    "trim_start_matches",
];

/// Searches that only arrange a string, unless it is known to be a sentence.
const ARRANGEMENTS: &[&str] = &["lines", "trim_end_matches", "trim_start_matches"];

/// Methods that give the same sentence in another form.
const CONVERSIONS: &[&str] = &[
    "as_deref",
    "as_ref",
    "as_str",
    "clone",
    "to_ascii_lowercase",
    "to_lowercase",
    "to_string",
    "trim",
    "unwrap_or_default",
];

/// Where prose is parsed for a reason. Each is a message of a library that offers no other way to learn the kind.
const ALLOWED: &[(&str, &str)] = &[
    (
        "crates/agent/src/drivers/docker/end.rs",
        "the Docker engine says only in its message that a container cannot be signalled as it is paused",
    ),
    (
        "crates/agent/src/drivers/docker/advice.rs",
        "the Docker engine says why it cannot pull an image only in its message; a hint depends on it",
    ),
    ("crates/formats/src/json.rs", "serde_json's syntax errors have a position but no public kind"),
    (
        "crates/model/src/constraint.rs",
        "regex draws the pattern over several lines; only the last is the message",
    ),
];

/// Where the code at `path` parses prose. Only the product is checked.
pub(super) fn check(path: &str, source: &Source) -> Vec<Finding> {
    let is_product = path.starts_with("crates/") || path.starts_with("adapters/");
    let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
    if !is_product
        || is_test
        || !path.contains("/src/")
        || ALLOWED.iter().any(|(allowed, _)| path == *allowed)
    {
        return Vec::new();
    }
    let tokens = uses::tokens(source);
    let mut words =
        Words { words: tokens.iter().map(|(_, _, word)| *word).collect(), bound: Vec::new() };
    let mut findings: Vec<Finding> = Vec::new();
    for (at, (line, is_test, _)) in tokens.iter().enumerate() {
        words.note_binding(at);
        if *is_test || findings.last().is_some_and(|last| last.line == *line) {
            continue;
        }
        if let Some(what) = words.parsed_at(at) {
            findings.push(Finding { path: path.to_owned(), line: *line, rule: &PARSED, what });
        }
    }
    findings
}

struct Words<'a> {
    words: Vec<&'a str>,
    /// The variables of the current function that hold an error as a string.
    bound: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn word(&self, at: usize) -> &'a str {
        self.words.get(at).copied().unwrap_or_default()
    }

    fn follows(&self, at: usize, expected: &[&str]) -> bool {
        self.words.get(at..at + expected.len()) == Some(expected)
    }

    /// Keeps the variables that hold errors as strings: a `let` adds one, a new function begins without any.
    fn note_binding(&mut self, at: usize) {
        if self.word(at) == "fn" {
            self.bound.clear();
        }
        if self.word(at) != "let" {
            return;
        }
        let name_at = if self.word(at + 1) == "mut" { at + 2 } else { at + 1 };
        if self.word(name_at + 1) != "=" {
            return;
        }
        let value =
            self.words[name_at + 2..].iter().take_while(|word| **word != ";" && **word != "{");
        let value: Vec<&str> = value.copied().collect();
        let is_error =
            |window: &[&str]| ERRORS.contains(&window[0]) && window[1..] == [".", "to_string", "("];
        if value.windows(4).any(is_error) {
            self.bound.push(self.word(name_at));
        }
    }

    /// What is parsed by an expression that begins at this word.
    fn parsed_at(&self, at: usize) -> Option<String> {
        let word = self.word(at);
        let is_named = PROSE.contains(&word) || self.bound.contains(&word);
        let is_made = word == "to_string" && at > 0 && self.word(at - 1) == ".";
        let is_formatted = word == "format" && self.word(at + 1) == "!";
        let is_kind = word == "kind" && at > 0 && self.word(at - 1) == ".";
        if !is_named && !is_made && !is_formatted && !is_kind {
            return None;
        }
        let end = match is_formatted {
            true => self.after_parentheses(at + 2),
            false if self.follows(at + 1, &["(", ")"]) => at + 3,
            false => at + 1,
        };
        let end = self.after_conversions(end);
        if self.word(end) == "."
            && SEARCHES.contains(&self.word(end + 1))
            && [":", "::", "("].contains(&self.word(end + 2))
        {
            let is_arranged = !is_named && !is_kind && ARRANGEMENTS.contains(&self.word(end + 1));
            return (!is_arranged)
                .then(|| format!("`{word}` is parsed by `{}`", self.word(end + 1)));
        }
        if !is_named {
            return None;
        }
        let is_operator = self.word(end + 1) == "=" && ["=", "!"].contains(&self.word(end));
        // An error of an enum may be compared; one that is a string is compared with a literal.
        let is_compared = is_operator && (!ERRORS.contains(&word) || self.word(end + 2) == "\"");
        let is_matched =
            self.word(end) == "{" && self.word(end + 1) == "\"" && self.is_scrutinee(at);
        (is_compared || is_matched).then(|| format!("`{word}` is compared with a string"))
    }

    /// The place after the parentheses that open at `at`.
    fn after_parentheses(&self, at: usize) -> usize {
        let mut depth = 0_usize;
        for (offset, word) in self.words[at.min(self.words.len())..].iter().enumerate() {
            match *word {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return at + offset + 1;
            }
        }
        self.words.len()
    }

    fn after_conversions(&self, mut at: usize) -> usize {
        loop {
            if self.word(at) == "?" {
                at += 1;
            } else if self.word(at) == "."
                && CONVERSIONS.contains(&self.word(at + 1))
                && self.word(at + 2) == "("
            {
                at = self.after_parentheses(at + 2);
            } else {
                return at;
            }
        }
    }

    /// Whether the expression that ends with the word at `at` is what a `match` looks at.
    fn is_scrutinee(&self, at: usize) -> bool {
        let mut begin = at;
        while begin >= 2 && self.word(begin - 1) == "." {
            begin -= 2;
        }
        while begin >= 1 && self.word(begin - 1) == "&" {
            begin -= 1;
        }
        begin >= 1 && self.word(begin - 1) == "match"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        let text = format!("fn f() {{\n{body}\n}}");
        let findings = check("crates/server/src/a.rs", &Source::read(&text));
        findings.into_iter().map(|finding| format!("{} {}", finding.line, finding.what)).collect()
    }

    #[test]
    fn a_search_in_a_message_is_reported() {
        let text = "let node = event.message.strip_prefix(\"placed on \");";
        assert_eq!(found(text), ["2 `message` is parsed by `strip_prefix`"]);
        let text = "if body.message\n    .as_str()\n    .starts_with(\"there is nothing\") {}";
        assert_eq!(found(text), ["2 `message` is parsed by `starts_with`"]);
        assert_eq!(
            found("error.to_string().contains(\"limit\")"),
            ["2 `error` is parsed by `contains`"]
        );
        assert_eq!(
            found("source.to_string().contains(\"limit\")"),
            ["2 `to_string` is parsed by `contains`"]
        );
        assert_eq!(
            found("format!(\"{error}\").ends_with('.')"),
            ["2 `format` is parsed by `ends_with`"]
        );
        assert_eq!(
            found("words.iter().any(|word| event.kind.contains(word))"),
            ["2 `kind` is parsed by `contains`"]
        );
    }

    #[test]
    fn a_comparison_of_a_message_is_reported() {
        assert_eq!(found("message == \"exit code 0\""), ["2 `message` is compared with a string"]);
        assert_eq!(
            found("problem.message != NO_COMMAND"),
            ["2 `message` is compared with a string"]
        );
        let text = "match &self.event.message { \"a\" => 1, _ => 2 }";
        assert_eq!(found(text), ["2 `message` is compared with a string"]);
    }

    #[test]
    fn an_error_kept_as_a_string_is_followed_to_the_end_of_its_function() {
        let text = "let said = error.to_string();\nlet head = said.split(',').next();\n}\nfn g(said: &str) {\nsaid.split(',');";
        assert_eq!(found(text), ["3 `said` is parsed by `split`"]);
    }

    #[test]
    fn formatting_and_forwarding_messages_is_allowed() {
        for text in [
            "let message = format!(\"a {b}\");",
            "Error { message: error.to_string(), kind }",
            "match error.kind() { ErrorKind::NotFound => 1, _ => 2 }",
            "if event.kind == \"placed\" {}",
            "name.to_string() == other",
            "match error { Error::A => 1 }",
            "if error != Errno::WOULDBLOCK {}",
            "let kind = word; kind.starts_with('c');",
            "if let Some(message) = &self.message { out.push(message) }",
            "// error.to_string().contains(\"limit\")",
            "let parts = path.split('/');",
            "for line in settings.to_string().lines() {}",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn tests_and_allowed_files_are_exempt() {
        let source =
            Source::read("#[cfg(test)]\nmod tests { fn f() { message.contains(\"x\"); } }");
        assert_eq!(check("crates/server/src/a.rs", &source).len(), 0);
        let source = Source::read("fn f() { message.contains(\"x\"); }");
        assert_eq!(check("crates/server/tests/a.rs", &source).len(), 0);
        assert_eq!(check(ALLOWED[0].0, &source).len(), 0);
        assert_eq!(check("adapters/a/src/format/b.rs", &source).len(), 1);
    }
}
