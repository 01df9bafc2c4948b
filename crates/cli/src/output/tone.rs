//! The roles of text. This module decides the colour of each role; `screen` decides whether colour
//! is shown.

/// The role of text, independent of its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Ordinary text.
    Plain,
    /// A good state.
    Good,
    /// In progress, or worth attention.
    Warn,
    /// A bad state.
    Bad,
    /// Secondary text.
    Dim,
    /// A heading.
    Strong,
}

impl Tone {
    /// The parameter of its escape sequence (ECMA-48, select graphic rendition); empty for none.
    pub(super) fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        }
    }
}
