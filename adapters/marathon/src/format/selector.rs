//! Label selectors: `a`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, joined by commas.

use std::collections::BTreeMap;

use super::rejected::Rejected;

/// Requirements for the labels of an app, all of which must be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSelector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    label: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// The parser, with the rest of the input.
struct Reader<'a>(std::iter::Peekable<std::str::Chars<'a>>);

impl Reader<'_> {
    fn skip_space(&mut self) {
        while self.0.next_if(|c| c.is_whitespace()).is_some() {}
    }

    /// Consumes `text` if it comes next, after optional spaces.
    fn take(&mut self, text: &str) -> bool {
        self.skip_space();
        let mut ahead = self.0.clone();
        let is_next = text.chars().all(|c| ahead.next() == Some(c));
        if is_next {
            self.0 = ahead;
        }
        is_next
    }

    /// Parses a word. A backslash escapes any character.
    fn word(&mut self) -> Option<String> {
        self.skip_space();
        let mut word = String::new();
        loop {
            let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
            if let Some(c) = self.0.next_if(is_plain) {
                word.push(c);
            } else if self.0.next_if_eq(&'\\').is_some() {
                word.push(self.0.next()?);
            } else {
                return (!word.is_empty()).then_some(word);
            }
        }
    }

    fn set(&mut self) -> Option<Vec<String>> {
        let mut words = Vec::new();
        self.take("(").then_some(())?;
        loop {
            words.push(self.word()?);
            if self.take(")") {
                return Some(words);
            }
            self.take(",").then_some(())?;
        }
    }

    fn term(&mut self) -> Option<Term> {
        let label = self.word()?;
        let test = if self.take("==") {
            Test::In(vec![self.word()?])
        } else if self.take("!=") {
            Test::NotIn(vec![self.word()?])
        } else {
            let before = self.0.clone();
            match self.word().as_deref() {
                Some("in") => Test::In(self.set()?),
                Some("notin") => Test::NotIn(self.set()?),
                Some(_) => return None,
                None => {
                    self.0 = before;
                    Test::Exists
                }
            }
        };
        Some(Term { label, test })
    }

    fn terms(mut self) -> Option<Vec<Term>> {
        let mut terms = vec![self.term()?];
        while self.take(",") {
            terms.push(self.term()?);
        }
        self.skip_space();
        self.0.next().is_none().then_some(terms)
    }
}

impl LabelSelector {
    /// Parses a selector.
    ///
    /// # Errors
    ///
    /// Returns the response for a malformed selector.
    pub fn parse(text: &str) -> Result<LabelSelector, Rejected> {
        let terms = Reader(text.chars().peekable()).terms();
        terms.map(LabelSelector).ok_or_else(|| {
            Rejected::with_message(format!(
                "`{text}` is not a label selector: expected label, label==value, label!=value, \
                 label in (a,b) or label notin (a,b), joined by commas"
            ))
        })
    }

    /// Whether labels meet all requirements of the selector.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|Term { label, test }| {
            labels.get(label).is_some_and(|value| match test {
                Test::Exists => true,
                Test::In(values) => values.contains(value),
                Test::NotIn(values) => !values.contains(value),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_matches_by_its_terms() {
        let labels = [("env", "prod"), ("tier", "web"), ("a b", "c,d")];
        let labels: BTreeMap<String, String> =
            labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        for (text, expected) in [
            ("env", true),
            ("nope", false),
            ("env==prod", true),
            ("env == test", false),
            ("env!=test", true),
            ("nope!=test", false),
            ("env in (test, prod)", true),
            ("env notin (test,prod)", false),
            ("nope notin (a)", false),
            ("env==prod,tier in (web)", true),
            ("env==prod , tier==db", false),
            (r"a\ b==c\,d", true),
            ("index", false),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
    }

    #[test]
    fn invalid_selectors_are_rejected() {
        for text in ["", ",", "a==", "a=b", "a in", "a in ()", "a in (b", "a b", "a,,b", "a!", "\\"]
        {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }
}
