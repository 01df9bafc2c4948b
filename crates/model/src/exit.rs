//! How a run ended. The fields are the fact; [`Display`](fmt::Display) makes the sentence.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::unit::Timestamp;

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The time by the clock of its node.
    pub at: Timestamp,
    /// How it ended.
    pub how: Ending,
}

/// How a process or container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Ending {
    /// It exited by itself.
    Code {
        /// Its exit code.
        code: i32,
    },
    /// A signal terminated it.
    Signal {
        /// The number of the signal.
        signal: i32,
    },
    /// Its driver terminated it.
    Killed {
        /// The number of the signal.
        signal: i32,
        /// Why, such as the grace period that had passed.
        why: String,
    },
    /// The kernel killed a process of the run because the run had reached its memory limit.
    OutOfMemory {
        /// The exit code, if the run itself went on and exited by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The signal that terminated the run, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// The limit, such as `128MiB`.
        limit: String,
        /// Whether the kernel killed another process of the run, and the run ended afterwards.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        afterwards: bool,
    },
    /// Another client removed its container.
    Vanished,
    /// It ended while its driver did not watch it, so that its exit code is unknown.
    Unseen {
        /// The part that was unavailable meanwhile, such as `docker` or `its keeper`.
        absent: String,
    },
    /// The end as an agent of another version reported it.
    #[serde(skip)]
    Other {
        /// The exit code, if it is known.
        code: Option<i32>,
        /// The signal that terminated it, if one did.
        signal: Option<i32>,
        /// The sentence that was reported.
        message: String,
    },
}

impl Exit {
    /// The exit code, if the run exited by itself and the code is known.
    pub fn code(&self) -> Option<i32> {
        match self.how {
            Ending::Code { code } => Some(code),
            Ending::OutOfMemory { code, .. } | Ending::Other { code, .. } => code,
            _ => None,
        }
    }

    /// The signal that terminated the run, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.how {
            Ending::Signal { signal } | Ending::Killed { signal, .. } => Some(signal),
            Ending::OutOfMemory { signal, .. } | Ending::Other { signal, .. } => signal,
            _ => None,
        }
    }

    /// Whether the run exited by itself with code 0.
    pub fn is_success(&self) -> bool {
        self.code() == Some(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.how.fmt(f)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Code { code } => write!(f, "exit code {code}"),
            Ending::Signal { signal } => write!(f, "killed by signal {signal}"),
            Ending::Killed { signal, why } => write!(f, "killed by signal {signal}: {why}"),
            Ending::OutOfMemory { limit, afterwards: false, .. } => {
                write!(f, "out of memory: limit {limit}")
            }
            Ending::OutOfMemory { code, signal, limit, afterwards: true } => {
                match (code, signal) {
                    (Some(code), _) => write!(f, "exit code {code}")?,
                    (None, Some(signal)) => write!(f, "killed by signal {signal}")?,
                    (None, None) => f.write_str("ended")?,
                }
                write!(f, " after running out of memory: limit {limit}")
            }
            Ending::Vanished => f.write_str("its container was removed by another client"),
            Ending::Unseen { absent } => {
                write!(f, "ended while {absent} was unavailable: its exit code is unknown")
            }
            Ending::Other { message, .. } => f.write_str(message),
        }
    }
}

/// The serialized form keeps `code`, `signal` and `message`, which earlier versions read.
impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            at: Timestamp,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<i32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            signal: Option<i32>,
            message: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            ending: Option<&'a Ending>,
        }
        let ending = (!matches!(self.how, Ending::Other { .. })).then_some(&self.how);
        Written {
            at: self.at,
            code: self.code(),
            signal: self.signal(),
            message: self.how.to_string(),
            ending,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Exit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            at: Timestamp,
            #[serde(default)]
            code: Option<i32>,
            #[serde(default)]
            signal: Option<i32>,
            #[serde(default)]
            message: String,
            #[serde(default)]
            ending: Option<Value>,
        }
        // A later version may know endings that this one does not.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Known(Ending),
            Unknown(serde::de::IgnoredAny),
        }
        let Read { at, code, signal, message, ending } = Read::deserialize(deserializer)?;
        let how = match ending {
            Some(Value::Known(how)) => how,
            Some(Value::Unknown(_)) | None => Ending::Other { code, signal, message },
        };
        Ok(Exit { at, how })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_has_a_message_and_reads_back() {
        let limit = || String::from("16MiB");
        let memory = |code, signal, afterwards| Ending::OutOfMemory {
            code,
            signal,
            limit: limit(),
            afterwards,
        };
        let why = "it did not end within 5s".into();
        let message = || String::from("melted");
        for (how, sentence, code, signal) in [
            (Ending::Code { code: 3 }, "exit code 3", Some(3), None),
            (Ending::Signal { signal: 15 }, "killed by signal 15", None, Some(15)),
            (
                Ending::Killed { signal: 9, why },
                "killed by signal 9: it did not end within 5s",
                None,
                Some(9),
            ),
            (memory(None, Some(9), false), "out of memory: limit 16MiB", None, Some(9)),
            (
                memory(Some(1), None, true),
                "exit code 1 after running out of memory: limit 16MiB",
                Some(1),
                None,
            ),
            (
                memory(None, Some(15), true),
                "killed by signal 15 after running out of memory: limit 16MiB",
                None,
                Some(15),
            ),
            (Ending::Vanished, "its container was removed by another client", None, None),
            (
                Ending::Unseen { absent: "docker".into() },
                "ended while docker was unavailable: its exit code is unknown",
                None,
                None,
            ),
            (
                Ending::Other { code: Some(2), signal: None, message: message() },
                "melted",
                Some(2),
                None,
            ),
        ] {
            let exit = Exit { at: Timestamp(7), how };
            assert_eq!(exit.to_string(), sentence);
            assert_eq!((exit.code(), exit.signal()), (code, signal), "{sentence}");
            let written = serde_json::to_value(&exit).expect("it is written");
            assert_eq!(written["message"], sentence);
            assert_eq!(serde_json::from_value::<Exit>(written).expect("it is read"), exit);
        }
    }

    #[test]
    fn exits_of_other_versions_are_messages() {
        let at = "1970-01-01T00:00:00.007Z";
        let old = format!(r#"{{"at": "{at}", "code": 0, "message": "exit code 0"}}"#);
        let exit: Exit = serde_json::from_str(&old).expect("it is read");
        assert!(exit.is_success());
        assert_eq!(exit.to_string(), "exit code 0");
        let newer = format!(
            r#"{{"at": "{at}", "message": "thawed", "ending": {{"how": "thawed", "by": "sun"}}}}"#
        );
        let exit: Exit = serde_json::from_str(&newer).expect("it is read");
        assert_eq!((exit.to_string().as_str(), exit.code()), ("thawed", None));
    }
}
