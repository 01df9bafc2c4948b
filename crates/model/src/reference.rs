//! References: the names of facts, as values have them in `${…}`.

use std::fmt;

use crate::nearest::nearest;
use crate::spec::PortRef;

/// The fact that a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ref {
    /// A fact of the instance itself, which its agent knows.
    Own(Own),
}

/// A fact of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// `node.name`: the name of its node.
    NodeName,
    /// `node.address`: the address of its node.
    NodeAddress,
    /// `service`: the path of its service.
    Service,
    /// `instance`: its id.
    Instance,
    /// `resource`: the name of the resource in its stack.
    Resource,
    /// A number, such as `slot`; with a format, such as `slot:03`.
    Number(Number, Format),
    /// `revision.created_at`: when the revision that it was placed at was applied.
    RevisionCreatedAt,
    /// `dir`: its own directory on the node.
    Dir,
    /// `port.NAME` or `port.INDEX`: a port of the instance. A port of the resource itself is the
    /// one that it listens on.
    Port(PortRef),
    /// `node.port.NAME` or `node.port.INDEX`: the port of the node that leads to that port.
    NodePort(PortRef),
}

/// A number among the facts of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// `slot`: its replica number, from 0.
    Slot,
    /// `attempt`: the number of times that its slot has been placed, from 1.
    Attempt,
    /// `revision`: the revision that it was placed at.
    Revision,
    /// `run`: its nth start in place, from 1.
    Run,
}

/// The format of a number: `03` pads it with zeros to three digits, `08x` is hexadecimal. By
/// default, a number is decimal and has no zeros before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format {
    /// The minimum number of digits; 0 without a format.
    width: u8,
    is_hexadecimal: bool,
}

impl Format {
    /// Decimal, without zeros before it.
    pub(crate) const DECIMAL: Format = Format { width: 0, is_hexadecimal: false };
}

/// The maximum of [`Format::width`].
const WIDTH_MAX: u8 = 20;

/// The references other than ports, and the facts they stand for.
const NAMED: [(&str, Own); 11] = {
    const fn number(number: Number) -> Own {
        Own::Number(number, Format::DECIMAL)
    }
    [
        ("node.name", Own::NodeName),
        ("node.address", Own::NodeAddress),
        ("service", Own::Service),
        ("instance", Own::Instance),
        ("resource", Own::Resource),
        ("slot", number(Number::Slot)),
        ("attempt", number(Number::Attempt)),
        ("revision", number(Number::Revision)),
        ("revision.created_at", Own::RevisionCreatedAt),
        ("run", number(Number::Run)),
        ("dir", Own::Dir),
    ]
};

/// Why a string is not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A reference has no end.
    #[error("`${{` without a `}}` after it; `$${{` is a literal `${{`")]
    Open,
    /// There is no such reference.
    #[error("unknown reference `${{{name}}}`{}; `$${{{name}}}` is that text", suggestion(.nearest))]
    Unknown {
        /// The name in the braces.
        name: String,
        /// The most similar reference.
        nearest: Option<String>,
    },
    /// The reference has a format that it cannot have.
    #[error("`{format}` is no format of `{name}`: numbers have formats such as `03` and `08x`")]
    Format {
        /// The name before the colon.
        name: String,
        /// The format after it.
        format: String,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!(": did you mean `${{{nearest}}}`?"),
        None => {
            let known: Vec<_> = NAMED.iter().map(|(name, _)| *name).collect();
            format!(": there are {}, port.NAME and node.port.NAME", known.join(", "))
        }
    }
}

impl Own {
    /// Parses the name in the braces.
    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        type Port = fn(PortRef) -> Own;
        for (prefix, own) in [("port.", Own::Port as Port), ("node.port.", Own::NodePort as Port)] {
            if let Some(port) = name.strip_prefix(prefix).filter(|port| !port.is_empty()) {
                return Ok(own(match port.parse() {
                    Ok(index) => PortRef::Index(index),
                    Err(_) => PortRef::Name(port.into()),
                }));
            }
        }
        let (base, format) = match name.split_once(':') {
            Some((base, format)) => (base, Some(format)),
            None => (name, None),
        };
        let known = NAMED.into_iter().find(|(known, _)| *known == base);
        let (_, own) = known.ok_or_else(|| Error::Unknown {
            name: name.into(),
            nearest: nearest(base, NAMED.iter().map(|(known, _)| *known)),
        })?;
        match (format, own) {
            (None, own) => Ok(own),
            (Some(format), own) => match (own, Format::parse(format)) {
                (Own::Number(number, _), Some(format)) => Ok(Own::Number(number, format)),
                _ => Err(Error::Format { name: base.into(), format: format.into() }),
            },
        }
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, format) = match self {
            Own::Port(port) => return write!(f, "port.{port}"),
            Own::NodePort(port) => return write!(f, "node.port.{port}"),
            Own::Number(number, format) => (&Own::Number(*number, Format::default()), *format),
            own => (own, Format::default()),
        };
        let named = NAMED.into_iter().find(|(_, known)| known == own);
        let (name, _) = named.expect("every fact is named");
        f.write_str(name)?;
        match format {
            Format { width: 0, .. } => Ok(()),
            Format { width, is_hexadecimal: true } => write!(f, ":0{width}x"),
            Format { width, is_hexadecimal: false } => write!(f, ":0{width}"),
        }
    }
}

impl Format {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('0')?;
        let (digits, is_hexadecimal) = match digits.strip_suffix('x') {
            Some(digits) => (digits, true),
            None => (digits, false),
        };
        // The same format must be displayed: `+3` and `03` are numbers too.
        let is_canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        let width = digits.parse().ok().filter(|_| is_canonical)?;
        (width <= WIDTH_MAX).then_some(Format { width, is_hexadecimal })
    }

    /// The number in this format.
    pub(crate) fn apply(self, number: u32) -> String {
        let width = usize::from(self.width);
        match self.is_hexadecimal {
            true => format!("{number:0width$x}"),
            false => format!("{number:0width$}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_is_displayed_as_it_is_parsed() {
        for (name, own) in NAMED {
            assert_eq!(own.to_string(), name);
            assert_eq!(Own::parse(name), Ok(own));
        }
        for name in ["port.0", "port.http", "node.port.0", "node.port.http", "slot:03", "run:08x"] {
            assert_eq!(Own::parse(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn numbers_have_formats() {
        for (reference, number, expected) in [
            ("slot", 7, "7"),
            ("slot:03", 7, "007"),
            ("slot:03", 70_000, "70000"),
            ("slot:08x", 255, "000000ff"),
        ] {
            let Own::Number(_, format) = Own::parse(reference).unwrap() else { panic!() };
            assert_eq!(format.apply(number), expected, "{reference}");
        }
        for wrong in ["", "3", "0", "x", "003", "0+3", "021", "03X", "03d"] {
            let error = Own::parse(&format!("slot:{wrong}")).unwrap_err();
            let expected = Error::Format { name: "slot".into(), format: wrong.into() };
            assert_eq!(error, expected);
        }
        assert!(matches!(Own::parse("service:03"), Err(Error::Format { .. })));
    }

    #[test]
    fn unknown_references_are_rejected_with_the_nearest_one() {
        let message = |name: &str| Own::parse(name).unwrap_err().to_string();
        assert_eq!(
            message("node.nam"),
            "unknown reference `${node.nam}`: did you mean `${node.name}`?; `$${node.nam}` is that \
             text"
        );
        let unlike = message("HOME");
        assert!(unlike.contains("there are node.name, node.address, service"), "{unlike}");
        assert!(unlike.ends_with("`$${HOME}` is that text"), "{unlike}");
        assert!(Own::parse("port.").is_err() && Own::parse("node.port.").is_err());
    }

    /// The page of the book for users lists the references.
    #[test]
    fn the_book_lists_every_reference() {
        let page = include_str!("../../../docs/src/instances.md");
        let (_, table) = page.split_once("| reference |").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let listed: Vec<_> =
            table.split("`${").skip(1).filter_map(|rest| rest.split('}').next()).collect();
        let ports = ["port.NAME", "port.0", "node.port.NAME", "node.port.0"];
        let known: Vec<_> = NAMED.iter().map(|(name, _)| *name).chain(ports).collect();
        for name in &known {
            assert!(listed.contains(name), "`{name}` is missing in {listed:?}");
        }
        assert_eq!(listed.len(), known.len(), "{listed:?}");
    }
}
