//! What went wrong, shown so that one knows what to do: the message, its causes, the spot in the
//! document with its line, and a hint. Rendered by miette.

use std::fmt;
use std::io;

use api::{Detail, ErrorBody, ErrorCode, Source};
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceSpan,
};

use crate::exit::Exit;

/// Why a verb did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) exit: Exit,
    message: String,
    causes: Vec<String>,
    details: Vec<Detail>,
    sources: Box<[Source]>,
    hint: Option<Box<str>>,
    quiet: bool,
}

impl Failure {
    /// A failure in one sentence.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
            causes: Vec::new(),
            details: Vec::new(),
            sources: Box::default(),
            hint: None,
            quiet: false,
        }
    }

    /// Adds what caused it, and what caused that.
    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Failure {
        let mut next = Some(error);
        while let Some(error) = next {
            self = self.because_of(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds what caused it, in words. The same words twice in a row are said once: wrapped
    /// errors tend to repeat each other.
    pub(crate) fn because_of(mut self, cause: impl Into<String>) -> Failure {
        let cause = cause.into();
        if self.causes.last() != Some(&cause) {
            self.causes.push(cause);
        }
        self
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into().into());
        self
    }

    /// Adds the texts that its details speak of.
    pub(crate) fn with_sources(mut self, sources: &[Source]) -> Failure {
        self.sources = sources.into();
        self
    }

    /// Adds the spots in documents that are wrong.
    pub(crate) fn with_details(mut self, details: Vec<Detail>) -> Failure {
        self.details = details;
        self
    }

    /// The text to show, ending with a line end; nothing for a pipe that was closed.
    pub(crate) fn render(&self, color: bool, width: usize) -> String {
        let mut text = String::new();
        if self.quiet {
            return text;
        }
        let theme =
            if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width)
            .with_links(false)
            .with_context_lines(1);
        let mut show = |spot: &Spot| {
            // Rendering fails only if the writer does, and a `String` does not.
            let _ = handler.render_report(&mut text, spot);
        };
        let (located, plain): (Vec<_>, Vec<_>) =
            self.details.iter().partition(|detail| self.source_of(detail).is_some());
        let mut causes = self.causes.clone();
        causes.extend(plain.into_iter().map(unlocated));
        if located.is_empty() {
            show(&Spot::head(&self.message, causes, self.hint.clone()));
            return text;
        }
        show(&Spot::head(&self.message, causes, None));
        let last = located.len() - 1;
        for (index, detail) in located.into_iter().enumerate() {
            let hint = self.hint.clone().filter(|_| index == last);
            if let Some((source, at)) = self.source_of(detail) {
                show(&Spot::located(detail, source, at, hint));
            }
        }
        text
    }

    fn source_of(&self, detail: &Detail) -> Option<(&Source, SourceSpan)> {
        let name = detail.source.as_deref();
        let only = self.sources.first().filter(|_| self.sources.len() == 1 && name.is_none());
        let source =
            only.or_else(|| self.sources.iter().find(|s| Some(s.name.as_str()) == name))?;
        Some((source, token(&source.text, detail.line?, detail.column.unwrap_or(1))?))
    }
}

/// The token at a line and column (in characters), both from 1.
fn token(text: &str, line: usize, column: usize) -> Option<SourceSpan> {
    let before: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let this = text.get(before..)?.lines().next().unwrap_or("");
    let skipped: usize = this.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    let rest = &this[skipped..];
    let end = rest.find(|c: char| c.is_whitespace() || ":,{}[]\"".contains(c));
    let len = end.unwrap_or(rest.len()).max(usize::from(!rest.is_empty()));
    // A boundary inside a character would not be drawn.
    let len = (len..=rest.len()).find(|len| rest.is_char_boundary(*len)).unwrap_or(rest.len());
    Some((before + skipped, len).into())
}

/// A detail whose text is not at hand, in one line.
fn unlocated(detail: &Detail) -> String {
    let mut place = detail.source.clone().unwrap_or_default();
    let numbers = [detail.line, detail.column.filter(|_| detail.line.is_some())];
    for number in numbers.into_iter().flatten() {
        place.push_str(&format!(":{number}"));
    }
    let parts = [Some(place), detail.key.clone(), Some(detail.message.clone())];
    let parts: Vec<_> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    parts.join(": ")
}

impl From<api::Error> for Failure {
    fn from(error: api::Error) -> Failure {
        const HINT: &str =
            "start one with `muster dev`, or name another with --server or MUSTER_SERVER";
        let message = error.to_string();
        match error {
            api::Error::Address { .. } => Failure::new(Exit::Usage, message),
            api::Error::Unreachable { source, .. } => {
                Failure::new(Exit::Unreachable, message).because(source.as_ref()).hint(HINT)
            }
            api::Error::Late { .. } => Failure::new(Exit::Unreachable, message).hint(
                "it may still do what was asked: look with `muster get deployments` before asking again",
            ),
            api::Error::Answer { source, .. } => Failure::new(Exit::Failure, message)
                .because(&source)
                .hint("compare `muster version` with the server's version"),
            api::Error::Refused(body) => Failure::from(body),
        }
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Failure {
        let exit = match body.code {
            ErrorCode::Invalid | ErrorCode::TooLarge => Exit::Documents,
            ErrorCode::NotFound => Exit::NotFound,
            _ => Exit::Failure,
        };
        let mut failure = Failure::new(exit, body.message).with_details(body.details);
        failure.hint = body.hint.map(String::into_boxed_str);
        failure
    }
}

/// Only output is written without its own message; a reader that went away is not an error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        let exit = if closed { Exit::Ok } else { Exit::Failure };
        let mut failure = Failure::new(exit, "the output cannot be written").because(&error);
        failure.quiet = closed;
        failure
    }
}

/// One block of the rendered text.
#[derive(Debug)]
struct Spot {
    message: String,
    cause: Option<Box<Cause>>,
    hint: Option<Box<str>>,
    source: Option<NamedSource<String>>,
    label: Option<LabeledSpan>,
}

impl Spot {
    fn head(message: &str, causes: Vec<String>, hint: Option<Box<str>>) -> Spot {
        let cause = causes
            .into_iter()
            .rev()
            .fold(None, |next, message| Some(Box::new(Cause { message, next })));
        Spot { message: message.into(), cause, hint, source: None, label: None }
    }

    fn located(detail: &Detail, source: &Source, at: SourceSpan, hint: Option<Box<str>>) -> Spot {
        // A path of keys tells where the line is; a single key is the line.
        let key = detail.key.clone().filter(|key| key.contains('.'));
        let label = LabeledSpan::new_primary_with_span(key, at);
        let source = NamedSource::new(&source.name, source.text.clone());
        let (source, label) = (Some(source), Some(label));
        Spot { message: detail.message.clone(), cause: None, hint, source, label }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Spot {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &dyn std::error::Error)
    }
}

impl Diagnostic for Spot {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.source.as_ref().map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.label.iter().cloned()))
    }
}

/// A link of a chain of causes.
#[derive(Debug)]
struct Cause {
    message: String,
    next: Option<Box<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.next.as_deref().map(|next| next as &dyn std::error::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { name: "web.yaml".into(), text: text.into() }
    }

    fn detail(line: usize, column: usize, key: &str, message: &str) -> Detail {
        Detail {
            source: Some("web.yaml".into()),
            line: Some(line),
            column: Some(column),
            key: Some(key.into()),
            message: message.into(),
        }
    }

    #[test]
    fn a_wrong_document_is_shown_with_its_line() {
        let failure = Failure::new(Exit::Documents, "the documents cannot be applied")
            .with_sources(&[source("service: /shop/web\ninstanes: 4\nprocess:\n  command: web\n")])
            .with_details(vec![detail(
                2,
                1,
                "instanes",
                "unknown key `instanes`; did you mean `instances`?",
            )])
            .hint("`muster schema` prints what documents may say");
        insta::assert_snapshot!(failure.render(false, 80), @r"
        × the documents cannot be applied
        × unknown key `instanes`; did you mean `instances`?
         ╭─[web.yaml:2:1]
       1 │ service: /shop/web
       2 │ instanes: 4
         · ────────
       3 │ process:
         ╰────
        help: `muster schema` prints what documents may say
        ");
    }

    #[test]
    fn details_without_their_text_are_still_told() {
        let failure = Failure::new(Exit::Documents, "the documents cannot be applied")
            .with_details(vec![detail(7, 3, "env", "expected a map")]);
        insta::assert_snapshot!(failure.render(false, 80), @r"
        × the documents cannot be applied
        ╰─▶ web.yaml:7:3: env: expected a map
        ");
    }

    #[test]
    fn causes_and_hint_follow_the_message() {
        let error = api::Error::Unreachable {
            url: "http://127.0.0.1:4040".into(),
            source: Box::new(io::Error::other("connection refused")),
        };
        insta::assert_snapshot!(Failure::from(error).render(false, 80), @r"
        × no answer from http://127.0.0.1:4040
        ╰─▶ connection refused
        help: start one with `muster dev`, or name another with --server or
              MUSTER_SERVER
        ");
    }

    #[test]
    fn spots_beyond_the_text_do_not_matter() {
        for (line, column) in [(1, 99), (99, 1), (2, 3), (0, 0), (1, 6)] {
            let failure = Failure::new(Exit::Documents, "wrong")
                .with_sources(&[source("größe: 界\n")])
                .with_details(vec![detail(line, column, "x", "bad")]);
            assert!(failure.render(false, 80).contains("bad"), "{line}:{column}");
        }
    }

    #[test]
    fn a_closed_pipe_is_quiet() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.render(true, 80).as_str()), (Exit::Ok, ""));
    }
}
