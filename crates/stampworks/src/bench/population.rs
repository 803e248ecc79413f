//! Whose telemetry the input is: how many devices, of how many tenants, and how often they send.

use std::time::Duration;

use stamp_model::Text;

use crate::exit::Failure;

/// Consecutive devices that belong to one tenant, if it has that many: as many as a hub of the bench has
/// partitions at most, so that each tenant's devices are in all of them.
const BLOCK_MAX: u64 = 32;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Population {
    /// How often every device sends: a round of all devices takes this long.
    pub(crate) interval: Duration,
    /// At least as many as tenants.
    pub(crate) devices: u64,
    /// At least 1.
    pub(crate) tenants: u64,
}

impl Population {
    /// # Errors
    /// There are fewer devices than tenants.
    pub(crate) fn check(self) -> Result<(), Failure> {
        let Self {
            devices, tenants, ..
        } = self;
        if devices < tenants {
            let refusal = format!("{devices} devices cannot belong to {tenants} tenants");
            return Err(Failure::because(refusal));
        }
        Ok(())
    }

    fn tenant_of(self, device: u64) -> u64 {
        let block = (self.devices / self.tenants).clamp(1, BLOCK_MAX);
        device / block % self.tenants
    }

    /// The id of a device; with several tenants it begins with its tenant.
    pub(crate) fn device_id(self, device: u64) -> Text {
        let tenant = self.tenant_of(device);
        match self.tenants {
            1 => format!("device-{device:05}"),
            _ => format!("tenant-{tenant:04}-device-{device:05}"),
        }
        .into()
    }

    /// Which devices belong to a tenant, as the directory of a stamp writes it.
    pub(crate) fn pattern(self, tenant: u64) -> String {
        match self.tenants {
            1 => "device-*".to_owned(),
            _ => format!("tenant-{tenant:04}-device-*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn population(devices: u64, tenants: u64) -> Population {
        Population {
            interval: Duration::from_secs(10),
            devices,
            tenants,
        }
    }

    #[test]
    fn each_tenant_has_its_share_of_the_devices_in_every_partition() {
        let population = population(32_000, 1_000);
        let mut of_tenant: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for device in 0..population.devices {
            let tenant = population.tenant_of(device);
            let prefix = population.pattern(tenant);
            let prefix = prefix.strip_suffix('*').unwrap();
            assert!(population.device_id(device).starts_with(prefix));
            of_tenant.entry(tenant).or_default().insert(device % 32);
        }
        assert_eq!(of_tenant.len(), 1_000);
        assert!(of_tenant.values().all(|partitions| partitions.len() == 32));
    }

    #[test]
    fn fewer_devices_than_tenants_are_refused_with_both_numbers() {
        let refused = population(7, 8).check().unwrap_err().to_string();
        assert_eq!(refused, "7 devices cannot belong to 8 tenants");
        population(8, 8).check().unwrap();
    }
}
