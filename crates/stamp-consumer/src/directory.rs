//! Which tenant an event belongs to: the only place where that is decided.
//!
//! The answer rests on the device id that IoT Hub stamped. Bodies are never looked at, and a
//! property that a device can set is only ever used *against* an event, never for it.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use stamp_model::{DeviceId, Event, MessageSource, QuarantineReason, TenantId};

use crate::config::TenancyConfig;
use crate::error::ConfigError;

/// Most exact device entries over all tenants: a stamp serves up to a million devices.
const DEVICES_MAX: usize = 2_000_000;
/// Most prefixes over all tenants.
const PREFIXES_MAX: usize = 10_000;

/// Number of a tenant in the order of the configuration.
pub type TenantIndex = usize;

/// Where an event goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the tables of this tenant.
    Tenant(TenantIndex),
    /// To the stamp's quarantine.
    Quarantine {
        /// Why.
        reason: QuarantineReason,
        /// For a person.
        detail: String,
        /// The tenant that is claimed or known, if any.
        tenant: Option<String>,
    },
}

/// Device ids and prefixes to tenants.
#[derive(Debug)]
pub struct Directory {
    tenants: Vec<TenantId>,
    exact: HashMap<String, TenantIndex, RandomState>,
    /// By prefix; looked up from the longest length down.
    prefixes: HashMap<String, TenantIndex, RandomState>,
    /// Lengths that occur among the prefixes, longest first.
    lengths: Vec<usize>,
    enrichment: Option<String>,
    claim: Option<String>,
}

impl Directory {
    /// Builds the directory from each tenant's entries, in the order of the configuration.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when an entry is no device id or prefix, when two tenants have the
    /// same entry, or when there are over 2,000,000 devices or 10,000 prefixes.
    pub fn new(
        tenants: &[(TenantId, Vec<String>)],
        tenancy: &TenancyConfig,
    ) -> Result<Self, ConfigError> {
        let mut exact = HashMap::default();
        let mut prefixes = HashMap::default();
        for (index, (tenant, entries)) in tenants.iter().enumerate() {
            for entry in entries {
                let (text, map) = match entry.strip_suffix('*') {
                    Some(prefix) => (prefix, &mut prefixes),
                    None => (entry.as_str(), &mut exact),
                };
                check_entry(tenant, entry, text)?;
                if let Some(other) = map.insert(text.to_owned(), index)
                    && other != index
                {
                    return Err(ConfigError::value(
                        "tenants.devices",
                        format!(
                            "{entry:?} is listed for both {} and {tenant}",
                            tenants[other].0
                        ),
                    ));
                }
            }
        }
        if exact.len() > DEVICES_MAX || prefixes.len() > PREFIXES_MAX {
            return Err(ConfigError::value(
                "tenants.devices",
                format!(
                    "{} devices and {} prefixes; at most {DEVICES_MAX} and {PREFIXES_MAX}",
                    exact.len(),
                    prefixes.len()
                ),
            ));
        }
        let by_length: BTreeMap<usize, ()> =
            prefixes.keys().map(|p: &String| (p.len(), ())).collect();
        Ok(Self {
            tenants: tenants.iter().map(|(id, _)| id.clone()).collect(),
            exact,
            prefixes,
            lengths: by_length.into_keys().rev().collect(),
            enrichment: tenancy.enrichment.clone(),
            claim: tenancy.claim_property.clone(),
        })
    }

    /// The tenants, in the order of the configuration.
    #[must_use]
    pub fn tenants(&self) -> &[TenantId] {
        &self.tenants
    }

    /// Decides where `event` goes.
    #[must_use]
    pub fn route(&self, event: &Event) -> Route {
        if let MessageSource::Unknown(source) = &event.hub.source {
            let detail = format!("iothub-message-source {:?} is not known", cut(source));
            return quarantine(QuarantineReason::UnknownSource, detail, None);
        }
        let Some(device) = &event.hub.device_id else {
            let detail = "no iothub-connection-device-id annotation".to_owned();
            return quarantine(QuarantineReason::NoDevice, detail, None);
        };
        if let Err(error) = DeviceId::parse(device.clone()) {
            return quarantine(QuarantineReason::BadDeviceId, error.to_string(), None);
        }
        match (self.lookup(device), self.enriched(event)) {
            (Some(tenant), None) => self.against_claim(event, tenant),
            (None, Some(Ok(tenant))) => self.against_claim(event, tenant),
            (Some(tenant), Some(Ok(other))) if tenant == other => self.against_claim(event, tenant),
            (Some(tenant), Some(Ok(other))) => {
                self.mismatch(tenant, "enrichment", self.tenants[other].as_str())
            }
            (Some(tenant), Some(Err(text))) => self.mismatch(tenant, "enrichment", &text),
            (None, Some(Err(text))) => {
                let detail = format!("enrichment names {text:?}, no tenant of this stamp");
                quarantine(QuarantineReason::UnknownTenant, detail, Some(text))
            }
            (None, None) => {
                let detail = format!("device {device:?} is in no tenant's directory");
                let claimed = self
                    .claim
                    .as_ref()
                    .and_then(|key| property(event, key))
                    .map(cut);
                quarantine(QuarantineReason::UnknownTenant, detail, claimed)
            }
        }
    }

    fn lookup(&self, device: &str) -> Option<TenantIndex> {
        if let Some(&index) = self.exact.get(device) {
            return Some(index);
        }
        // Device ids are ASCII by now, so every length is a character boundary.
        let candidates = self
            .lengths
            .iter()
            .filter(|&&length| length <= device.len());
        candidates
            .filter_map(|&length| self.prefixes.get(&device[..length]))
            .copied()
            .next()
    }

    /// The tenant that the hub's own enrichment names: `Err` with the text when it is none of ours.
    /// An unmatched `$twin.tags.x` arrives as that very text, which no tenant id can equal.
    fn enriched(&self, event: &Event) -> Option<Result<TenantIndex, String>> {
        let text = property(event, self.enrichment.as_ref()?)?;
        let found = self
            .tenants
            .iter()
            .position(|tenant| tenant.as_str() == text);
        Some(found.ok_or_else(|| cut(text)))
    }

    fn against_claim(&self, event: &Event, tenant: TenantIndex) -> Route {
        match self.claim.as_ref().and_then(|key| property(event, key)) {
            Some(claim) if claim != self.tenants[tenant].as_str() => {
                self.mismatch(tenant, "the device", &cut(claim))
            }
            _ => Route::Tenant(tenant),
        }
    }

    fn mismatch(&self, tenant: TenantIndex, who: &str, claim: &str) -> Route {
        let known = &self.tenants[tenant];
        let detail = format!("the directory says {known}, {who} says {claim:?}");
        quarantine(
            QuarantineReason::TenantMismatch,
            detail,
            Some(known.to_string()),
        )
    }
}

fn quarantine(reason: QuarantineReason, detail: String, tenant: Option<String>) -> Route {
    Route::Quarantine {
        reason,
        detail,
        tenant,
    }
}

/// IoT Hub treats property names without regard to case.
fn property<'a>(event: &'a Event, key: &str) -> Option<&'a str> {
    event
        .properties
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(key))
        .map(|(_, value)| &**value)
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

fn check_entry(tenant: &TenantId, entry: &str, text: &str) -> Result<(), ConfigError> {
    DeviceId::parse(text.into()).map(|_| ()).map_err(|_| {
        ConfigError::value(
            "tenants.devices",
            format!(
                "{entry:?} of {tenant} is neither a device id nor a prefix with a '*' at its end"
            ),
        )
    })
}

#[cfg(test)]
mod tests;
