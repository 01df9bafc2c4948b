//! Documents in YAML and JSON.
//!
//! An accepted document is written, as YAML and as JSON, and read back equal, and a service is shown
//! as a Marathon app that reads back as itself. A rejected one is rejected at a line of the input.

use std::sync::Arc;

use formats::{Diagnostic, parse_with, to_yaml};
use marathon::format::{self, App, read_app};
use model::{Document, Spec};
use serde::Serialize;

/// Longer texts show nothing that shorter ones do not.
const LEN_MAX: usize = 16 << 10;

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if text.len() > LEN_MAX {
        return;
    }
    let parsed = match parse_with("input", text, &[&format::Apps]) {
        Ok(parsed) => parsed,
        Err(diagnostics) => return refused(text, &diagnostics),
    };
    assert!(!parsed.documents.is_empty(), "nothing is accepted that says nothing");
    for located in parsed.documents {
        for key in ["service", "health.0.probe.http.port", "routes.9.to", "", "."] {
            let (line, column) = located.locate(key);
            at_a_place(text, line, column);
        }
        match &located.document {
            Document::Service { spec, source: None } => {
                assert_eq!(spec.problems(), [], "what is accepted is sound");
                reads_back(&located.document, &Arc::new(Spec::clone(spec)).shown());
                let app = App::of(spec);
                let shown = app.to_source();
                let again = read_app(shown.as_bytes(), None);
                let is_named = format::reserved(spec.service.as_str()).is_none();
                assert!(!is_named || again.as_ref() == Ok(&app), "it is shown as an app: {shown}");
            }
            Document::Service { spec, source: Some(source) } => {
                assert_eq!(spec.problems(), [], "what is accepted is sound");
                let app = App::from_source(&source.text).map(|app| app.to_source());
                assert_eq!(app.as_ref(), Some(&source.text), "it is kept as it was read");
            }
            Document::Gateway(gateway) => {
                assert_eq!(gateway.problems(), [], "what is accepted is sound");
                reads_back(&located.document, gateway);
            }
            other => panic!("no text is {other:?}"),
        }
    }
}

fn reads_back(document: &Document, content: &impl Serialize) {
    let json = serde_json::to_string(content).unwrap_or_else(|error| panic!("{error}"));
    for written in [to_yaml(content), json] {
        let again = parse_with("written", &written, &[]).map(|parsed| {
            parsed.documents.into_iter().map(|located| located.document).collect::<Vec<_>>()
        });
        assert_eq!(again.as_deref(), Ok(&[document.clone()][..]), "{written}");
    }
}

fn refused(text: &str, diagnostics: &[Diagnostic]) {
    assert!(!diagnostics.is_empty(), "what is refused is refused for a reason");
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty(), "{diagnostic:?}");
        assert_eq!(diagnostic.source, "input");
        at_a_place(text, diagnostic.line, diagnostic.column);
    }
}

fn at_a_place(text: &str, line: usize, column: usize) {
    let breaks = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    assert!((1..=breaks + 1).contains(&line), "line {line} of {}", breaks + 1);
    assert!((1..=text.chars().count() + 1).contains(&column), "column {column}");
}
