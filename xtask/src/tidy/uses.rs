//! The paths that a file names: expanded `use` trees, and the paths in expressions and types.
//!
//! `use std::{fs, io::{self, Read}}` names `std::fs`, `std::io` and `std::io::Read`; a text search for `std::fs` would
//! miss the first. Aliases are recorded but not followed here; [`super::modules`] resolves them.

use super::lexer::Source;

/// A path and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    /// The line, from 1.
    pub(super) line: usize,
    /// Such as `std::fs::read`.
    pub(super) path: String,
    /// Whether it is in test code.
    pub(super) is_test: bool,
    /// The name that a `use` gives it in this file, such as `read`; `*` for a glob. `None` in an expression.
    pub(super) bound: Option<String>,
}

/// All paths of the file, in order. Single words count: `HashMap` is a path of one, and `println!` one of a macro.
pub(super) fn paths(source: &Source) -> Vec<Path> {
    let mut tokens = Tokens::of(source);
    let mut found = Vec::new();
    while let Some((line, is_test, token)) = tokens.next() {
        if token == "use" {
            tree(&mut tokens, String::new(), &mut found);
        } else if is_word(token) {
            let mut path = token.to_owned();
            while tokens.peek() == Some("::") {
                tokens.next();
                match tokens.peek() {
                    Some(word) if is_word(word) => {
                        path = format!("{path}::{word}");
                        tokens.next();
                    }
                    _ => break,
                }
            }
            if tokens.peek() == Some("!") && tokens.second() != Some("=") {
                path.push('!');
            }
            found.push(Path { line, path, is_test, bound: None });
        }
    }
    found
}

/// One branch of a `use` tree below `prefix`, up to the comma, brace or semicolon after it.
fn tree(tokens: &mut Tokens<'_>, prefix: String, found: &mut Vec<Path>) {
    let mut path = prefix;
    while let Some(token) = tokens.peek() {
        match token {
            "," | "}" | ";" => return,
            "{" => {
                tokens.next();
                while !matches!(tokens.peek(), None | Some("}")) {
                    tree(tokens, path.clone(), found);
                    if tokens.peek() == Some(",") {
                        tokens.next();
                    }
                    if tokens.peek() == Some(";") {
                        return;
                    }
                }
                tokens.next();
                return;
            }
            "as" => {
                tokens.next();
                if let (Some((_, _, alias)), Some(last)) = (tokens.next(), found.last_mut()) {
                    last.bound = Some(alias.to_owned());
                }
            }
            "::" => {
                tokens.next();
            }
            word => {
                let (line, is_test, _) = tokens.next().unwrap_or_default();
                if word != "self" || path.is_empty() {
                    let joint = if path.is_empty() { "" } else { "::" };
                    path = format!("{path}{joint}{word}");
                }
                if tokens.peek() != Some("::") {
                    let bound = path.rsplit("::").next().map(str::to_owned);
                    found.push(Path { line, path: path.clone(), is_test, bound });
                }
            }
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single other characters, with line and whether they are test code.
pub(super) fn tokens(source: &Source) -> Vec<(usize, bool, &str)> {
    let mut tokens = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        let mut rest = line.code.as_str();
        while let Some(first) = rest.chars().next() {
            let end = match first {
                _ if rest.starts_with("::") => 2,
                c if c.is_alphanumeric() || c == '_' => {
                    rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
                }
                c => c.len_utf8(),
            };
            let (token, after) = rest.split_at(end);
            if !token.trim().is_empty() {
                tokens.push((index + 1, line.is_test, token));
            }
            rest = after;
        }
    }
    tokens
}

/// The tokens of a file, and how many of them are read.
struct Tokens<'a> {
    tokens: Vec<(usize, bool, &'a str)>,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(source: &'a Source) -> Self {
        Self { tokens: tokens(source), at: 0 }
    }

    fn next(&mut self) -> Option<(usize, bool, &'a str)> {
        let token = self.tokens.get(self.at).copied();
        self.at += 1;
        token
    }

    fn second(&self) -> Option<&'a str> {
        self.tokens.get(self.at + 1).map(|(_, _, token)| *token)
    }

    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).map(|(_, _, token)| *token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<(usize, String)> {
        paths(&Source::read(text)).into_iter().map(|path| (path.line, path.path)).collect()
    }

    #[test]
    fn use_trees_are_expanded() {
        let expected =
            [(1, "std::fs"), (2, "std::io"), (2, "std::io::Read"), (3, "std::net::TcpStream")];
        let text = "pub use std::{fs,\nio::{self, Read as _},\nnet::TcpStream as Stream};";
        assert_eq!(named(text)[1..], expected.map(|(line, path)| (line, path.to_owned())));
        assert_eq!(named("use std::collections::*;"), [(1, "std::collections::*".to_owned())]);
    }

    #[test]
    fn a_use_binds_a_name() {
        let text = "use a::{b, c as d, self, e::*}; f::g();";
        let bound: Vec<_> = paths(&Source::read(text)).into_iter().map(|path| path.bound).collect();
        let names = [Some("b"), Some("d"), Some("a"), Some("*"), None];
        assert_eq!(bound, names.map(|name| name.map(str::to_owned)));
    }

    #[test]
    fn paths_in_code_are_found_and_strings_are_not() {
        assert_eq!(
            named("std::env::var(\"std::fs\") // std::net"),
            [(1, "std::env::var".to_owned())]
        );
        assert_eq!(named("Vec::<u8>::new()")[0].1, "Vec");
        assert_eq!(named("print!()")[0].1, "print!");
        assert_eq!(named("print != 0")[0].1, "print");
    }
}
