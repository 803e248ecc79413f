//! What this provisioner knows without asking: where tenants are, what is used of each stamp, and the
//! devices it has seen of late.

use std::collections::{BTreeMap, HashMap};

use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::{Environment, Load};

use crate::decide::Used;

/// Devices of one generation. The last two are kept, some 100 bytes a device.
const DEVICES_MAX: usize = 250_000;

/// Where somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) tenant: TenantId,
    pub(crate) stamp: StampId,
    /// The stamp it is leaving.
    pub(crate) leaving: Option<StampId>,
    /// When that was decided, in microseconds since 1970.
    pub(crate) since_us: i64,
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    homes: BTreeMap<(TenantId, Environment), Known>,
    devices: HashMap<DeviceId, Known>,
    older: HashMap<DeviceId, Known>,
    used: Used,
}

impl Memory {
    pub(crate) fn home(&self, tenant: &TenantId, environment: Environment) -> Option<&Known> {
        self.homes.get(&(tenant.clone(), environment))
    }

    pub(crate) fn home_is(&mut self, tenant: TenantId, environment: Environment, known: Known) {
        self.homes.insert((tenant, environment), known);
    }

    /// Every home there is; what is not among them is none any more.
    pub(crate) fn homes_are(&mut self, homes: BTreeMap<(TenantId, Environment), Known>) {
        self.homes = homes;
    }

    pub(crate) fn device(&self, device: &DeviceId) -> Option<&Known> {
        self.devices.get(device).or_else(|| self.older.get(device))
    }

    pub(crate) fn device_is(&mut self, device: DeviceId, known: Known) {
        if self.devices.len() >= DEVICES_MAX && !self.devices.contains_key(&device) {
            self.older = std::mem::take(&mut self.devices);
        }
        self.devices.insert(device, known);
    }

    pub(crate) fn used(&self) -> &Used {
        &self.used
    }

    pub(crate) fn used_is(&mut self, used: Used) {
        self.used = used;
    }

    /// Somebody was booked, so that the next one is not sent after it before the next look.
    pub(crate) fn took(&mut self, stamp: &StampId, load: Load) {
        let used = self.used.entry(stamp.clone()).or_default();
        *used = used.plus(load);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_of_late_are_remembered_and_their_number_is_bounded() {
        let mut memory = Memory::default();
        let device = |n: usize| DeviceId::parse(format!("d-{n}").into()).unwrap();
        let known = Known {
            tenant: TenantId::parse("contoso").unwrap(),
            stamp: StampId::parse("weu-1").unwrap(),
            leaving: None,
            since_us: 1,
        };
        for n in 0..2 * DEVICES_MAX + 1 {
            memory.device_is(device(n), known.clone());
        }
        assert_eq!(memory.device(&device(2 * DEVICES_MAX)), Some(&known));
        assert_eq!(memory.device(&device(DEVICES_MAX)), Some(&known));
        assert_eq!(memory.device(&device(0)), None);
        assert!(memory.devices.len() + memory.older.len() <= 2 * DEVICES_MAX);
    }
}
