//! Shared access signatures: tokens that a key makes for one entity and a limited time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::Sha256;

use crate::config::Credential;

/// How long a token is good for.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// How long before its end a token is replaced. Leaves room for a few attempts of the caller.
const RENEWED_BEFORE_END: Duration = Duration::from_secs(600);

/// What stays as it is in the fields of a token (RFC 3986, unreserved).
const ESCAPED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A token for one entity. Has no `Debug`: its text is a secret.
pub(crate) struct Token {
    pub(crate) text: String,
    /// When it ends, for the hub. Unknown for a token that somebody else made.
    pub(crate) expires_at: Option<SystemTime>,
}

impl Token {
    /// How old a token gets before it is replaced.
    pub(crate) const RENEWED_AFTER: Duration = LIFETIME.saturating_sub(RENEWED_BEFORE_END);

    /// Makes a token for `audience`; `None` when there is no credential.
    pub(crate) fn make(credential: &Credential, audience: &str, now: SystemTime) -> Option<Self> {
        match credential {
            Credential::Absent => None,
            Credential::SharedSignature(text) => Some(Self {
                text: text.reveal().to_owned(),
                expires_at: None,
            }),
            Credential::SharedKey { name, key } => {
                let expires_at = now + LIFETIME;
                let expires_at_s = expires_at
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_secs();
                Some(Self {
                    text: sign(audience, name, key.reveal(), expires_at_s),
                    expires_at: Some(expires_at),
                })
            }
        }
    }

    /// When to replace it; `None` for one that we cannot make.
    pub(crate) fn renew_at(&self) -> Option<SystemTime> {
        self.expires_at.map(|end| end - RENEWED_BEFORE_END)
    }
}

/// `SharedAccessSignature sr=...&sig=...&se=...&skn=...`: the signature is the HMAC-SHA256 of the
/// escaped audience and the end in seconds since 1970, with the key's text as it stands (it is not
/// decoded from base64).
fn sign(audience: &str, key_name: &str, key: &str, expires_at_s: u64) -> String {
    let resource = escape(audience.as_bytes());
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{resource}\n{expires_at_s}").as_bytes());
    let signature = escape(STANDARD.encode(mac.finalize().into_bytes()).as_bytes());
    let key_name = escape(key_name.as_bytes());
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires_at_s}&skn={key_name}")
}

fn escape(bytes: &[u8]) -> String {
    percent_encode(bytes, &ESCAPED).to_string()
}

#[cfg(test)]
mod tests;
