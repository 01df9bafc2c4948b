//! The settings, read from the environment.
//!
//! Reading is pure: the lookup is a parameter. A value that cannot be meant is refused with the variable, the value and
//! what would do; nothing is guessed, since a service that quietly ran on another port would only fail later.

use std::{ffi::OsString, fmt, time::Duration};

const PORT_DEFAULT: u16 = 9876;
const VERSION_DEFAULT: &str = "0.9";

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `PORT0`, else `PORT`, else 9876. Zero asks the kernel for a free one.
    pub(crate) port: u16,
    /// `SIMPLE_SERVICE_VERSION`: the version in responses.
    pub(crate) version: String,
    /// `HEALTH_MIN`: the shortest delay of `/health`.
    pub(crate) health_delay_ms_min: u64,
    /// `HEALTH_MAX`: the longest delay of `/health`; when only the shortest is given, that one.
    pub(crate) health_delay_ms_max: u64,
    /// `FAIL_HEALTH`: whether `/health` answers 500.
    pub(crate) health_fails: bool,
    /// `EXIT_AFTER_MS`: after how long to crash (exit code 1), if at all.
    pub(crate) exit_after: Option<Duration>,
    /// `LOG_REQUESTS`: whether each request is a line on stderr; off for measurements.
    pub(crate) requests_logged: bool,
}

/// A variable whose value cannot be meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Error {
    variable: &'static str,
    value: String,
    wanted: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}: {}", self.variable, self.value, self.wanted)
    }
}

impl std::error::Error for Error {}

const WANTED_PORT: &str = "give a port number from 0 to 65535";
const WANTED_MS: &str = "give a whole number of milliseconds, such as 1000";
const WANTED_SWITCH: &str = "give 1 (yes) or 0 (no)";

impl Settings {
    /// Reads the settings through `lookup`, which answers the value of a variable or none.
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let text = |variable: &'static str| -> Result<Option<String>, Error> {
            let value = lookup(variable).map(OsString::into_string).transpose();
            value.map_err(|raw| Error {
                variable,
                value: raw.to_string_lossy().into_owned(),
                wanted: "give text in UTF-8",
            })
        };
        let milliseconds = |variable: &'static str| -> Result<Option<u64>, Error> {
            let Some(value) = text(variable)? else { return Ok(None) };
            match value.parse() {
                Ok(parsed) => Ok(Some(parsed)),
                Err(_) => Err(Error { variable, value, wanted: WANTED_MS }),
            }
        };
        let switch = |variable: &'static str, default: bool| match text(variable)?.as_deref() {
            None | Some("") => Ok(default),
            Some("1" | "true" | "yes") => Ok(true),
            Some("0" | "false" | "no") => Ok(false),
            Some(other) => Err(Error { variable, value: other.to_owned(), wanted: WANTED_SWITCH }),
        };

        let variable = if text("PORT0")?.is_some() { "PORT0" } else { "PORT" };
        let port = match text(variable)? {
            None => PORT_DEFAULT,
            Some(value) => match value.parse() {
                Ok(port) => port,
                Err(_) => return Err(Error { variable, value, wanted: WANTED_PORT }),
            },
        };
        let health_delay_ms_min = milliseconds("HEALTH_MIN")?.unwrap_or(0);
        let health_delay_ms_max = milliseconds("HEALTH_MAX")?.unwrap_or(health_delay_ms_min);
        if health_delay_ms_max < health_delay_ms_min {
            return Err(Error {
                variable: "HEALTH_MAX",
                value: health_delay_ms_max.to_string(),
                wanted: "give at least the value of HEALTH_MIN",
            });
        }
        Ok(Self {
            port,
            version: text("SIMPLE_SERVICE_VERSION")?.unwrap_or_else(|| VERSION_DEFAULT.to_owned()),
            health_delay_ms_min,
            health_delay_ms_max,
            health_fails: switch("FAIL_HEALTH", false)?,
            exit_after: milliseconds("EXIT_AFTER_MS")?.map(Duration::from_millis),
            requests_logged: switch("LOG_REQUESTS", true)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn unset_variables_have_defaults() {
        let settings = read(&[]).unwrap();
        assert_eq!((settings.port, settings.version.as_str()), (9876, "0.9"));
        assert_eq!((settings.health_delay_ms_min, settings.health_delay_ms_max), (0, 0));
        assert!(
            !settings.health_fails && settings.exit_after.is_none() && settings.requests_logged
        );
    }

    #[test]
    fn port0_takes_precedence_over_port() {
        assert_eq!(read(&[("PORT0", "1765"), ("PORT", "80")]).unwrap().port, 1765);
        assert_eq!(read(&[("PORT", "80")]).unwrap().port, 80);
    }

    #[test]
    fn a_minimum_delay_alone_is_an_exact_delay() {
        assert_eq!(read(&[("HEALTH_MIN", "7")]).unwrap().health_delay_ms_max, 7);
        assert_eq!(read(&[("HEALTH_MAX", "7")]).unwrap().health_delay_ms_min, 0);
    }

    #[test]
    fn invalid_values_are_rejected_with_the_expected_form() {
        let refused = |variables: &[(&str, &str)]| read(variables).unwrap_err();
        assert_eq!(
            refused(&[("PORT0", "65536")]),
            r#"PORT0="65536": give a port number from 0 to 65535"#
        );
        assert_eq!(refused(&[("PORT", "")]), r#"PORT="": give a port number from 0 to 65535"#);
        assert_eq!(
            refused(&[("HEALTH_MIN", "1s")]),
            r#"HEALTH_MIN="1s": give a whole number of milliseconds, such as 1000"#
        );
        assert_eq!(
            refused(&[("HEALTH_MIN", "5"), ("HEALTH_MAX", "4")]),
            r#"HEALTH_MAX="4": give at least the value of HEALTH_MIN"#
        );
        assert_eq!(
            refused(&[("FAIL_HEALTH", "maybe")]),
            r#"FAIL_HEALTH="maybe": give 1 (yes) or 0 (no)"#
        );
        assert!(refused(&[("EXIT_AFTER_MS", "-1")]).starts_with("EXIT_AFTER_MS"));
    }
}
