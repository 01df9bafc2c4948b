//! The body of error responses.

use serde::{Deserialize, Serialize};

/// The kind of an error; each has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// 400: the request itself cannot be read.
    BadRequest,
    /// 403: the author of the request has no permission, or a page of another site sent it.
    Forbidden,
    /// 404: the named object does not exist.
    NotFound,
    /// 404: the API has no such path, so the client has another version or a wrong base address.
    UnknownPath,
    /// 405: the path does not support the method.
    MethodNotAllowed,
    /// 409: the current state does not allow it.
    Conflict,
    /// 409: the daemon belongs to another cluster, or knows more than the server's store has.
    WrongServer,
    /// 413: the request exceeds a limit.
    TooLarge,
    /// 421: the request names a host that is not one of the server's names.
    WrongHost,
    /// 422: the documents are invalid; the details have the positions.
    Invalid,
    /// 503: currently impossible; nothing was changed.
    Unavailable,
    /// 502: another daemon did not respond.
    BadGateway,
    /// 500: a defect of the server.
    Internal,
}

impl ErrorCode {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::BadRequest => 400,
            ErrorCode::Forbidden => 403,
            ErrorCode::NotFound | ErrorCode::UnknownPath => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::Conflict | ErrorCode::WrongServer => 409,
            ErrorCode::TooLarge => 413,
            ErrorCode::WrongHost => 421,
            ErrorCode::Invalid => 422,
            ErrorCode::Internal => 500,
            ErrorCode::BadGateway => 502,
            ErrorCode::Unavailable => 503,
        }
    }
}

/// The body of every response that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The kind of the error.
    pub code: ErrorCode,
    /// The error as one sentence.
    pub message: String,
    /// The individual faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
    /// An action that may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ErrorBody {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), hint: None }
    }
}

/// The message of an error and of all its causes, in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(|error| error.to_string()).collect::<Vec<_>>().join(": ")
}

/// A fault and its position.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Detail {
    /// The name of the source, as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column in characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The path of keys, such as `health.0.probe.http.port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The fault, and a valid alternative if there is one.
    pub message: String,
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_error_is_displayed_with_its_causes() {
        let source = std::io::Error::other("connection refused").into();
        let error = crate::Error::Unreachable { url: "http://10.0.0.1:4040".into(), source };
        let text = super::error_chain(&error);
        assert_eq!(text, "no response from http://10.0.0.1:4040: connection refused");
    }
}
