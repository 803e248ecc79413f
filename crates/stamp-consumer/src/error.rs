//! What can go wrong in this service, by what a person does about it.

use std::path::PathBuf;

/// The configuration cannot be used. Exit code 3.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is missing, unreadable or too large.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The TOML does not parse, a key is unknown or a value has the wrong form.
    #[error("{path} is not a valid configuration")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, column and key.
        #[source]
        cause: Box<toml::de::Error>,
    },
    /// A tenant's schema is not valid.
    #[error("schema {path} of tenant {tenant} is not valid")]
    Schema {
        /// Which file.
        path: PathBuf,
        /// Whose.
        tenant: String,
        /// Key and reason.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value is out of range, or two values contradict.
    #[error("{key}: {why}")]
    Value {
        /// The key, such as `consumer.buffer-max`.
        key: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl ConfigError {
    /// A [`ConfigError::Value`].
    pub fn value(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Value {
            key: key.into(),
            why: why.into(),
        }
    }
}
