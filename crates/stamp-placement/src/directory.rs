//! Which tenant a device belongs to, by the entries of the catalogue.

use std::collections::{BTreeMap, BTreeSet};

use stamp_model::{DeviceId, TenantId};

use crate::fleet::Fleet;

/// Device ids and prefixes of all tenants. An exact id wins over any prefix, of prefixes the
/// longest: the same rule that a stamp's service follows.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    exact: BTreeMap<String, TenantId>,
    prefixes: BTreeMap<String, TenantId>,
    /// Lengths that occur among the prefixes.
    lengths: BTreeSet<usize>,
}

impl Directory {
    /// The directory of a fleet. Of two tenants with the same entry the first one by id has it.
    #[must_use]
    pub fn new(fleet: &Fleet) -> Self {
        let mut directory = Self::default();
        for tenant in fleet.tenants() {
            for entry in &tenant.devices {
                let (text, entries) = match entry.strip_suffix('*') {
                    Some(prefix) => (prefix, &mut directory.prefixes),
                    None => (entry.as_str(), &mut directory.exact),
                };
                let taken = entries.entry(text.to_owned());
                taken.or_insert_with(|| tenant.id.clone());
            }
        }
        directory.lengths = directory.prefixes.keys().map(String::len).collect();
        directory
    }

    /// The tenant of a device, when an entry has it.
    #[must_use]
    pub fn tenant_of(&self, device: &DeviceId) -> Option<&TenantId> {
        let device = device.as_str();
        if let Some(tenant) = self.exact.get(device) {
            return Some(tenant);
        }
        // Device ids are ASCII, so every length is a character boundary.
        let lengths = self.lengths.range(..=device.len()).rev();
        let mut found = lengths.filter_map(|&length| self.prefixes.get(&device[..length]));
        found.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Source, read};

    #[test]
    fn an_exact_id_wins_over_prefixes_and_the_longest_prefix_over_shorter_ones() {
        let tenant = |id: &str, devices: &str| {
            format!(
                "[[tenants]]\nid = \"{id}\"\ngeographies = [\"europe\"]\ntier = \"basic\"\n\
                 schema = \"s.toml\"\ndevices = [{devices}]\n\n"
            )
        };
        let text = format!(
            "version = 1\n\n{}{}{}",
            tenant("all", "\"press-*\""),
            tenant("some", "\"press-7*\", \"valve-1\""),
            tenant("one", "\"press-70\"")
        );
        let source = Source {
            name: "fleet.toml",
            text: &text,
        };
        let fleet = read(&[source]).unwrap().fleet;
        let directory = Directory::new(&fleet);
        let of = |device: &str| {
            let device = DeviceId::parse(device.into()).unwrap();
            directory.tenant_of(&device).map(TenantId::as_str)
        };
        assert_eq!(of("press-1"), Some("all"));
        assert_eq!(of("press-71"), Some("some"));
        assert_eq!(of("press-70"), Some("one"));
        assert_eq!(of("press-"), Some("all"));
        assert_eq!(of("valve-1"), Some("some"));
        assert_eq!(of("valve-10"), None);
        assert_eq!(of("p"), None);
    }
}
