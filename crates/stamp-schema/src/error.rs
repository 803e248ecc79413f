//! Why a schema file is refused, with the place in the file.

use std::ops::Range;

/// A schema that cannot be used. Nothing of it takes effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The file is larger than [`SCHEMA_BYTES_MAX`](crate::SCHEMA_BYTES_MAX).
    #[error("the schema has {bytes} bytes; at most {max} are read")]
    TooLarge {
        /// Size of the file.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not TOML, an unknown key, or a value of the wrong TOML type.
    #[error("line {line}, column {column}: {message}")]
    Toml {
        /// Counts from 1.
        line: usize,
        /// Counts from 1, in characters.
        column: usize,
        /// What is wrong and what was expected.
        message: String,
    },
    /// Well-formed, but it breaks a rule of the schema language.
    #[error("line {line}, column {column}: {key}: {message}")]
    Invalid {
        /// Counts from 1.
        line: usize,
        /// Counts from 1, in characters.
        column: usize,
        /// The key, such as `fields[2].max`.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// Turns byte spans of one file into errors.
pub(crate) struct Places<'a>(pub(crate) &'a str);

impl Places<'_> {
    pub(crate) fn invalid(
        &self,
        span: &Range<usize>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> SchemaError {
        let (line, column) = self.locate(span.start);
        SchemaError::Invalid {
            line,
            column,
            key: key.into(),
            message: message.into(),
        }
    }

    pub(crate) fn toml(&self, error: &toml::de::Error) -> SchemaError {
        let start = error.span().map_or(0, |span| span.start);
        let (line, column) = self.locate(start);
        SchemaError::Toml {
            line,
            column,
            message: error.message().to_owned(),
        }
    }

    fn locate(&self, at: usize) -> (usize, usize) {
        let before = self.0.get(..at).unwrap_or(self.0);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }
}
