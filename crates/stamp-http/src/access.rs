//! Who may ask: a key, as Azure Functions takes it, or a certificate.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Request;

/// Shortest key that is taken, in characters.
const KEY_CHARS_MIN: usize = 16;
/// Most keys: two while they are changed, for several callers.
const KEYS_MAX: usize = 32;
/// Largest file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Digests of the keys. What is compared is a digest, so that the time it takes says nothing of a
/// key.
type Keys = Vec<[u8; 32]>;

/// Who may ask. A certificate that `tls.client-ca` signed lets a caller in as well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AccessConfig {
    /// Environment variable with the keys, one a line: 16 characters or more each, at most 32.
    pub keys_env: Option<String>,
    /// File with the keys, as many and as long, relative to the configuration file. Read again when it
    /// changes.
    pub keys_file: Option<PathBuf>,
}

impl AccessConfig {
    /// Checks that somebody can be let in, and that there is one place of keys at most. `certified`
    /// says whether there is an authority of callers' certificates.
    ///
    /// # Errors
    /// [`AccessError::Value`] with the key.
    pub fn check(&self, certified: bool) -> Result<(), AccessError> {
        match (&self.keys_env, &self.keys_file) {
            (Some(_), Some(_)) => Err(AccessError::value(
                "access.keys-file",
                "access.keys-env is set too",
            )),
            (None, None) if !certified => Err(AccessError::value(
                "access",
                "nobody could be let in: set keys-env, keys-file or tls.client-ca",
            )),
            _ => Ok(()),
        }
    }
}

/// Why keys cannot be used. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file of keys is missing, unreadable or too large.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// What is there are no keys, or two settings contradict.
    #[error("{key}: {why}")]
    Value {
        /// The key of the configuration, such as `access.keys-file`.
        key: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl AccessError {
    fn value(key: &'static str, why: impl Into<String>) -> Self {
        Self::Value {
            key,
            why: why.into(),
        }
    }
}

/// The keys in force.
#[derive(Debug)]
pub struct Access {
    config: AccessConfig,
    keys: RwLock<Keys>,
}

impl Access {
    /// Reads the keys. Blocks.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn load(config: AccessConfig) -> Result<Self, AccessError> {
        let keys = RwLock::new(read(&config)?);
        Ok(Self { config, keys })
    }

    /// Reads the keys again; the ones before stay when they cannot be used. Blocks.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn reload(&self) -> Result<(), AccessError> {
        let keys = read(&self.config)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// What a caller who is not let in is told.
    pub const HINT: &str = "show a key in header x-functions-key or as `code` in the query, or a certificate of the client authority";

    /// Whether a caller is let in: by certificate, by header `x-functions-key`, or by `code` in the
    /// query, which is where DPS's `webhookUrl` can carry a key.
    #[must_use]
    pub fn lets_in(&self, request: &Request) -> bool {
        if request.is_certified {
            return true;
        }
        let of_query = request.query.as_deref().and_then(code);
        let of_header = request.header("x-functions-key").map(str::as_bytes);
        let shown = of_header.map(<[u8]>::to_vec).or(of_query);
        shown.is_some_and(|shown| {
            let digest: [u8; 32] = Sha256::digest(&shown).into();
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.contains(&digest)
        })
    }
}

fn code(query: &str) -> Option<Vec<u8>> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(name, _)| *name == "code");
    found.map(|(_, value)| percent_decode_str(value).collect())
}

fn read(config: &AccessConfig) -> Result<Keys, AccessError> {
    match (&config.keys_env, &config.keys_file) {
        (Some(name), _) => match std::env::var(name) {
            Ok(text) => digests("access.keys-env", &text),
            Err(error) => Err(AccessError::value(
                "access.keys-env",
                format!("{name}: {error}"),
            )),
        },
        (None, Some(path)) => digests("access.keys-file", &text(path)?),
        (None, None) => Ok(Keys::new()),
    }
}

fn text(path: &Path) -> Result<String, AccessError> {
    let refuse = |cause| AccessError::Read {
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
fn digests(key: &'static str, text: &str) -> Result<Keys, AccessError> {
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
            return Err(AccessError::value(key, why));
        }
        keys.push(Sha256::digest(line.as_bytes()).into());
    }
    match keys.len() {
        0 => Err(AccessError::value(key, "holds no key")),
        1..=KEYS_MAX => Ok(keys),
        count => Err(AccessError::value(
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
            assert!(access.lets_in(&good), "{good:?}");
        }
        for bad in [
            ask("/v1/allocate"),
            ask("/v1/allocate?code="),
            ask("/v1/allocate?code=a%2Bb"),
            ask("/v1/allocate?codes=another-key-that-is-long"),
            ask("/v1/allocate").with_header("x-functions-key", "A+b/c==0123456789"),
        ] {
            assert!(!access.lets_in(&bad), "{bad:?}");
        }
    }

    #[test]
    fn keys_that_cannot_be_used_leave_the_ones_before_in_force() {
        let (file, access) = access();
        let request = Request::new("GET", "/").with_header("x-functions-key", KEY);
        for bad in ["", "short\n", &format!("{KEY}\n").repeat(33)] {
            std::fs::write(file.path(), bad).unwrap();
            let error = access.reload().unwrap_err();
            assert!(!error.to_string().contains(KEY), "{error}");
            assert!(access.lets_in(&request));
        }
        std::fs::write(file.path(), "the-next-key-is-this-one").unwrap();
        access.reload().unwrap();
        assert!(!access.lets_in(&request));
    }
}
