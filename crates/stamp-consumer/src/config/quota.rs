//! The key `quota` of a tenant.

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// Most devices that a quota may allow: a stamp serves up to a million.
const DEVICES_MAX: u32 = 2_000_000;

/// What a tenant may send. What is over goes to quarantine (`over_quota`), never away. Each part may
/// be left out. A process that reads k of the hub's n partitions grants k/n of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct QuotaConfig {
    /// Events a second, on average over each minute of the hub's enqueued time, 1 to 1,000,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub events_per_second: Option<u64>,
    /// Bytes of bodies a second, on average over each such minute, 1 KiB to 1 GiB.
    #[serde(serialize_with = "super::size::print_optional")]
    #[schemars(with = "Option<String>", extend("x-size" = ["1KiB", "1GiB"]))]
    pub bytes_per_second: Option<ByteSize>,
    /// Distinct devices in a UTC day of the enqueued time, 1 to 2,000,000. The first ones are in.
    #[schemars(range(min = 1, max = DEVICES_MAX))]
    pub devices_max: Option<u32>,
}

impl QuotaConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError::Value`] naming the key and the tenant.
    pub(super) fn check(&self, tenant: &str) -> Result<(), ConfigError> {
        let range = |key: &str, value: Option<u64>, low: u64, high: u64| match value {
            Some(value) if !(low..=high).contains(&value) => Err(ConfigError::value(
                format!("tenants.quota.{key} of {tenant}"),
                format!("is {value}; must be {low} to {high}"),
            )),
            _ => Ok(()),
        };
        let bytes = self.bytes_per_second.map(|size| size.as_u64());
        range("events-per-second", self.events_per_second, 1, 1_000_000)?;
        range("bytes-per-second", bytes, 1 << 10, 1 << 30)?;
        let devices = self.devices_max.map(u64::from);
        range("devices-max", devices, 1, u64::from(DEVICES_MAX))
    }
}
