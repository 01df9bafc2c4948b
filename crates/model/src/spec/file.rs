//! Files of an instance: the content of each, its place and its attributes. An agent writes them
//! before each start of their resource. `validate` has the rules for them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::is_default;
use super::lifecycle::Signal;
use crate::value::Value;

/// A file that is written before each start of a resource. Exactly one of `text`, `base64` and `url`
/// is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "File")]
pub struct FileSpec {
    /// Where it is written: relative to the directory of the instance for a process, an absolute
    /// path inside the container for a container.
    pub path: String,
    /// The content. `${node.name}` and the like stand for facts of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Value>,
    /// The content in base64, for binary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<Base64>,
    /// Where the agent fetches the content, by http or https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The checksum of the content at `url`: 64 hexadecimal digits, as `sha256sum` prints them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Whether the content at `url` is an archive. It is unpacked, and `path` is the directory.
    #[serde(default, skip_serializing_if = "is_default")]
    pub extract: bool,
    /// Whether the node keeps the content at `url` for further instances.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub cache: bool,
    /// The permissions, as octal digits in quotes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Whether the file is a program: everybody may execute it, in addition to `mode`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub executable: bool,
    /// The owner, as `user` or `user:group`; by default the user of the resource. In a container
    /// it is a number; without one, and if `container.user` is a name, the file belongs to root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What happens when only the content of the file changes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_change: OnChange,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

impl Default for FileSpec {
    fn default() -> Self {
        Self {
            path: String::new(),
            text: None,
            base64: None,
            url: None,
            sha256: None,
            extract: false,
            cache: true,
            mode: Mode::default(),
            executable: false,
            owner: None,
            on_change: OnChange::default(),
        }
    }
}

/// What happens when only the content of a file changes. A change of anything else about a file
/// replaces the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(deny_unknown_fields)]
pub enum OnChange {
    /// The instances are replaced.
    #[default]
    Restart,
    /// The file is written in running instances.
    Nothing,
    /// The file is written in running instances, and the resource is then sent this signal.
    Signal(Signal),
}

/// Where the content of a file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSource<'a> {
    /// From the document, with references that the agent resolves.
    Text(&'a Value),
    /// From the document, byte for byte.
    Bytes(&'a Arc<[u8]>),
    /// From a URL.
    Url {
        /// The URL.
        url: &'a str,
        /// The checksum that the content must have. Native documents give one.
        sha256: Option<&'a Sha256>,
    },
}

impl FileSpec {
    /// The source of the content; `None` unless exactly one is given.
    pub fn source(&self) -> Option<FileSource<'_>> {
        match (&self.text, &self.base64, &self.url) {
            (Some(text), None, None) => Some(FileSource::Text(text)),
            (None, Some(Base64(bytes)), None) => Some(FileSource::Bytes(bytes)),
            (None, None, Some(url)) => Some(FileSource::Url { url, sha256: self.sha256.as_ref() }),
            _ => None,
        }
    }

    /// The signal that is sent to the resource when the content has changed.
    pub fn signal(&self) -> Option<Signal> {
        match self.on_change {
            OnChange::Signal(signal) => Some(signal),
            OnChange::Restart | OnChange::Nothing => None,
        }
    }

    /// This file without what takes effect in place.
    pub(super) fn template(&self) -> FileSpec {
        match self.on_change {
            OnChange::Restart => FileSpec { cache: true, ..self.clone() },
            OnChange::Nothing | OnChange::Signal(_) => {
                let (text, base64, url, sha256) = Default::default();
                let on_change = OnChange::Nothing;
                FileSpec { text, base64, url, sha256, cache: true, on_change, ..self.clone() }
            }
        }
    }

    /// The permission bits of the file.
    pub fn permissions(&self) -> u32 {
        self.mode.0 | if self.executable { 0o111 } else { 0 }
    }

    /// The size of the content that the document contains. References count as they are written.
    pub(crate) fn inline_bytes(&self) -> usize {
        let text = self.text.as_ref().map_or(0, |text| text.to_string().len());
        text + self.base64.as_ref().map_or(0, |binary| binary.0.len())
    }
}

/// The content of a file, written in base64 (RFC 4648 §4, with padding).
#[derive(Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Base64(pub Arc<[u8]>);

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        // Long strings are wrapped in documents.
        text.retain(|c| !c.is_ascii_whitespace());
        let bytes = STANDARD.decode(text).map_err(|error| {
            de::Error::custom(format!("this is not base64 with padding: {error}"))
        })?;
        Ok(Base64(bytes.into()))
    }
}

/// A checksum, written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct Sha256(pub [u8; 32]);

/// Why a string is not a checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a checksum: 64 hexadecimal digits, as `sha256sum` prints them")]
pub struct Sha256Error(String);

impl FromStr for Sha256 {
    type Err = Sha256Error;

    fn from_str(text: &str) -> Result<Self, Sha256Error> {
        let refused = || Sha256Error(text.into());
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| refused())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| refused())?;
        }
        Ok(Sha256(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The permissions of a file: the bits `0o777`, written as octal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Mode(u32);

/// Why a string is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a mode: three octal digits in quotes, such as \"0644\"")]
pub struct ModeError(String);

impl Default for Mode {
    fn default() -> Self {
        Mode(0o644)
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let is_octal = digits.len() >= 3 && digits.bytes().all(|digit| digit.is_ascii_digit());
        let bits = u32::from_str_radix(digits, 8).ok().filter(|bits| is_octal && *bits <= 0o777);
        bits.map(Mode).ok_or_else(|| ModeError(text.into()))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(fields: serde_json::Value) -> FileSpec {
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn a_file_has_one_source() {
        assert_eq!(file(json!({"path": "a"})).source(), None);
        assert_eq!(file(json!({"path": "a", "text": "", "base64": ""})).source(), None);
        let binary = file(json!({"path": "a", "base64": "AA\nH/\n"}));
        assert_eq!(binary.source(), Some(FileSource::Bytes(&vec![0, 1, 255].into())));
        assert!(serde_json::from_value::<FileSpec>(json!({"path": "a", "base64": "AAH"})).is_err());
    }

    #[test]
    fn a_checksum_has_64_digits() {
        let text = "00ff".repeat(16);
        let checksum: Sha256 = text.parse().unwrap();
        assert_eq!((checksum.0[1], checksum.to_string()), (0xff, text.clone()));
        assert_eq!(text.to_uppercase().parse(), Ok(checksum));
        for text in ["", "00", &"é".repeat(32), &"0g".repeat(32), &"+f".repeat(32)] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_mode_has_three_octal_digits() {
        for (text, bits) in [("0644", 0o644), ("755", 0o755), ("0o600", 0o600), ("000", 0)] {
            assert_eq!(text.parse(), Ok(Mode(bits)), "{text}");
            assert_eq!(Mode(bits).to_string().parse(), Ok(Mode(bits)));
        }
        for text in ["", "44", "0888", "4755", "rw", "-644"] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
        let program = file(json!({"path": "a", "mode": "0640", "executable": true}));
        assert_eq!(program.permissions(), 0o751);
        assert_eq!(serde_json::to_value(file(json!({"path": "a"}))).unwrap(), json!({"path": "a"}));
    }
}
