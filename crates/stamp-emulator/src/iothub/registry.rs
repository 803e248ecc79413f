//! The devices of a hub, and what may be done with them. No I/O, no clock of its own.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::config::Sku;
use super::device::{Authentication, Device, Wish, check_id};
use super::error::HubError;
use super::twin::{Change, Twin};
use crate::time;

/// The devices by id; ids are case-sensitive.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    devices: BTreeMap<String, Device>,
    /// The latest generation id: each registration has a later one.
    generation: i64,
    /// Grows with each change: ETags are made of it.
    changes: u64,
}

/// Which version of a device a change is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match<'a> {
    Any,
    ETag(&'a str),
}

impl<'a> Match<'a> {
    pub(crate) fn new(etag: &'a str) -> Self {
        let etag = etag.trim_matches('"');
        if matches!(etag, "*" | "") {
            Self::Any
        } else {
            Self::ETag(etag)
        }
    }

    fn accepts(self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::ETag(wanted) => wanted == etag,
        }
    }
}

impl Registry {
    pub(crate) fn get(&self, id: &str) -> Result<&Device, HubError> {
        self.devices.get(id).ok_or_else(|| HubError::not_found(id))
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Result<&mut Device, HubError> {
        let found = self.devices.get_mut(id);
        found.ok_or_else(|| HubError::not_found(id))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.devices.len()
    }

    /// Registers a device.
    pub(crate) fn create(
        &mut self,
        host: &str,
        id: &str,
        wish: Wish,
        twin: &Change,
        now_us: i64,
    ) -> Result<&Device, HubError> {
        check_id(id)?;
        if self.devices.contains_key(id) {
            return Err(HubError::exists(id));
        }
        if self.devices.len() >= Sku::DEVICES_MAX {
            return Err(HubError::too_many_devices(Sku::DEVICES_MAX));
        }
        let twin = Twin::new(
            clean(twin.tags.as_ref()),
            clean(twin.desired.as_ref()),
            now_us,
        );
        twin.check()?;
        self.generation = time::ticks(now_us).max(self.generation + 1);
        self.changes += 1;
        let generation = self.generation.to_string();
        let authentication = wish.authentication;
        let device = Device {
            id: id.to_owned(),
            authentication: authentication
                .unwrap_or_else(|| Authentication::generate(host, id, &generation)),
            generation,
            etag: self.changes,
            disabled: wish.disabled,
            status_reason: wish.status_reason,
            status_at_us: None,
            edge: wish.edge,
            connected: false,
            connection_at_us: None,
            active_at_us: None,
            connection_events: 0,
            twin,
        };
        Ok(self.devices.entry(id.to_owned()).or_insert(device))
    }

    /// Changes an identity; its twin and generation stay.
    pub(crate) fn update(
        &mut self,
        id: &str,
        wish: Wish,
        only: Match<'_>,
        now_us: i64,
    ) -> Result<&Device, HubError> {
        self.changes += 1;
        let changes = self.changes;
        let device = self.get_mut(id)?;
        if !only.accepts(&device.etag_text()) {
            return Err(HubError::etag(id));
        }
        if device.disabled != wish.disabled {
            device.status_at_us = Some(now_us);
        }
        device.disabled = wish.disabled;
        device.status_reason = wish.status_reason;
        device.edge = wish.edge;
        device.etag = changes;
        if let Some(authentication) = wish.authentication {
            device.authentication = authentication;
        }
        Ok(device)
    }

    pub(crate) fn delete(&mut self, id: &str, only: Match<'_>) -> Result<Device, HubError> {
        let device = self.get(id)?;
        if !only.accepts(&device.etag_text()) {
            return Err(HubError::etag(id));
        }
        self.devices
            .remove(id)
            .ok_or_else(|| HubError::not_found(id))
    }

    /// Changes tags and desired properties.
    pub(crate) fn change_twin(
        &mut self,
        id: &str,
        change: &Change,
        replace: bool,
        only: Match<'_>,
        now_us: i64,
    ) -> Result<&Device, HubError> {
        let device = self.get_mut(id)?;
        if !only.accepts(&device.twin_etag_text()) {
            return Err(HubError::etag(id));
        }
        let mut twin = device.twin.clone();
        twin.change(change, replace, now_us);
        twin.check()?;
        device.twin = twin;
        Ok(device)
    }
}

/// Without members that a patch would take away.
fn clean(map: Option<&Map<String, Value>>) -> Map<String, Value> {
    let Some(map) = map else { return Map::new() };
    let set = map.iter().filter(|(_, value)| !value.is_null());
    set.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let wish = Wish::parse(&json!({})).unwrap();
        registry
            .create("h", "d", wish, &Change::default(), 5)
            .unwrap();
        registry
    }

    #[test]
    fn a_device_that_is_registered_again_has_another_generation_and_other_keys() {
        let mut registry = registry();
        let before = registry.delete("d", Match::Any).unwrap();
        let wish = Wish::parse(&json!({})).unwrap();
        let after = registry
            .create("h", "d", wish, &Change::default(), 5)
            .unwrap();
        assert_ne!(after.generation, before.generation);
        assert_ne!(after.authentication, before.authentication);
        assert_ne!(after.etag_text(), before.etag_text());
    }

    #[test]
    fn an_old_etag_changes_nothing() {
        let mut registry = registry();
        let etag = registry.get("d").unwrap().etag_text();
        let off = Wish::parse(&json!({"status": "disabled"})).unwrap();
        registry
            .update("d", off.clone(), Match::ETag(&etag), 9)
            .unwrap();
        let refused = registry
            .update("d", off, Match::ETag(&etag), 9)
            .unwrap_err();
        assert_eq!(refused.status, 412);
        assert_eq!(
            registry.delete("d", Match::ETag(&etag)).unwrap_err().status,
            412
        );
        assert_eq!(registry.get("d").unwrap().status_at_us, Some(9));
    }

    #[test]
    fn ids_are_case_sensitive_and_unique() {
        let mut registry = registry();
        let wish = || Wish::parse(&json!({})).unwrap();
        let twin = Change::default();
        assert_eq!(
            registry
                .create("h", "d", wish(), &twin, 6)
                .unwrap_err()
                .code,
            409_001
        );
        assert!(registry.create("h", "D", wish(), &twin, 6).is_ok());
        assert_eq!(registry.get("x").unwrap_err().code, 404_001);
        assert_eq!(registry.len(), 2);
    }
}
