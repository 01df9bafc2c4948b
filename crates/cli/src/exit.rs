//! The one list of exit codes, for help text, errors and outcomes.

use std::fmt::Write as _;
use std::process::ExitCode;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Ok = 0,
    /// The cluster rejected the request, or the verb failed.
    Failure = 1,
    /// A usage error: the command line is invalid.
    Usage = 2,
    /// The documents are invalid.
    Documents = 3,
    /// The server is unreachable.
    Unreachable = 4,
    /// The object does not exist.
    NotFound = 5,
    /// A deployment failed, was rolled back or was superseded.
    Deployment = 6,
    /// The timeout passed.
    TimedOut = 7,
}

impl Exit {
    const ALL: [Exit; 8] = [
        Exit::Ok,
        Exit::Failure,
        Exit::Usage,
        Exit::Documents,
        Exit::Unreachable,
        Exit::NotFound,
        Exit::Deployment,
        Exit::TimedOut,
    ];

    /// Its meaning, for the help text.
    fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "done",
            Exit::Failure => "failed, or refused by the cluster",
            Exit::Usage => "usage error",
            Exit::Documents => "the documents are invalid; nothing was changed",
            Exit::Unreachable => "the server is unreachable",
            Exit::NotFound => "there is no such thing",
            Exit::Deployment => "the deployment failed, was rolled back or was superseded",
            Exit::TimedOut => "not completed within the timeout; it continues",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The part of the help text about exit codes.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "  {}  {}", exit as u8, exit.meaning());
    }
    text.push_str("\n`muster` alone shows how to get started.");
    text
}
