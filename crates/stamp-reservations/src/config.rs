//! Where the database is.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ReservationsError;

/// Most connections that may be configured: the provisioner is quick, so a few are enough.
const CONNECTIONS_MAX: usize = 64;

/// Section `[reservations]`.
///
/// ```toml
/// [reservations]
/// url = "sqlite:/var/lib/stampworks/fleet.db"   # or "postgres://user@host:5432/fleet?sslmode=verify-full"
/// # password-env = "FLEET_PASSWORD"             # or password-file; PostgreSQL only
/// connections-max = 4
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReservationsConfig {
    /// `sqlite:` and a path, or `postgres://user@host:port/database`, never with a password.
    pub url: String,
    /// Environment variable that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// File that holds the password; one line end after it is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Connections to PostgreSQL, 1 to 64. SQLite has one.
    #[serde(default = "connections_max")]
    #[schemars(range(min = 1, max = 64))]
    pub connections_max: usize,
}

fn connections_max() -> usize {
    4
}

/// A checked place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    /// The URL without a password, and the password.
    Postgres(String, Option<String>),
}

impl ReservationsConfig {
    /// The database at `url`, everything else by default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_env: None,
            password_file: None,
            connections_max: connections_max(),
        }
    }

    /// Makes the paths in it, which are relative to the folder of its file, relative to where we are.
    pub fn rebase(&mut self, folder: &Path) {
        if let Some(file) = &mut self.password_file {
            *file = folder.join(&*file);
        }
        if let Some(file) = self.url.strip_prefix("sqlite:").filter(|f| !f.is_empty()) {
            self.url = format!("sqlite:{}", folder.join(file).display());
        }
    }

    /// Checks everything that needs neither the database nor the secret.
    ///
    /// # Errors
    /// [`ReservationsError::Config`] with the key and what it should be.
    pub fn check(&self) -> Result<(), ReservationsError> {
        if self.connections_max == 0 || self.connections_max > CONNECTIONS_MAX {
            return Err(wrong(
                "connections-max",
                format!("must be 1 to {CONNECTIONS_MAX}"),
            ));
        }
        if let Some(path) = self.url.strip_prefix("sqlite:") {
            if path.is_empty() || path.contains('?') {
                return Err(wrong("url", "must be `sqlite:` and a path"));
            }
            if self.password_env.is_some() || self.password_file.is_some() {
                return Err(wrong("password-env", "SQLite has no password"));
            }
            return Ok(());
        }
        let rest = self
            .url
            .strip_prefix("postgres://")
            .or_else(|| self.url.strip_prefix("postgresql://"))
            .ok_or_else(|| wrong("url", "must begin with `sqlite:` or `postgres://`"))?;
        let user = rest.split_once('@').map_or("", |(user, _)| user);
        if user.contains(':') || rest.contains("password=") {
            // Not repeated here: it is a secret.
            return Err(wrong(
                "url",
                "must not hold a password; use password-env or password-file",
            ));
        }
        if self.password_env.is_some() && self.password_file.is_some() {
            return Err(wrong("password-file", "password-env is set too"));
        }
        Ok(())
    }

    /// The checked place, with the secret, which is read now.
    pub(crate) fn place(&self) -> Result<Place, ReservationsError> {
        self.check()?;
        match self.url.strip_prefix("sqlite:") {
            Some(path) => Ok(Place::Sqlite(path.into())),
            None => Ok(Place::Postgres(self.url.clone(), self.password()?)),
        }
    }

    fn password(&self) -> Result<Option<String>, ReservationsError> {
        match (&self.password_env, &self.password_file) {
            (None, None) => Ok(None),
            (Some(name), _) => match std::env::var(name) {
                Ok(password) => Ok(Some(password)),
                Err(error) => Err(wrong("password-env", format!("{name}: {error}"))),
            },
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => {
                    let line = text.strip_suffix('\n').unwrap_or(&text);
                    Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
                }
                Err(error) => Err(wrong(
                    "password-file",
                    format!("{}: {error}", path.display()),
                )),
            },
        }
    }
}

fn wrong(key: &'static str, reason: impl Into<String>) -> ReservationsError {
    ReservationsError::Config {
        key,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_named_and_no_secret_is_repeated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with = |url: &str| ReservationsConfig::new(url);
        for (config, key) in [
            (with("mysql://x"), "url"),
            (with("sqlite:"), "url"),
            (with("sqlite:a?mode=rw"), "url"),
            (with("postgres://me:secret@host/db"), "url"),
            (with("postgres://me@host/db?password=secret"), "url"),
            (
                ReservationsConfig {
                    connections_max: 0,
                    ..with("sqlite:a")
                },
                "connections-max",
            ),
            (
                ReservationsConfig {
                    password_env: Some("A_VARIABLE_NOBODY_HAS".into()),
                    ..with("postgres://me@host/db")
                },
                "password-env",
            ),
            (
                ReservationsConfig {
                    password_env: Some("HOME".into()),
                    password_file: Some(file.path().into()),
                    ..with("postgres://me@host/db")
                },
                "password-file",
            ),
        ] {
            let error = config.check().and_then(|()| config.place()).unwrap_err();
            assert!(
                matches!(&error, ReservationsError::Config { key: found, .. } if *found == key),
                "{error}"
            );
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "p w\n").unwrap();
        let config = ReservationsConfig {
            password_file: Some(file.path().into()),
            ..ReservationsConfig::new("postgres://me@host/db")
        };
        let place = Place::Postgres("postgres://me@host/db".into(), Some("p w".into()));
        assert_eq!(config.place().unwrap(), place);
    }
}
