//! Reads one `[[tenants]]`.

use stamp_model::{DeviceId, StampId, TenantId};

use super::finding::Findings;
use super::section::Section;
use super::stamps::word;
use crate::fleet::{Environment, Kind, Placing, Quota, Ring, Tenant, TenantState};
use crate::load::{Axis, Load};

/// Rings of a tenant that does not say: not the first to get every change.
const RINGS_DEFAULT: [Ring; 2] = [Ring::General, Ring::Early];

/// The ranges of a quota, as the service of a stamp takes them.
const EVENTS_MAX: u64 = 1_000_000;
const BYTES_MIN: u64 = 1 << 10;
const BYTES_MAX: u64 = 1 << 30;
const DEVICES_MAX: u64 = 2_000_000;

pub(super) fn read(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Tenant> {
    let id = section.parsed("id", TenantId::parse, findings);
    let geographies = read_geographies(section, findings);
    let tier = section.optional_text("tier", findings);
    let state = section.word(
        "state",
        TenantState::NAMES,
        Some(TenantState::Active),
        findings,
    );
    let schema = section.text("schema", findings);
    let devices = read_devices(section, findings);
    let placing = read_placing(section, findings);
    let quota = read_quota(section, findings);
    let expected = read_expected(section, quota, findings);
    Some(Tenant {
        id: id?,
        geographies: geographies?,
        tier: tier?.unwrap_or_else(|| "standard".into()),
        state: state?,
        placing: placing?,
        schema: schema?,
        devices: devices?,
        quota: quota?,
        expected: expected?,
    })
}

fn read_geographies(
    section: &mut Section<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<Vec<String>> {
    let list = section.texts("geographies", findings)?;
    if list.is_empty() {
        let message = "is missing: name every geography the tenant's data may be in";
        section.error("geographies", message, findings);
        return None;
    }
    let wrong: Vec<String> = list.iter().filter_map(|text| word(text).err()).collect();
    for why in &wrong {
        section.error("geographies", why.as_str(), findings);
    }
    wrong.is_empty().then_some(list)
}

fn read_devices(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Vec<String>> {
    let list = section.texts("devices", findings)?;
    let wrong = list.iter().find_map(|entry| {
        let id = entry.strip_suffix('*').unwrap_or(entry);
        DeviceId::parse(if id.is_empty() { "-" } else { id }.into()).err()
    });
    if let Some(why) = &wrong {
        section.error("devices", why.to_string(), findings);
    }
    wrong.is_none().then_some(list)
}

fn read_placing(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Placing> {
    let stamps = section.texts("stamps", findings);
    let rule = section.section("placement", findings);
    let (Some(stamps), Some(mut rule)) = (stamps.clone(), rule) else {
        return match stamps? {
            _ if section.has("placement") => None,
            stamps if stamps.is_empty() => Some(Placing::Rule {
                kind: Kind::Shared,
                environment: Environment::Production,
                rings: RINGS_DEFAULT.to_vec(),
            }),
            stamps => read_pins(section, &stamps, findings),
        };
    };
    let kind = rule.word("kind", Kind::NAMES, Some(Kind::Shared), findings);
    let production = Some(Environment::Production);
    let environment = rule.word("environment", Environment::NAMES, production, findings);
    let rings = rule.texts("rings", findings);
    let rings = rings.and_then(|rings| read_rings(&rule, &rings, findings));
    section.close(rule, findings);
    if !stamps.is_empty() {
        section.error(
            "placement",
            "contradicts stamps: fixed stamps, or a rule",
            findings,
        );
        return None;
    }
    Some(Placing::Rule {
        kind: kind?,
        environment: environment?,
        rings: rings?,
    })
}

fn read_pins(
    section: &Section<'_, '_>,
    names: &[String],
    findings: &mut Findings<'_>,
) -> Option<Placing> {
    let parsed: Result<Vec<StampId>, _> = names.iter().map(|name| StampId::parse(name)).collect();
    match parsed {
        Ok(stamps) => Some(Placing::Stamps(stamps)),
        Err(why) => {
            section.error("stamps", why.to_string(), findings);
            None
        }
    }
}

fn read_rings(
    rule: &Section<'_, '_>,
    names: &[String],
    findings: &mut Findings<'_>,
) -> Option<Vec<Ring>> {
    if names.is_empty() {
        return Some(RINGS_DEFAULT.to_vec());
    }
    let mut rings = Vec::new();
    for name in names {
        match Ring::parse(name) {
            Some(ring) if rings.contains(&ring) => {
                rule.error("rings", format!("{ring} is there twice"), findings);
                return None;
            }
            Some(ring) => rings.push(ring),
            None => {
                let message = format!("{name:?} is no ring: canary, early or general");
                rule.error("rings", message, findings);
                return None;
            }
        }
    }
    Some(rings)
}

fn read_quota(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Quota> {
    let Some(mut quota) = section.section("quota", findings) else {
        return (!section.has("quota")).then(Quota::default);
    };
    let events_per_second = quota.size("events-per-second", findings);
    let bytes_per_second = quota.size("bytes-per-second", findings);
    let devices_max = quota.size("devices-max", findings);
    section.close(quota, findings);
    let quota = Quota {
        events_per_second: events_per_second?,
        bytes_per_second: bytes_per_second?,
        devices_max: devices_max?,
    };
    let mut good = true;
    for (key, value, low, high) in [
        ("events-per-second", quota.events_per_second, 1, EVENTS_MAX),
        (
            "bytes-per-second",
            quota.bytes_per_second,
            BYTES_MIN,
            BYTES_MAX,
        ),
        ("devices-max", quota.devices_max, 1, DEVICES_MAX),
    ] {
        if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
            let message = format!("is {value}; must be {low} to {high}");
            section.error(&format!("quota.{key}"), message, findings);
            good = false;
        }
    }
    good.then_some(quota)
}

fn read_expected(
    section: &mut Section<'_, '_>,
    quota: Option<Quota>,
    findings: &mut Findings<'_>,
) -> Option<Load> {
    let mut load = Load::ZERO.with(Axis::Tenants, 1);
    let Some(mut expected) = section.section("expected", findings) else {
        return (!section.has("expected")).then_some(load);
    };
    let mut good = true;
    for axis in Axis::ALL.into_iter().filter(|axis| *axis != Axis::Tenants) {
        match expected.size(axis.as_str(), findings) {
            Some(amount) => load[axis] = amount.unwrap_or(0),
            None => good = false,
        }
    }
    section.close(expected, findings);
    let quota = quota.unwrap_or_default();
    for (axis, quota) in [
        (Axis::Devices, quota.devices_max),
        (Axis::EventsPerSecond, quota.events_per_second),
        (Axis::BytesPerSecond, quota.bytes_per_second),
    ] {
        if let Some(quota) = quota.filter(|quota| load[axis] > *quota) {
            let message = format!("is {}; the tenant's quota is {quota}", load[axis]);
            section.error(&format!("expected.{axis}"), message, findings);
            good = false;
        }
    }
    good.then_some(load)
}
