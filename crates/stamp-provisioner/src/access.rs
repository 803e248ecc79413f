//! Who may ask: a key, as Azure Functions takes it, or a certificate.

use std::path::Path;
use std::sync::{PoisonError, RwLock};

use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use stamp_http::Request;

use crate::config::AccessConfig;
use crate::{ConfigError, Reason, Refused};

/// Shortest key that is taken, in characters.
const KEY_CHARS_MIN: usize = 16;
/// Most keys: two while they are changed, for several callers.
const KEYS_MAX: usize = 32;
/// Largest file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Digests of the keys. What is compared is a digest, so that the time it takes says nothing of a
/// key.
type Keys = Vec<[u8; 32]>;

/// The keys in force.
#[derive(Debug)]
pub(crate) struct Access {
    config: AccessConfig,
    keys: RwLock<Keys>,
}

impl Access {
    /// Reads the keys. Blocks.
    pub(crate) fn load(config: AccessConfig) -> Result<Self, ConfigError> {
        let keys = RwLock::new(read(&config)?);
        Ok(Self { config, keys })
    }

    /// Reads the keys again; the ones before stay when they cannot be used. Blocks.
    pub(crate) fn reload(&self) -> Result<(), ConfigError> {
        let keys = read(&self.config)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Lets a caller in: by certificate, by header `x-functions-key`, or by `code` in the query, which
    /// is where DPS's `webhookUrl` can carry a key.
    ///
    /// # Errors
    /// `unauthorized`.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Refused> {
        if request.is_certified {
            return Ok(());
        }
        let of_query = request.query.as_deref().and_then(code);
        let of_header = request.header("x-functions-key").map(str::as_bytes);
        let shown = of_header.map(<[u8]>::to_vec).or(of_query);
        let is_known = shown.is_some_and(|shown| {
            let digest: [u8; 32] = Sha256::digest(&shown).into();
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.contains(&digest)
        });
        if is_known {
            return Ok(());
        }
        let message = "show a key in header x-functions-key or as `code` in the query, or a \
                       certificate of the client authority";
        Err(Refused::new(Reason::Unauthorized, message))
    }
}

fn code(query: &str) -> Option<Vec<u8>> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(name, _)| *name == "code");
    found.map(|(_, value)| percent_decode_str(value).collect())
}

fn read(config: &AccessConfig) -> Result<Keys, ConfigError> {
    match (&config.keys_env, &config.keys_file) {
        (Some(name), _) => match std::env::var(name) {
            Ok(text) => digests("access.keys-env", &text),
            Err(error) => Err(ConfigError::value(
                "access.keys-env",
                format!("{name}: {error}"),
            )),
        },
        (None, Some(path)) => digests("access.keys-file", &text(path)?),
        (None, None) => Ok(Keys::new()),
    }
}

fn text(path: &Path) -> Result<String, ConfigError> {
    let refuse = |cause| ConfigError::Read {
        path: path.to_owned(),
        cause,
    };
    let size = std::fs::metadata(path).map_err(refuse)?.len();
    if size > FILE_BYTES_MAX {
        let cause = format!("{size} bytes; at most {FILE_BYTES_MAX}");
        return Err(refuse(std::io::Error::other(cause)));
    }
    std::fs::read_to_string(path).map_err(refuse)
}

/// One key a line; empty lines are left out.
fn digests(key: &str, text: &str) -> Result<Keys, ConfigError> {
    let mut keys = Keys::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if line.chars().count() < KEY_CHARS_MIN {
            let why = format!(
                "line {}: a key has at least {KEY_CHARS_MIN} characters",
                index + 1
            );
            return Err(ConfigError::value(key, why));
        }
        keys.push(Sha256::digest(line.as_bytes()).into());
    }
    match keys.len() {
        0 => Err(ConfigError::value(key, "holds no key")),
        1..=KEYS_MAX => Ok(keys),
        count => Err(ConfigError::value(
            key,
            format!("{count} keys; at most {KEYS_MAX}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a+b/c==0123456789";

    fn access() -> (tempfile::NamedTempFile, Access) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{KEY}\n\nanother-key-that-is-long\n")).unwrap();
        let config = AccessConfig {
            keys_env: None,
            keys_file: Some(file.path().into()),
        };
        let access = Access::load(config).unwrap();
        (file, access)
    }

    #[test]
    fn a_key_lets_in_as_header_and_as_code_and_a_certificate_without_one() {
        let (_file, access) = access();
        let ask = |target: &str| Request::new("POST", target);
        let mut certified = ask("/v1/allocate");
        certified.is_certified = true;
        for good in [
            ask("/v1/allocate").with_header("x-functions-key", KEY),
            ask("/v1/allocate?a=b&code=a%2Bb%2Fc%3D%3D0123456789"),
            ask("/v1/allocate?code=another-key-that-is-long"),
            certified,
        ] {
            access.check(&good).unwrap();
        }
        for bad in [
            ask("/v1/allocate"),
            ask("/v1/allocate?code="),
            ask("/v1/allocate?code=a%2Bb"),
            ask("/v1/allocate?codes=another-key-that-is-long"),
            ask("/v1/allocate").with_header("x-functions-key", "A+b/c==0123456789"),
        ] {
            let refused = access.check(&bad).unwrap_err();
            assert_eq!(refused.reason, Reason::Unauthorized);
            assert!(!refused.message.contains(KEY));
        }
    }

    #[test]
    fn keys_that_cannot_be_used_leave_the_ones_before_in_force() {
        let (file, access) = access();
        let request = Request::new("GET", "/").with_header("x-functions-key", KEY);
        for bad in ["", "short\n", &format!("{KEY}\n").repeat(33)] {
            std::fs::write(file.path(), bad).unwrap();
            access.reload().unwrap_err();
            access.check(&request).unwrap();
        }
        std::fs::write(file.path(), "the-next-key-is-this-one").unwrap();
        access.reload().unwrap();
        access.check(&request).unwrap_err();
    }
}
