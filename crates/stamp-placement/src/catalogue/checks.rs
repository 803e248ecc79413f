//! What only several sections together can break.

use std::collections::{BTreeMap, BTreeSet};

use stamp_model::StampId;

use super::Drafts;
use super::finding::Findings;
use super::section::Draft;
use crate::fleet::{Kind, Placing, Ring, Stamp, StampState, Tenant};
use crate::load::Axis;

pub(super) fn run(drafts: &Drafts, findings: &mut Findings<'_>) {
    duplicate_ids(drafts, findings);
    hubs_used_twice(&drafts.stamps, findings);
    roots_within_roots(&drafts.stamps, findings);
    containers(drafts, findings);
    shared_namespaces(&drafts.stamps, findings);
    owners(drafts, findings);
    for tenant in &drafts.tenants {
        match &tenant.item.placing {
            Placing::Stamps(pins) => pinned(tenant, pins, drafts, findings),
            Placing::Rule { .. } => placeable(tenant, drafts, findings),
        }
    }
    overfull_dedicated(drafts, findings);
    if drafts.unreadable.is_empty() {
        ring_gaps(&drafts.stamps, findings);
    }
    too_few(drafts, findings);
}

/// Tells each draft whose `key` another one before it has.
fn unique<'a, T, K: Ord>(
    drafts: impl IntoIterator<Item = &'a Draft<T>>,
    key: &str,
    value: impl Fn(&T) -> K,
    message: impl Fn(&str) -> String,
    findings: &mut Findings<'_>,
) where
    T: 'a,
{
    let mut seen: BTreeMap<K, &Draft<T>> = BTreeMap::new();
    for draft in drafts {
        match seen.entry(value(&draft.item)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(draft);
            }
            std::collections::btree_map::Entry::Occupied(entry) => {
                let other = findings.named(entry.get().place(key));
                findings.error(draft.place(key), &draft.key(key), message(&other));
            }
        }
    }
}

fn duplicate_ids(drafts: &Drafts, findings: &mut Findings<'_>) {
    let message = |other: &str| format!("is there twice, also at {other}");
    unique(&drafts.stamps, "id", |s| s.id.clone(), message, findings);
    unique(&drafts.tenants, "id", |t| t.id.clone(), message, findings);
}

/// Stamps that have resources of their own: a closed stamp's may be used again.
fn open(stamps: &[Draft<Stamp>]) -> impl Iterator<Item = &Draft<Stamp>> {
    let closed = |draft: &&Draft<Stamp>| draft.item.state != StampState::Closed;
    stamps.iter().filter(closed)
}

fn hubs_used_twice(stamps: &[Draft<Stamp>], findings: &mut Findings<'_>) {
    let message = |other: &str| format!("is another stamp's hub, at {other}");
    let iot = |s: &Stamp| s.iot_hub.name.clone();
    unique(open(stamps), "iot-hub.name", iot, message, findings);
    let event = |s: &Stamp| (s.event_hub.namespace.clone(), s.event_hub.hub.clone());
    unique(open(stamps), "event-hub.hub", event, message, findings);
}

/// Two stamps that write below one folder would take each other's tables for their own.
fn roots_within_roots(stamps: &[Draft<Stamp>], findings: &mut Findings<'_>) {
    let mut roots: BTreeMap<String, &Draft<Stamp>> = BTreeMap::new();
    for draft in open(stamps) {
        let root = format!("{}/", draft.item.storage_root);
        let above = (1..=root.len())
            .filter(|&end| root.as_bytes()[end - 1] == b'/')
            .find_map(|end| roots.get(&root[..end]));
        let below = roots.range(root.clone()..).next();
        let below = below.filter(|(other, _)| other.starts_with(&root));
        if let Some(other) = above.or(below.map(|(_, draft)| draft)) {
            let place = findings.named(other.place("storage-root"));
            let message = format!("is or overlaps another stamp's, at {place}");
            findings.error(
                draft.place("storage-root"),
                &draft.key("storage-root"),
                message,
            );
        }
        roots.entry(root).or_insert(draft);
    }
}

/// With a container for each tenant, the account is one stamp's, and every tenant that may come is called as
/// a container can be.
fn containers(drafts: &Drafts, findings: &mut Findings<'_>) {
    const KEY: &str = "tenant-containers";
    for draft in open(&drafts.stamps).filter(|draft| draft.item.tenant_containers) {
        let tell = |message: String, findings: &mut Findings<'_>| {
            findings.error(draft.place(KEY), &draft.key(KEY), message);
        };
        let Some(path) = draft.item.storage_root.strip_prefix("az://") else {
            tell(
                "needs a storage-root az://account/container".to_owned(),
                findings,
            );
            continue;
        };
        let account = path.split('/').next().unwrap_or(path);
        let own = path.split('/').nth(1).unwrap_or("");
        let other = open(&drafts.stamps).find(|other| {
            other.item.id != draft.item.id
                && other
                    .item
                    .storage_root
                    .strip_prefix("az://")
                    .is_some_and(|path| path.split('/').next() == Some(account))
        });
        if let Some(other) = other {
            let place = findings.named(other.place("storage-root"));
            tell(
                format!("the account is another stamp's too, at {place}"),
                findings,
            );
        }
        for tenant in drafts
            .tenants
            .iter()
            .filter(|tenant| may_be_on(&tenant.item, &draft.item))
        {
            let name = tenant.item.id.as_str();
            if !is_container(name) {
                tell(
                    format!(
                        "tenant {name} cannot be a container: 3 to 63 of a-z, 0-9 and single '-' between them"
                    ),
                    findings,
                );
            } else if name == own {
                tell(
                    format!("tenant {name} is called like the stamp's own container"),
                    findings,
                );
            }
        }
    }
}

fn may_be_on(tenant: &Tenant, stamp: &Stamp) -> bool {
    let here = tenant.geographies.contains(&stamp.geography);
    let owner = stamp
        .dedicated_to
        .as_ref()
        .is_none_or(|owner| *owner == tenant.id);
    match &tenant.placing {
        Placing::Stamps(pins) => pins.contains(&stamp.id),
        Placing::Rule { .. } => here && owner,
    }
}

/// Whether Azure takes it as the name of a container (Storage, "Naming and referencing containers").
fn is_container(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (3..=63).contains(&name.len()) && name.split('-').all(part)
}

/// The units of a namespace are shared by its hubs.
fn shared_namespaces(stamps: &[Draft<Stamp>], findings: &mut Findings<'_>) {
    let mut namespaces: BTreeMap<&str, Vec<&Draft<Stamp>>> = BTreeMap::new();
    for draft in open(stamps) {
        let name = draft.item.event_hub.namespace.as_str();
        namespaces.entry(name).or_default().push(draft);
    }
    for sharing in namespaces.into_values().filter(|sharing| sharing.len() > 1) {
        let (first, rest) = (sharing[0], &sharing[1..]);
        let units = |draft: &Draft<Stamp>| (draft.item.event_hub.tier, draft.item.event_hub.units);
        for other in rest.iter().filter(|other| units(other) != units(first)) {
            let place = findings.named(first.place("event-hub.tier"));
            let message = format!("the same namespace has other units at {place}");
            findings.error(
                other.place("event-hub.tier"),
                &other.key("event-hub.tier"),
                message,
            );
        }
        let (tier, units) = units(first);
        for axis in [Axis::EventsPerSecond, Axis::BytesPerSecond] {
            let hard = |draft: &&Draft<Stamp>| draft.item.capacity[axis].hard;
            let sum = sharing.iter().map(hard).fold(0, u64::saturating_add);
            if let Some(most) = tier.limit(units, axis).filter(|most| sum > *most) {
                let last = sharing[sharing.len() - 1];
                let key = format!("capacity.{axis}");
                let message = format!(
                    "the {} stamps of namespace {} have {sum} together; its units take {most}",
                    sharing.len(),
                    first.item.event_hub.namespace
                );
                findings.error(last.place(&key), &last.key(&key), message);
            }
        }
    }
}

fn owners(drafts: &Drafts, findings: &mut Findings<'_>) {
    for stamp in &drafts.stamps {
        let Some(owner) = &stamp.item.dedicated_to else {
            continue;
        };
        let tenant = drafts.tenants.iter().find(|t| t.item.id == *owner);
        let key = stamp.key("dedicated-to");
        let place = stamp.place("dedicated-to");
        match tenant {
            None => findings.error(place, &key, format!("no tenant is called {owner}")),
            Some(tenant) if !tenant.item.geographies.contains(&stamp.item.geography) => {
                let message = format!(
                    "{owner} may not be in {}, only in {}",
                    stamp.item.geography,
                    tenant.item.geographies.join(", ")
                );
                findings.error(place, &key, message);
            }
            Some(_) => {}
        }
    }
}

/// Every fixed stamp of a tenant is there, open, allowed, and the only one of its environment.
fn pinned(tenant: &Draft<Tenant>, pins: &[StampId], drafts: &Drafts, findings: &mut Findings<'_>) {
    let key = tenant.key("stamps");
    let place = tenant.place("stamps");
    let mut environments = BTreeMap::new();
    for pin in pins {
        let stamp = drafts.stamps.iter().find(|s| s.item.id == *pin);
        let Some(stamp) = stamp.map(|stamp| &stamp.item) else {
            if !drafts.unreadable.iter().any(|id| id == pin.as_str()) {
                findings.error(place, &key, format!("no stamp is called {pin}"));
            }
            continue;
        };
        if !tenant.item.geographies.contains(&stamp.geography) {
            let allowed = tenant.item.geographies.join(", ");
            let message = format!(
                "{pin} is in {}; the tenant allows only {allowed}",
                stamp.geography
            );
            findings.error(place, &key, message);
        }
        if matches!(stamp.state, StampState::Planned | StampState::Closed) {
            findings.error(place, &key, format!("{pin} is {}", stamp.state));
        }
        if stamp
            .dedicated_to
            .as_ref()
            .is_some_and(|owner| *owner != tenant.item.id)
        {
            findings.error(place, &key, format!("{pin} is dedicated to another tenant"));
        }
        if let Some(other) = environments.insert(stamp.environment, pin) {
            let message = format!(
                "{other} and {pin} are both {}; a tenant has one stamp of each environment",
                stamp.environment
            );
            findings.error(place, &key, message);
        }
    }
}

/// A rule that no stamp can ever fulfil is a mistake; nothing is placed by it.
fn placeable(tenant: &Draft<Tenant>, drafts: &Drafts, findings: &mut Findings<'_>) {
    let Placing::Rule {
        kind,
        environment,
        rings,
    } = &tenant.item.placing
    else {
        return;
    };
    let fits = |draft: &Draft<Stamp>| {
        let stamp = &draft.item;
        tenant.item.geographies.contains(&stamp.geography)
            && stamp.kind == *kind
            && stamp.environment == *environment
            && rings.contains(&stamp.ring)
            && stamp.state != StampState::Closed
            && stamp
                .dedicated_to
                .as_ref()
                .is_none_or(|owner| *owner == tenant.item.id)
    };
    let known = |geography: &String| drafts.stamps.iter().any(|d| d.item.geography == *geography);
    let unknown = tenant
        .item
        .geographies
        .iter()
        .find(|geography| !known(geography));
    if drafts.unreadable.is_empty() && !drafts.stamps.iter().any(fits) {
        let rings: Vec<&str> = rings.iter().map(|ring| ring.as_str()).collect();
        let message = format!(
            "no stamp fits: {kind}, {environment}, ring {}, in {}",
            rings.join(" or "),
            tenant.item.geographies.join(" or ")
        );
        let at = if tenant.has("placement") {
            "placement"
        } else {
            "geographies"
        };
        findings.warning(tenant.place(at), &tenant.key(at), message);
    } else if let (true, Some(geography)) = (drafts.unreadable.is_empty(), unknown) {
        let message = format!("no stamp is in {geography}");
        findings.warning(
            tenant.place("geographies"),
            &tenant.key("geographies"),
            message,
        );
    }
}

/// A dedicated stamp has one tenant, whoever names it.
fn overfull_dedicated(drafts: &Drafts, findings: &mut Findings<'_>) {
    for stamp in drafts
        .stamps
        .iter()
        .filter(|s| s.item.kind == Kind::Dedicated)
    {
        let pins = |tenant: &&Draft<Tenant>| match &tenant.item.placing {
            Placing::Stamps(pins) => pins.contains(&stamp.item.id),
            Placing::Rule { .. } => false,
        };
        let tenants: Vec<&Draft<Tenant>> = drafts.tenants.iter().filter(pins).collect();
        for second in tenants.iter().skip(1) {
            let message = format!(
                "{} is a dedicated stamp and already has {}",
                stamp.item.id, tenants[0].item.id
            );
            findings.error(second.place("stamps"), &second.key("stamps"), message);
        }
    }
}

/// A change must pass through a ring before it meets the next one.
fn ring_gaps(stamps: &[Draft<Stamp>], findings: &mut Findings<'_>) {
    let used: BTreeSet<Ring> = open(stamps).map(|draft| draft.item.ring).collect();
    let Some(last) = used.last().copied() else {
        return;
    };
    for (name, ring) in Ring::NAMES {
        if *ring < last && !used.contains(ring) {
            let first = open(stamps).find(|draft| draft.item.ring > *ring);
            let Some(first) = first else { continue };
            let message =
                format!("no stamp is in ring {name}, so nothing tries a change before {last}");
            findings.warning(first.place("ring"), &first.key("ring"), message);
        }
    }
}

fn too_few(drafts: &Drafts, findings: &mut Findings<'_>) {
    let open = open(&drafts.stamps).count() + drafts.unreadable.len();
    if open < 2 {
        let place = match drafts.stamps.first() {
            Some(stamp) => stamp.section().clone(),
            None => super::Place::start(0),
        };
        let message =
            "fewer than two stamps: with one, everything comes to assume that there is one";
        findings.warning(&place, "stamps", message);
    }
}
