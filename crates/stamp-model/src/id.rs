//! Names that end up in paths, table rows and metrics, each parsed once at the edge.
//!
//! A parsed id is safe to use as one path segment (stamp, tenant) or is known not to be (device).

use std::fmt;

use crate::Text;

/// Longest device id IoT Hub accepts, in characters (IoT Hub identity registry reference).
pub const DEVICE_ID_CHARS_MAX: usize = 128;

/// Highest partition id that is accepted: Event Hubs Dedicated allows 1,024 partitions a hub.
pub const PARTITION_MAX: u32 = 1_023;

const SEGMENT_CHARS_MAX: usize = 63;

/// Why a text is not an id of the asked kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Stamp and tenant ids are one lower-case path segment.
    #[error(
        "{kind} id {text:?} must be 1 to 63 characters of a-z, 0-9 and '-', and start and end with a letter or digit"
    )]
    Segment {
        /// `stamp` or `tenant`.
        kind: &'static str,
        /// What was given, cut to 200 characters.
        text: String,
    },
    /// Device ids follow IoT Hub's rule.
    #[error(
        "device id {0:?} must be 1 to 128 ASCII letters, digits or - . + % _ # * ? ! ( ) , = @ $ ' :"
    )]
    Device(String),
    /// Partition ids are decimal numbers.
    #[error("partition id {0:?} must be a decimal number from 0 to 1023")]
    Partition(String),
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

fn is_segment(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= SEGMENT_CHARS_MAX
        && bytes.iter().all(|&b| alnum(b) || b == b'-')
        && alnum(bytes[0])
        && alnum(bytes[bytes.len() - 1])
}

macro_rules! segment_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Text);

        impl $name {
            /// Parses an id that is safe as one path segment.
            ///
            /// # Errors
            /// [`IdError::Segment`] for anything but 1 to 63 characters of `a-z`, `0-9` and `-`
            /// that starts and ends with a letter or digit. Upper case is refused, not folded, so
            /// that two spellings never mean one id.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if is_segment(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError::Segment { kind: $kind, text: cut(text) })
                }
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.to_string()
            }
        }
    };
}

segment_id!(
    /// A deployment stamp. One path segment.
    StampId,
    "stamp"
);
segment_id!(
    /// A tenant. One path segment: it names the tenant's storage root.
    TenantId,
    "tenant"
);

/// A device as IoT Hub names it. Case-sensitive, and **not** safe in a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Text);

impl DeviceId {
    /// Parses a device id by IoT Hub's rule, sharing the buffer of `text`.
    ///
    /// # Errors
    /// [`IdError::Device`] when empty, over 128 characters or outside IoT Hub's alphabet.
    pub fn parse(text: Text) -> Result<Self, IdError> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"-.+%_#*?!(),=@$':".contains(&b);
        if !text.is_empty() && text.len() <= DEVICE_ID_CHARS_MAX && text.bytes().all(ok) {
            Ok(Self(text))
        } else {
            Err(IdError::Device(cut(&text)))
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A partition of an Event Hub, 0 to 1,023.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(u32);

impl PartitionId {
    /// Parses Event Hubs' own spelling, a decimal number.
    ///
    /// # Errors
    /// [`IdError::Partition`] for anything else, a sign or a leading zero among it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError::Partition(cut(text));
        let canonical = text == "0" || !text.starts_with('0');
        if !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        let number = text.parse().map_err(|_| refuse())?;
        Self::new(number).ok_or_else(refuse)
    }

    /// The partition with this number; `None` above [`PARTITION_MAX`].
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (number <= PARTITION_MAX).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One Event Hub, told apart from an earlier hub of the same name by when it was created.
///
/// A hub that is deleted and made again starts its sequence numbers again; without the creation
/// time its first million events would look already written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HubIdentity {
    /// Fully qualified namespace in lower case, such as `contoso.servicebus.windows.net`.
    pub namespace: Text,
    /// Name of the hub, lower-cased as the Azure SDKs do for checkpoint blobs.
    pub hub: Text,
    /// When the hub was created, milliseconds since 1970 UTC, as `$management` tells.
    pub created_at_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_is_one_path_segment() {
        for good in ["a", "contoso", "fab-rikam-7", &"x".repeat(63)] {
            assert_eq!(TenantId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "A",
            "-a",
            "a-",
            "a b",
            "ä",
            "a.b",
            "a%2f",
            &"x".repeat(64),
        ] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_device_id_follows_the_hubs_alphabet() {
        for good in ["d", "Line-7:press#3", "a.b_c%d", &"x".repeat(128)] {
            assert!(DeviceId::parse(good.into()).is_ok(), "{good:?} was refused");
        }
        for bad in ["", "a/b", "a\\b", "a b", "ä", "a\0", &"x".repeat(129)] {
            assert!(DeviceId::parse(bad.into()).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_partition_has_one_spelling() {
        assert_eq!(PartitionId::parse("31").unwrap().number(), 31);
        for bad in ["", "-1", "+1", "01", "1024", "x", "99999999999"] {
            assert!(PartitionId::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
