//! How many instances a user asks for: a number, or more or fewer than now.

use std::str::FromStr;

use crate::id::ServiceId;
use crate::proposal::Command;

/// A number of instances. Text with a sign, `+2` or `-1`, is relative to the present number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// This number.
    To(u32),
    /// As many more; fewer if it is negative.
    By(i32),
}

/// Text that is not a number of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of instances such as 3, or a difference such as +2 or -1")]
pub struct Error;

impl FromStr for Scaling {
    type Err = Error;

    fn from_str(text: &str) -> Result<Scaling, Error> {
        match text.starts_with(['+', '-']) {
            true => text.parse().map(Scaling::By).map_err(|_| Error),
            false => text.parse().map(Scaling::To).map_err(|_| Error),
        }
    }
}

impl Scaling {
    /// The command that scales a service.
    pub fn command(self, service: ServiceId) -> Command {
        match self {
            Scaling::To(instances) => Command::Scale { service, instances },
            Scaling::By(by) => Command::ScaleBy { service, by },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+2` used to be read as 2, so that a service with 12 instances lost 10.
    #[test]
    fn a_sign_makes_a_number_relative() {
        for (text, expected) in [
            ("3", Ok(Scaling::To(3))),
            ("0", Ok(Scaling::To(0))),
            ("+2", Ok(Scaling::By(2))),
            ("-1", Ok(Scaling::By(-1))),
            ("+0", Ok(Scaling::By(0))),
            ("", Err(Error)),
            ("+", Err(Error)),
            ("++2", Err(Error)),
            ("+-2", Err(Error)),
            ("2.0", Err(Error)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }
}
