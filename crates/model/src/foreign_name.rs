//! Names of foreign systems as segments of service paths.
//!
//! Foreign names allow more than segments do: `simpleservice:0.9`, `Instance-1`, `My shop`.
//! [`encode`] maps any non-empty UTF-8 name to a valid segment, and [`decode`] maps it back. The
//! mapping is injective, and a valid segment that does not look encoded is its own encoding. An
//! adapter stores the original name with the path, for display.
//!
//! An encoded name is `x-`, then the name with each byte that a segment cannot hold at its position
//! replaced by `z` and two hexadecimal digits, then `-x`. `z` itself is replaced as well, so that the
//! first `z` of a triple is never a letter of the name; the ends make every position inside valid for
//! a hyphen, and keep encoded names apart from all others.

use crate::id::{Error, SEGMENT_LEN_MAX, check_segment};

const BEGIN: &str = "x-";
const END: &str = "-x";
const ESCAPE: char = 'z';

/// The segment that stands for a foreign name.
///
/// # Errors
///
/// The name is empty, or its encoding is longer than a name may be.
pub fn encode(name: &str) -> Result<String, Error> {
    if name.is_empty() {
        return Err(Error::Segment { segment: String::new() });
    }
    let segment = match check_segment(name).is_ok() && !is_encoded(name) {
        true => name.to_string(),
        false => {
            let mut segment = String::from(BEGIN);
            for byte in name.bytes() {
                match byte {
                    b'a'..=b'y' | b'0'..=b'9' | b'-' => segment.push(byte.into()),
                    byte => segment.push_str(&format!("{ESCAPE}{byte:02x}")),
                }
            }
            segment + END
        }
    };
    match segment.len() {
        len if len > SEGMENT_LEN_MAX => Err(Error::TooLong { len, max: SEGMENT_LEN_MAX }),
        _ => Ok(segment),
    }
}

/// The foreign name that a segment stands for; `None` if [`encode`] returns this segment for no name.
pub fn decode(segment: &str) -> Option<String> {
    let Some(inner) = segment.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)) else {
        return check_segment(segment).is_ok().then(|| segment.into());
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.as_bytes();
    while let [byte, after @ ..] = rest {
        if *byte == ESCAPE as u8 {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (encode(&name).ok()? == segment).then_some(name)
}

fn is_encoded(segment: &str) -> bool {
    segment.strip_prefix(BEGIN).is_some_and(|rest| rest.ends_with(END))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_readable_as_segments() {
        let long = "n".repeat(SEGMENT_LEN_MAX);
        for (name, segment) in [
            ("web", "web"),
            ("a.b-c", "a.b-c"),
            ("pizza", "pizza"),
            ("x", "x"),
            ("x-web", "x-web"),
            (&long, &long),
            ("simpleservice:0.9", "x-simpleservicez3a0z2e9-x"),
            ("Instance-1", "x-z49nstance-1-x"),
            ("My shop", "x-z4dyz20shop-x"),
            ("Pizza", "x-z50iz7az7aa-x"),
            ("-", "x---x"),
            ("x-web-x", "x-x-web-x-x"),
            ("a/b", "x-az2fb-x"),
            ("\u{e9}", "x-zc3za9-x"),
        ] {
            assert_eq!(encode(name).as_deref(), Ok(segment), "{name}");
            assert_eq!(decode(segment).as_deref(), Some(name), "{segment}");
        }
        assert!(matches!(encode(""), Err(Error::Segment { .. })));
        assert!(matches!(encode(&"N".repeat(90)), Err(Error::TooLong { len: 274, .. })));
        for wrong in ["", "Web", "x-web-x", "x-z4-x", "x-z4D-x", "x-z61z20-x", "x-zff-x", "x--x"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
