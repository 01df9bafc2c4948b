//! Enough of Rust's lexical grammar to separate code, comments, strings and tests.
//!
//! Each line is split into its code (comments and the insides of literals blanked with spaces, so columns stay), its
//! comments and its string literals. It never fails: an unfinished literal simply runs to the end of the file, where
//! the compiler will have more to say.

/// One source file, by line.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// The lines; the first is line 1.
    pub(super) lines: Vec<Line>,
}

/// One line of it.
#[derive(Debug, Default, Clone)]
pub(super) struct Line {
    /// The code; comments and the insides of literals are spaces.
    pub(super) code: String,
    /// The text of comments on this line.
    pub(super) comment: String,
    /// The string literals that begin on this line, without quotes.
    pub(super) strings: Vec<String>,
    /// Whether it belongs to an item under `#[cfg(test)]`.
    pub(super) is_test: bool,
}

impl Source {
    /// Splits the text.
    pub(super) fn read(text: &str) -> Self {
        let mut reader = Reader { rest: text, lines: vec![Line::default()] };
        while reader.step() {}
        let mut source = Self { lines: reader.lines };
        source.mark_tests();
        source
    }

    /// Marks items under `#[cfg(test)]`: from the attribute to the brace or semicolon that ends the item.
    fn mark_tests(&mut self) {
        let mut depth_in_test: Option<usize> = None;
        for line in &mut self.lines {
            if depth_in_test.is_none() && line.code.trim_start().starts_with("#[cfg(test)]") {
                depth_in_test = Some(0);
            }
            let Some(mut depth) = depth_in_test else { continue };
            line.is_test = true;
            let mut is_over = false;
            for character in line.code.chars() {
                match character {
                    '{' => depth += 1,
                    '}' => {
                        depth = depth.saturating_sub(1);
                        is_over |= depth == 0;
                    }
                    ';' => is_over |= depth == 0,
                    _ => {}
                }
            }
            depth_in_test = (!is_over).then_some(depth);
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    lines: Vec<Line>,
}

impl<'a> Reader<'a> {
    /// Reads one comment, literal, word or character; answers whether there was one.
    fn step(&mut self) -> bool {
        let rest = self.rest;
        let Some(first) = rest.chars().next() else { return false };
        if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            self.comment(end);
        } else if rest.starts_with("/*") {
            self.comment(block_comment_end(rest));
        } else if let Some((open, close)) = string_bounds(rest) {
            self.string(open, close);
        } else if let Some(end) = character_end(rest) {
            self.blank(end);
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            self.code(end);
        } else {
            self.code(first.len_utf8());
        }
        true
    }

    fn take(&mut self, end: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn line(&mut self) -> &mut Line {
        self.lines.last_mut().expect("starts with one line and never loses any")
    }

    fn code(&mut self, end: usize) {
        for character in self.take(end).chars() {
            match character {
                '\n' => self.lines.push(Line::default()),
                other => self.line().code.push(other),
            }
        }
    }

    fn blank(&mut self, end: usize) {
        for character in self.take(end).chars() {
            match character {
                '\n' => self.lines.push(Line::default()),
                _ => self.line().code.push(' '),
            }
        }
    }

    fn comment(&mut self, end: usize) {
        for (index, part) in self.take(end).split('\n').enumerate() {
            if index > 0 {
                self.lines.push(Line::default());
            }
            self.line().comment.push_str(part);
        }
    }

    /// A literal whose inside is `open..close`; the delimiters stay visible in the code.
    fn string(&mut self, open: usize, close: usize) {
        let inside = self.rest[open..close].to_owned();
        self.line().strings.push(inside);
        self.code(open);
        self.blank(close - open);
        let delimiter = self.rest.find(|c: char| c != '"' && c != '#').unwrap_or(self.rest.len());
        self.code(delimiter.min(open));
    }
}

fn block_comment_end(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Where the inside of the string literal at the start of `text` begins and ends, if there is one.
fn string_bounds(text: &str) -> Option<(usize, usize)> {
    let after_prefix = ["br", "cr", "b", "c", "r", ""].iter().find_map(|prefix| {
        let rest = text.strip_prefix(prefix)?;
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let is_raw = prefix.ends_with('r');
        (rest[hashes..].starts_with('"') && (is_raw || hashes == 0)).then_some((
            prefix.len(),
            hashes,
            is_raw,
        ))
    });
    let (prefix, hashes, is_raw) = after_prefix?;
    let open = prefix + hashes + 1;
    let inside = &text[open..];
    if is_raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some((open, open + inside.find(&end).unwrap_or(inside.len())));
    }
    let mut escaped = false;
    for (at, character) in inside.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((open, open + at)),
            _ => {}
        }
    }
    Some((open, text.len()))
}

/// Where the character literal at the start of `text` ends, if it is one and not a lifetime.
fn character_end(text: &str) -> Option<usize> {
    let start = if text.starts_with("b'") { 2 } else { 1 };
    let inside = text.strip_prefix("b'").or_else(|| text.strip_prefix('\''))?;
    let mut characters = inside.char_indices();
    match characters.next()?.1 {
        '\\' => {
            characters.next()?;
            let (at, _) = characters.find(|(_, character)| *character == '\'')?;
            Some(start + at + 1)
        }
        _ => match characters.next()? {
            (at, '\'') => Some(start + at + 1),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        Source::read(text).lines.into_iter().map(|line| line.code.trim_end().to_owned()).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(code("a; // b\nc /* d /* e */\nf */ g"), ["a;", "c", " g"]);
        assert_eq!(code(r#"x("a\"b", 'c', '\'', b'"') y"#), [r#"x("    ",    ,     ,     ) y"#]);
        assert_eq!(code("r#\"a\"b\"# z"), ["r#\"   \"# z"]);
        assert_eq!(code("fn f<'a>(s: &'a str) {}"), ["fn f<'a>(s: &'a str) {}"]);
        assert_eq!(code("number\"text\""), ["number\"    \""]);
        assert_eq!(code("\"unfinished"), ["\""]);
    }

    #[test]
    fn strings_and_comments_are_kept_apart() {
        let source = Source::read("let a = \"/v1/x\"; // why\nlet b = r\"\n\";");
        assert_eq!(source.lines[0].strings, ["/v1/x"]);
        assert_eq!(source.lines[0].comment, "// why");
        assert_eq!(source.lines[1].strings, ["\n"]);
        assert_eq!(source.lines.len(), 3);
    }

    #[test]
    fn items_under_cfg_test_are_marked_to_their_end() {
        let text = "a\n#[cfg(test)]\nuse x;\nb\n#[cfg(test)]\nmod tests {\n  fn f() { '{' }\n}\nc";
        let tests: Vec<bool> = Source::read(text).lines.iter().map(|line| line.is_test).collect();
        assert_eq!(tests, [false, true, true, false, true, true, true, true, false]);
    }
}
