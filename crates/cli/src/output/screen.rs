//! Standard output. Knows whether to use colour and which format was requested. A closed pipe is an
//! ordinary error here; [`Failure`](super::Failure) makes it silent.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::table::{self, Row};
use super::tone::Tone;
use super::{Failure, age};
use crate::exit::Exit;

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// The same with more columns.
    Wide,
    /// The documents of the API, for programs.
    Json,
    /// The same as YAML.
    Yaml,
    /// One name a line, for shell loops.
    Name,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Even into a pipe.
    Always,
    /// Not at all.
    Never,
}

impl ColorWhen {
    /// Whether output to a stream is coloured.
    fn for_stream(self, is_terminal: bool) -> bool {
        match self {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                is_terminal && !refused && !dumb
            }
        }
    }

    /// Whether to colour standard error.
    pub(crate) fn for_stderr(self) -> bool {
        self.for_stream(io::stderr().is_terminal())
    }
}

/// Standard output, with its format and colours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// The requested format.
    pub(crate) format: Format,
    color: bool,
    terminal: bool,
}

impl Screen {
    /// Standard output with the requested format and colours.
    pub(crate) fn new(format: Format, color: ColorWhen) -> Screen {
        let terminal = io::stdout().is_terminal();
        Screen { format, color: color.for_stream(terminal), terminal }
    }

    /// Whether a terminal shows the output.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether programs read the output, so that it must have only documents or names.
    pub(crate) fn is_for_programs(&self) -> bool {
        !matches!(self.format, Format::Table | Format::Wide)
    }

    /// `text` in its tone.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        match (self.color, tone.code()) {
            (false, _) | (_, "") => text.to_string(),
            (true, code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    /// Writes a line.
    pub(crate) fn line(&self, text: impl std::fmt::Display) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Failure::from)
    }

    /// Writes bytes unchanged.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::from)
    }

    /// Writes a document of the API, as YAML if requested and as JSON otherwise.
    pub(crate) fn document<T: Serialize>(&self, document: &T) -> Result<(), Failure> {
        let text = match self.format {
            Format::Yaml => serde_saphyr::to_string(document).map_err(|error| error.to_string()),
            _ => serde_json::to_string_pretty(document).map_err(|error| error.to_string()),
        };
        match text {
            Ok(text) => self.line(text.trim_end()),
            Err(cause) => {
                Err(Failure::new(Exit::Failure, "the output cannot be serialized")
                    .because_of(cause))
            }
        }
    }

    /// Writes objects in the requested format.
    pub(crate) fn list<T: Row + Serialize>(&self, items: &[T]) -> Result<(), Failure> {
        match self.format {
            Format::Json | Format::Yaml => self.document(&items),
            Format::Name => items.iter().try_for_each(|item| self.line(item.name())),
            Format::Table | Format::Wide if items.is_empty() => self.line("none"),
            Format::Table | Format::Wide => self.line(self.table(items)),
        }
    }

    /// Objects as a table.
    pub(crate) fn table<T: Row>(&self, items: &[T]) -> String {
        table::render(items, self.format == Format::Wide, self.color, age::now())
    }
}
