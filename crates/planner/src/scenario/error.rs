//! Why a line of a script could not be executed, with the column.

/// Why a line could not be executed.
#[derive(Debug)]
pub enum Error {
    /// The line is neither a command, a comment nor output.
    Stray,
    /// The command does not exist.
    Command {
        /// The word.
        word: String,
        /// The most similar command.
        nearest: Option<String>,
    },
    /// A word is missing.
    Missing(&'static str),
    /// A word that the command does not accept.
    Word(String),
    /// An invalid name or quantity.
    Value {
        /// The word.
        word: String,
        /// The reason.
        message: String,
    },
    /// An object that does not exist.
    Unknown {
        /// The kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The most similar name.
        nearest: Option<String>,
    },
}

impl Error {
    /// The column of the fault in `line`, in characters from 1.
    pub fn column(&self, line: &str) -> usize {
        let word = match self {
            Error::Stray => return 1,
            Error::Missing(_) => return line.chars().count() + 1,
            Error::Command { word, .. } | Error::Word(word) | Error::Value { word, .. } => word,
            Error::Unknown { name, .. } => name,
        };
        let before = line.find(word.as_str()).map_or("", |at| &line[..at]);
        before.chars().count() + 1
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Stray => f.write_str(
                "a command begins with `> `, a comment with `#`, and what is printed is indented",
            ),
            Error::Command { word, nearest } => {
                write!(f, "there is no command `{word}`{}", suggestion(nearest))
            }
            Error::Missing(what) => write!(f, "{what} is missing"),
            Error::Word(word) => write!(f, "`{word}` means nothing here"),
            Error::Value { message, .. } => f.write_str(message),
            Error::Unknown { kind, name, nearest } => {
                write!(f, "there is no {kind} `{name}`{}", suggestion(nearest))
            }
        }
    }
}

impl std::error::Error for Error {}
