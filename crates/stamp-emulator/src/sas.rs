//! Shared access signatures: how devices and service programs prove who they are.
//!
//! What is signed is the `sr` value exactly as it stands in the token: Node signs it unencoded,
//! Python encoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

/// How far a client's clock may be behind (facts of the services: five minutes).
const SKEW_S: i64 = 300;

/// A token as received. Nothing in it is proven before [`SasToken::is_signed_by`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SasToken {
    resource: String,
    signature: Vec<u8>,
    expiry: String,
    policy: Option<String>,
}

impl SasToken {
    /// Reads `SharedAccessSignature sr=..&sig=..&se=..[&skn=..]`, fields in any order.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fields = text.trim().strip_prefix("SharedAccessSignature ")?;
        let (mut resource, mut signature, mut expiry, mut policy) = (None, None, None, None);
        for field in fields.split('&') {
            let (name, value) = field.split_once('=')?;
            match name {
                "sr" => resource = Some(value.to_owned()),
                "sig" => signature = STANDARD.decode(decode(value)?).ok(),
                "se" => expiry = Some(value.to_owned()),
                "skn" => policy = Some(decode(value)?).filter(|name| !name.is_empty()),
                _ => {}
            }
        }
        Some(Self {
            resource: resource?,
            signature: signature?,
            expiry: expiry?,
            policy,
        })
    }

    /// What the token opens, decoded.
    pub(crate) fn resource(&self) -> String {
        decode(&self.resource).unwrap_or_else(|| self.resource.clone())
    }

    /// The policy whose key signed it; none when a device's own key did.
    pub(crate) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// Whether it is over, by this clock in microseconds since 1970.
    pub(crate) fn is_expired(&self, now_us: i64) -> bool {
        let now_s = now_us.div_euclid(1_000_000);
        match self.expiry.parse::<i64>() {
            Ok(until_s) => until_s.saturating_add(SKEW_S) < now_s,
            Err(_) => true,
        }
    }

    /// Whether the key (base64) signed it.
    pub(crate) fn is_signed_by(&self, key: &str) -> bool {
        let signed = format!("{}\n{}", self.resource, self.expiry);
        hmac(key, signed.as_bytes()).is_some_and(|mac| mac.verify_slice(&self.signature).is_ok())
    }
}

/// The key of one device of an enrolment group: HMAC-SHA256 of its registration id with the group's
/// key, both base64. `None` when the group's key is not base64.
#[must_use]
pub fn derive_device_key(group_key: &str, registration_id: &str) -> Option<String> {
    let mac = hmac(group_key, registration_id.as_bytes())?;
    Some(STANDARD.encode(mac.finalize().into_bytes()))
}

fn hmac(key: &str, signed: &[u8]) -> Option<Hmac<Sha256>> {
    let key = STANDARD.decode(key).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(signed);
    Some(mac)
}

fn decode(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// A token as a client makes it, for a resource that is already written as it shall be signed.
#[cfg(test)]
pub(crate) fn sign(resource: &str, key: &str, expiry_s: i64, policy: Option<&str>) -> String {
    let signed = format!("{resource}\n{expiry_s}");
    let mac = hmac(key, signed.as_bytes()).unwrap();
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = signature.replace('+', "%2B").replace('/', "%2F");
    let signature = signature.replace('=', "%3D");
    let policy = policy.map(|name| format!("&skn={name}"));
    let policy = policy.unwrap_or_default();
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry_s}{policy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQ=";

    #[test]
    fn a_token_is_checked_over_the_resource_as_it_was_sent() {
        for resource in ["0neX/registrations/dev", "0neX%2Fregistrations%2Fdev"] {
            let token = SasToken::parse(&sign(resource, KEY, 1_000, Some("registration"))).unwrap();
            assert!(token.is_signed_by(KEY));
            assert!(!token.is_signed_by("b3RoZXItb3RoZXItb3RoZXI="));
            assert_eq!(token.resource(), "0neX/registrations/dev");
            assert_eq!(token.policy(), Some("registration"));
        }
    }

    #[test]
    fn another_expiry_breaks_the_signature_and_the_clock_may_be_five_minutes_off() {
        let text = sign("h", KEY, 1_000, None);
        let longer = SasToken::parse(&text.replace("se=1000", "se=9000")).unwrap();
        assert!(!longer.is_signed_by(KEY));
        let token = SasToken::parse(&text).unwrap();
        assert!(!token.is_expired(1_300_000_000));
        assert!(token.is_expired(1_301_000_000));
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in [
            "",
            "Bearer x",
            "SharedAccessSignature sr=a&sig=b",
            "SharedAccessSignature sr",
        ] {
            assert_eq!(SasToken::parse(text), None, "{text}");
        }
    }

    #[test]
    fn derived_keys_are_those_of_the_published_example() {
        let group = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
        assert_eq!(
            derive_device_key(group, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6").as_deref(),
            Some("Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=")
        );
        assert_eq!(derive_device_key("not base64!", "d"), None);
    }
}
