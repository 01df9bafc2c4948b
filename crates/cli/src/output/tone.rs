//! The roles in which text is shown. Which colour a role has is decided here, whether colour is shown by `screen`.

/// A role in which text is shown, whatever its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// Under way, or worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Beside the point.
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
