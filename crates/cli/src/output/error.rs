//! Failures, shown with a remedy: the message, its causes, the position in the document with its
//! line, and a hint. Rendered by miette.

use std::fmt;
use std::io;

use api::{Detail, ErrorBody, ErrorCode, Source};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan};

use super::excerpt::Excerpt;
use crate::exit::Exit;

/// The failure of a verb.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code of the process.
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

    /// Adds its cause, and the causes of that.
    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Failure {
        let mut next = Some(error);
        while let Some(error) = next {
            self = self.because_of(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds its cause as a string. Equal consecutive causes are shown once: wrapped
    /// errors tend to repeat each other.
    pub(crate) fn because_of(mut self, cause: impl Into<String>) -> Failure {
        let cause = cause.into();
        if self.causes.last() != Some(&cause) {
            self.causes.push(cause);
        }
        self
    }

    /// Adds a remedy.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into().into());
        self
    }

    /// Adds the documents that its details refer to.
    pub(crate) fn with_sources(mut self, sources: &[Source]) -> Failure {
        self.sources = sources.into();
        self
    }

    /// Adds the positions of diagnostics in documents.
    pub(crate) fn with_details(mut self, details: Vec<Detail>) -> Failure {
        self.details = details;
        self
    }

    /// The text to show, with a line end; empty for a closed pipe.
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
        let mut show = |block: &Block| {
            // Rendering fails only if the writer fails, and a `String` does not.
            let _ = handler.render_report(&mut text, block);
        };
        let mut causes = self.causes.clone();
        let mut located = Vec::new();
        for detail in &self.details {
            match self.excerpt_of(detail) {
                Some(excerpt) => located.push((detail, excerpt)),
                None => causes.push(unlocated(detail)),
            }
        }
        let Some(last) = located.len().checked_sub(1) else {
            show(&Block::head(&self.message, causes, self.hint.clone()));
            return text;
        };
        show(&Block::head(&self.message, causes, None));
        for (index, (detail, excerpt)) in located.into_iter().enumerate() {
            let hint = self.hint.clone().filter(|_| index == last);
            show(&Block::located(detail, excerpt, hint));
        }
        text
    }

    fn excerpt_of(&self, detail: &Detail) -> Option<Excerpt> {
        let name = detail.source.as_deref();
        let only = self.sources.first().filter(|_| self.sources.len() == 1 && name.is_none());
        let source =
            only.or_else(|| self.sources.iter().find(|s| Some(s.name.as_str()) == name))?;
        Excerpt::around(source, detail.line?, detail.column.unwrap_or(1))
    }
}

/// A detail without its document, in one line.
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
            api::Error::Address { url } => {
                let failure = Failure::new(Exit::Usage, message);
                match url.starts_with("https:") {
                    true => failure.hint("TLS is not supported: use http://"),
                    false => failure,
                }
            }
            api::Error::NotMuster { status, .. } => Failure::new(Exit::Unreachable, message)
                .because_of(format!("unexpected body with status {status}"))
                .hint(HINT),
            api::Error::Unreachable { source, .. } => {
                Failure::new(Exit::Unreachable, message).because(source.as_ref()).hint(HINT)
            }
            api::Error::Timeout { .. } => Failure::new(Exit::Unreachable, message).hint(
                "the request may still take effect: check with `muster get deployments` before you repeat it",
            ),
            api::Error::InvalidResponse { source, .. } => Failure::new(Exit::Failure, message)
                .because(&source)
                .hint("compare `muster version` with the server's version"),
            api::Error::Mismatch { source, .. } => {
                Failure::new(Exit::Failure, message).because(&source)
            }
            api::Error::Refused(body) => Failure::from(body),
        }
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Failure {
        let exit = match body.code {
            // The request did not reach the root of an API of this version.
            ErrorCode::UnknownPath => Exit::Unreachable,
            ErrorCode::Invalid | ErrorCode::TooLarge => Exit::Documents,
            ErrorCode::NotFound => Exit::NotFound,
            _ => Exit::Failure,
        };
        let mut failure = Failure::new(exit, body.message).with_details(body.details);
        failure.hint = body.hint.map(String::into_boxed_str);
        match exit {
            Exit::Unreachable => failure.hint(
                "there is no server of this version: give its address without a path, such \
                 as http://127.0.0.1:4040",
            ),
            _ => failure,
        }
    }
}

/// Only output is written without its own message, and a closed pipe is not an error.
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
struct Block {
    message: String,
    cause: Option<Box<Cause>>,
    hint: Option<Box<str>>,
    excerpt: Option<Excerpt>,
    label: Option<LabeledSpan>,
}

impl Block {
    fn head(message: &str, causes: Vec<String>, hint: Option<Box<str>>) -> Block {
        let cause = causes
            .into_iter()
            .rev()
            .fold(None, |next, message| Some(Box::new(Cause { message, next })));
        Block { message: message.into(), cause, hint, excerpt: None, label: None }
    }

    fn located(detail: &Detail, excerpt: Excerpt, hint: Option<Box<str>>) -> Block {
        // A path of keys locates the line; a single key is the line.
        let key = detail.key.clone().filter(|key| key.contains('.'));
        let label = Some(LabeledSpan::new_primary_with_span(key, excerpt.token));
        let message = detail.message.clone();
        Block { message, cause: None, hint, excerpt: Some(excerpt), label }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Block {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &dyn std::error::Error)
    }
}

impl Diagnostic for Block {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.excerpt.as_ref().map(|excerpt| excerpt as &dyn miette::SourceCode)
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
    fn an_invalid_document_is_shown_with_its_line() {
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
    fn a_diagnostic_in_a_very_long_line_is_shown_with_its_context() {
        let command = "y".repeat(3_000_000);
        let text = format!("service: /a\nprocess: {{command: \"{command}\", typo: 1}}\n");
        let failure = Failure::new(Exit::Documents, "the documents cannot be applied")
            .with_sources(&[source(&text)])
            .with_details(vec![detail(2, 3_000_024, "process.typo", "unknown key `typo`")]);
        insta::assert_snapshot!(failure.render(false, 80), @r#"
         × the documents cannot be applied
         × unknown key `typo`
          ╭─[web.yaml:2:3000024]
        1 │ service: /a
        2 │ …yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", typo: 1}
          ·                                                              ──┬─
          ·                                                                ╰── process.typo
          ╰────
        "#);
    }

    #[test]
    fn a_very_long_line_is_not_echoed() {
        let failure = Failure::new(Exit::Documents, "too large")
            .with_sources(&[source(&"é".repeat(1_000_000))])
            .with_details(vec![detail(1, 1, "", "the source has 2000000 bytes")]);
        let shown = failure.render(false, 80);
        assert!(shown.len() < 2000 && shown.contains("ééé…"), "{shown}");
    }

    #[test]
    fn details_without_their_source_are_still_shown() {
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
        × no response from http://127.0.0.1:4040
        ╰─▶ connection refused
        help: start one with `muster dev`, or name another with --server or
              MUSTER_SERVER
        ");
    }

    #[test]
    fn a_response_of_another_program_is_reported_as_such() {
        let url = || "http://127.0.0.1:80".to_string();
        let stranger = Failure::from(api::Error::NotMuster { url: url(), status: 404 });
        assert_eq!(stranger.exit, Exit::Unreachable);
        assert!(stranger.render(false, 200).contains("is not a Muster server"));
        let nothing =
            ErrorBody::new(ErrorCode::UnknownPath, "there is nothing at /foo/v1/services");
        let nothing = Failure::from(nothing);
        assert_eq!(nothing.exit, Exit::Unreachable);
        assert!(nothing.render(false, 200).contains("without a path"));
        let encrypted = api::Error::Address { url: "https://muster:4040".into() };
        assert!(Failure::from(encrypted).render(false, 200).contains("TLS is not supported"));
    }

    #[test]
    fn positions_beyond_the_text_are_tolerated() {
        for (line, column) in [(1, 99), (99, 1), (2, 3), (0, 0), (1, 6)] {
            let failure = Failure::new(Exit::Documents, "wrong")
                .with_sources(&[source("größe: 界\n")])
                .with_details(vec![detail(line, column, "x", "bad")]);
            assert!(failure.render(false, 80).contains("bad"), "{line}:{column}");
        }
    }

    #[test]
    fn a_closed_pipe_is_not_reported() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.render(true, 80).as_str()), (Exit::Ok, ""));
    }
}
