//! The section `[consumer.ownership]`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// How replicas of a stamp share the partitions of the hub, through blobs in the stamp's store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OwnershipConfig {
    /// How often a replica renews what it owns and looks at what the others do, 1 s to 10 min.
    /// Default 10 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["1s", "10m"]))]
    pub renew_every: Duration,
    /// How long an owner may go without renewing until the others take its partitions, at least
    /// twice `renew-every` and at most an hour. Default 60 s. Beside processors of another SDK it
    /// must also be at least twice *their* interval.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-duration" = ["2s", "1h"]))]
    pub expire_after: Duration,
    /// Name of this replica in the blobs, 1 to 128 printable ASCII characters. No two replicas may
    /// share one. Random when not given; a name that survives a restart, such as the pod's, lets a
    /// replica take up its partitions again at once after a crash.
    #[schemars(length(min = 1, max = 128))]
    pub owner_id: Option<String>,
}

impl Default for OwnershipConfig {
    fn default() -> Self {
        Self {
            renew_every: Duration::from_secs(10),
            expire_after: Duration::from_secs(60),
            owner_id: None,
        }
    }
}

impl OwnershipConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError::Value`] naming the key.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, why: String| {
            Err(ConfigError::value(format!("consumer.ownership.{key}"), why))
        };
        let (renew, expire) = (self.renew_every, self.expire_after);
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&renew) {
            return refuse("renew-every", format!("is {renew:?}; must be 1s to 10m"));
        }
        if expire < renew * 2 || expire > Duration::from_secs(3_600) {
            return refuse(
                "expire-after",
                format!(
                    "is {expire:?}; must be at least twice renew-every ({renew:?}), so that one \
                     late renewal loses nothing, and at most 1h"
                ),
            );
        }
        match &self.owner_id {
            Some(id)
                if !(1..=128).contains(&id.len())
                    || !id.bytes().all(|byte| (0x21..0x7f).contains(&byte)) =>
            {
                refuse(
                    "owner-id",
                    format!("is {id:?}; must be 1 to 128 printable ASCII characters"),
                )
            }
            _ => Ok(()),
        }
    }
}
