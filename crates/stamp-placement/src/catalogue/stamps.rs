//! Reads one `[[stamps]]`.

use stamp_model::{StampId, TenantId};

use super::finding::Findings;
use super::section::Section;
use crate::fleet::{Environment, EventHub, IotHub, Kind, Ring, Service, Stamp, StampState};
use crate::load::{Axis, Capacity, Limit};
use crate::sku::{EventHubTier, IotHubTier};

/// The soft limit, in percent of the hard one, where only the hard one is given.
const SOFT_PERCENT: u64 = 80;
/// Most processes of a stamp: one a partition of the largest hub.
const REPLICAS_MAX: u64 = 1_024;

/// Least memory of a process: below it, what is taken beside the buffer leaves none for it.
const MEMORY_MIN: u64 = 256 << 20;

/// Limits of one stamp as written: the hard one and the soft one.
type Written = (Option<u64>, Option<u64>);

pub(super) fn read(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Stamp> {
    let id = section.parsed("id", StampId::parse, findings);
    let region = section.parsed("region", word, findings);
    let geography = section.parsed("geography", word, findings);
    let kind = section.word("kind", Kind::NAMES, None, findings);
    let dedicated_to = read_dedicated(section, kind, findings);
    let environment = section.word("environment", Environment::NAMES, None, findings);
    let ring = section.word("ring", Ring::NAMES, None, findings);
    let version = section.parsed("version", version, findings);
    let state = section.word(
        "state",
        StampState::NAMES,
        Some(StampState::Active),
        findings,
    );
    let storage_root = section.parsed("storage-root", storage_root, findings);
    let tenant_containers = section.flag("tenant-containers", findings);
    let metrics = read_metrics(section, findings);
    let iot_hub = read_iot_hub(section, findings);
    let event_hub = read_event_hub(section, findings);
    let partitions = event_hub.as_ref().map(|hub| hub.partitions);
    let service = read_service(section, partitions, findings);
    let written = read_capacity(section, findings);

    let (iot_hub, event_hub) = (iot_hub?, event_hub?);
    let kind = kind?;
    let capacity = capacity(section, written?, kind, &iot_hub, &event_hub, findings)?;
    Some(Stamp {
        id: id?,
        region: region?,
        geography: geography?,
        kind,
        dedicated_to: dedicated_to?,
        environment: environment?,
        ring: ring?,
        version: version?,
        state: state?,
        iot_hub,
        event_hub,
        storage_root: storage_root?,
        tenant_containers: tenant_containers?,
        metrics: metrics?,
        capacity,
        service: service?,
    })
}

/// Regions and geographies: what two places spell alike must be one spelling.
pub(super) fn word(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.len() <= 63 && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} must be 1 to 63 characters of a-z, 0-9 and '-'"
        ))
    }
}

/// Parses the version of a stamp's service, which is a tag of a container image.
///
/// # Errors
/// A sentence when it is no tag: 1 to 128 letters, digits, `.`, `_` and `-`.
pub fn version(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let start = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if start && text.len() <= 128 && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no image tag: 1 to 128 letters, digits, '.', '_' and '-'"
        ))
    }
}

fn host(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if lower.len() <= 253 && lower.split('.').all(label) {
        Ok(lower)
    } else {
        Err(format!("{text:?} is no host name"))
    }
}

fn hub_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.len() <= 256 && text.chars().all(good) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "{text:?} is no Event Hub name: letters, digits, '.', '_' and '-'"
        ))
    }
}

fn storage_root(text: &str) -> Result<String, String> {
    let known = ["az://", "file:///"];
    if known.iter().any(|scheme| text.starts_with(scheme)) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(format!("{text:?} must start with az:// or file:///"))
    }
}

fn read_dedicated(
    section: &mut Section<'_, '_>,
    kind: Option<Kind>,
    findings: &mut Findings<'_>,
) -> Option<Option<TenantId>> {
    if !section.has("dedicated-to") {
        return section
            .optional_text("dedicated-to", findings)
            .map(|_| None);
    }
    let tenant = section.parsed("dedicated-to", TenantId::parse, findings)?;
    if kind == Some(Kind::Shared) {
        section.error("dedicated-to", "contradicts kind = \"shared\"", findings);
        return None;
    }
    Some(Some(tenant))
}

fn read_metrics(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Vec<String>> {
    let urls = section.texts("metrics", findings)?;
    let good = |url: &String| {
        let rest = url.strip_prefix("http://").unwrap_or("");
        !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace)
    };
    match urls.iter().find(|url| !good(url)) {
        None => Some(urls),
        Some(url) => {
            let message = format!("{url:?} must be http://host:port/metrics");
            section.error("metrics", message, findings);
            None
        }
    }
}

fn read_iot_hub(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<IotHub> {
    let mut hub = need(section, "iot-hub", findings)?;
    let name = hub.parsed("name", host, findings);
    let tier = hub.word("tier", &IotHubTier::NAMES, None, findings);
    let units_max = tier.map_or(200, IotHubTier::units_max);
    let units = hub.number("units", 1..=units_max, findings);
    section.close(hub, findings);
    Some(IotHub {
        name: name?,
        tier: tier?,
        units: units?,
    })
}

fn read_event_hub(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<EventHub> {
    let mut hub = need(section, "event-hub", findings)?;
    let namespace = hub.parsed("namespace", host, findings);
    let name = hub.parsed("hub", hub_name, findings);
    let tier = hub.word("tier", &EventHubTier::NAMES, None, findings);
    let units = tier.and_then(|tier| match tier.unit() {
        Some(key) => hub.number(key, 1..=tier.units_max(), findings),
        None => Some(0),
    });
    let partitions_max = tier.map_or(1_024, EventHubTier::partitions_max);
    let partitions = hub.number("partitions", 1..=partitions_max, findings);
    let group = hub.optional_text("consumer-group", findings);
    section.close(hub, findings);
    let consumer_group = group?.unwrap_or_else(|| "$Default".into());
    if consumer_group.len() > 50 || consumer_group.contains(char::is_whitespace) {
        let message = "must be 1 to 50 characters without white space";
        section.error("event-hub.consumer-group", message, findings);
        return None;
    }
    if tier == Some(EventHubTier::Basic) && consumer_group != "$Default" {
        let message = "the basic tier has only $Default";
        section.error("event-hub.consumer-group", message, findings);
        return None;
    }
    Some(EventHub {
        namespace: namespace?,
        hub: name?,
        tier: tier?,
        units: units?,
        partitions: partitions?,
        consumer_group,
    })
}

fn need<'t, 'i>(
    section: &mut Section<'t, 'i>,
    key: &'static str,
    findings: &mut Findings<'_>,
) -> Option<Section<'t, 'i>> {
    if !section.has(key) {
        section.error(key, "is missing", findings);
    }
    section.section(key, findings)
}

fn read_service(
    section: &mut Section<'_, '_>,
    partitions: Option<u64>,
    findings: &mut Findings<'_>,
) -> Option<Service> {
    let most = partitions.unwrap_or(REPLICAS_MAX);
    let Some(mut service) = section.section("service", findings) else {
        return (!section.has("service")).then_some(Service {
            replicas_min: 1,
            replicas_max: most,
            cpu_millicores: 1_000,
            memory_bytes: 1 << 30,
            identity: None,
        });
    };
    let replicas_max = service.number_or("replicas-max", 1..=most, most, findings);
    let top = replicas_max.unwrap_or(most);
    let replicas_min = service.number_or("replicas-min", 1..=top, 1, findings);
    let cpu_millicores = service.number_or("cpu-millicores", 50..=256_000, 1_000, findings);
    let memory_bytes = service.size("memory", findings);
    let identity = service.optional_text("identity", findings);
    let memory_bytes = memory_bytes.and_then(|bytes| match bytes.unwrap_or(1 << 30) {
        bytes if bytes >= MEMORY_MIN => Some(bytes),
        _ => {
            service.error("memory", "is below 256MiB", findings);
            None
        }
    });
    section.close(service, findings);
    Some(Service {
        replicas_min: replicas_min?,
        replicas_max: replicas_max?,
        cpu_millicores: cpu_millicores?,
        memory_bytes: memory_bytes?,
        identity: identity?,
    })
}

/// The limits as written, in the order of [`Axis::ALL`].
fn read_capacity(
    section: &mut Section<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<[Written; 5]> {
    let Some(mut capacity) = section.section("capacity", findings) else {
        return (!section.has("capacity")).then_some([(None, None); 5]);
    };
    let written = Axis::ALL.map(|axis| read_limit(&mut capacity, axis.as_str(), findings));
    section.close(capacity, findings);
    let mut limits = [(None, None); 5];
    for (limit, read) in limits.iter_mut().zip(written) {
        *limit = read?;
    }
    Some(limits)
}

/// A hard limit alone, or `{ soft = ..., hard = ... }`.
fn read_limit(
    capacity: &mut Section<'_, '_>,
    key: &'static str,
    findings: &mut Findings<'_>,
) -> Option<Written> {
    if !capacity.holds_table(key) {
        return capacity.size(key, findings).map(|hard| (hard, None));
    }
    let mut limit = capacity.section(key, findings)?;
    let hard = limit.size("hard", findings);
    let soft = limit.size("soft", findings);
    capacity.close(limit, findings);
    Some((hard?, soft?))
}

/// Fills in what is not written from the tiers, and refuses what is above them.
fn capacity(
    section: &Section<'_, '_>,
    written: [Written; 5],
    kind: Kind,
    iot_hub: &IotHub,
    event_hub: &EventHub,
    findings: &mut Findings<'_>,
) -> Option<Capacity> {
    let mut limits = [Limit { soft: 0, hard: 0 }; 5];
    let mut good = true;
    for ((axis, (hard, soft)), limit) in Axis::ALL.into_iter().zip(written).zip(&mut limits) {
        let key = format!("capacity.{axis}");
        let ceiling = ceiling(axis, kind, iot_hub, event_hub);
        let Some(hard) = hard.or(ceiling.as_ref().map(|(most, _)| *most)) else {
            section.error(
                &key,
                "is missing; a shared stamp says how many it takes",
                findings,
            );
            good = false;
            continue;
        };
        if let Some((most, why)) = ceiling.filter(|(most, _)| hard > *most) {
            section.error(&key, format!("is {hard}; {why} {most}"), findings);
            good = false;
        }
        let soft = soft.unwrap_or_else(|| match axis {
            Axis::Tenants => hard,
            _ => hard / 100 * SOFT_PERCENT + hard % 100 * SOFT_PERCENT / 100,
        });
        if soft > hard {
            let message = format!("the soft limit {soft} is above the hard one, {hard}");
            section.error(&key, message, findings);
            good = false;
        }
        *limit = Limit { soft, hard };
    }
    good.then(|| Capacity::new(|axis| limits[axis as usize]))
}

/// What the stamp's own parts take at most on an axis, and which part says so.
fn ceiling(
    axis: Axis,
    kind: Kind,
    iot_hub: &IotHub,
    event_hub: &EventHub,
) -> Option<(u64, String)> {
    if axis == Axis::Tenants {
        let one = || (1, "a dedicated stamp has one tenant:".to_owned());
        return (kind == Kind::Dedicated).then(one);
    }
    let (tier, units) = (iot_hub.tier, iot_hub.units);
    let iot = tier.limit(units, axis).map(|most| {
        let why = match axis {
            Axis::Devices => format!("a hub of tier {} takes", tier.as_str()),
            _ => format!("{units} units of tier {} take", tier.as_str()),
        };
        (most, why)
    });
    let (tier, units) = (event_hub.tier, event_hub.units);
    let hub = tier.limit(units, axis).map(|most| {
        let unit = tier.unit().unwrap_or("units").replace('-', " ");
        (most, format!("{units} {unit} of Event Hubs take"))
    });
    [iot, hub]
        .into_iter()
        .flatten()
        .min_by_key(|(most, _)| *most)
}
