//! `directory`: whose an event is, and where its rows may lie.

use std::sync::{Arc, LazyLock};

use object_store::memory::InMemory;
use stamp_consumer::{ConfigError, Directory, Route, TenancyConfig};
use stamp_lake::Lake;
use stamp_model::{DeviceId, Event, HubStamp, MessageSource, Shape, TenantId};
use tokio::runtime::Runtime;
use url::Url;

use crate::input::Input;

const TENANTS: [&str; 3] = ["contoso", "fabrikam", "north-wind-7"];
const ENRICHMENT: &str = "hub-tenant";
const CLAIM: &str = "tenant";
const PIECES_MAX: usize = 24;
/// Separates the device and the properties of one event: the unit separator of ASCII.
const PART: char = '\u{1f}';
const ROOT: &str = "memory:///stamp/tables/";

/// The lake needs the runtime it was made on for as long as it is.
struct World {
    _runtime: Runtime,
    lake: Lake,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O needs nothing from the system");
    let root: Url = ROOT.parse().expect("a valid address");
    let lake = runtime.block_on(async { Lake::from_store(Arc::new(InMemory::new()), root) });
    World {
        _runtime: runtime,
        lake,
    }
});

/// One try: which properties are configured, the device files of three tenants, then events; all
/// separated by 0x1e. An event is a device id, then property names and values, separated by 0x1f.
///
/// # Panics
/// When a promise is broken.
pub fn directory(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.byte();
    let tenancy = TenancyConfig {
        enrichment: (flags & 1 != 0).then(|| ENRICHMENT.to_owned()),
        claim_property: (flags & 2 != 0).then(|| CLAIM.to_owned()),
    };
    let pieces: Vec<String> = input
        .pieces(PIECES_MAX)
        .map(|piece| String::from_utf8_lossy(piece).into_owned())
        .collect();
    let (files, events) = pieces.split_at(pieces.len().min(TENANTS.len()));
    let tenants: Vec<(TenantId, Vec<String>)> = TENANTS
        .iter()
        .zip(files)
        .map(|(id, file)| {
            let id = TenantId::parse(id).expect("the target's own tenants are valid");
            (id, file.lines().map(str::to_owned).collect())
        })
        .collect();
    match Directory::new(&tenants, &tenancy) {
        Err(ConfigError::Value { key, why }) => {
            assert_eq!(key, "tenants.devices");
            assert!(!why.is_empty());
        }
        Err(error) => panic!("a wrong entry is no {error:?}"),
        Ok(directory) => {
            for event in events {
                check(&directory, &tenants, &tenancy, &read(event));
            }
        }
    }
}

fn read(text: &str) -> Event {
    let mut parts = text.split(PART);
    let device = parts.next().unwrap_or("");
    let mut event = Event {
        hub: HubStamp {
            device_id: (device != "-absent").then(|| device.into()),
            ..HubStamp::default()
        },
        ..Event::default()
    };
    while let Some(name) = parts.next() {
        let value = parts.next().unwrap_or("");
        if name == "iothub-message-source" {
            event.hub.source = MessageSource::parse(&value.into());
        }
        event.properties.push((name.into(), value.into()));
    }
    event
}

fn check(
    directory: &Directory,
    tenants: &[(TenantId, Vec<String>)],
    tenancy: &TenancyConfig,
    event: &Event,
) {
    let route = directory.route(event);
    assert_eq!(route, directory.route(event));
    let lake = &WORLD.lake;
    if let Some(id) = event.hub.device_id.as_deref() {
        if let Ok(tenant) = TenantId::parse(id) {
            check_root(lake, &tenant);
        }
        let parsed = DeviceId::parse(id.into()).is_ok();
        assert!(
            parsed || !matches!(route, Route::Tenant(_)),
            "{id:?} has a tenant"
        );
    }
    let Route::Tenant(index) = route else {
        return;
    };
    let tenant = &tenants[index].0;
    check_root(lake, tenant);
    let listed = lookup(tenants, event);
    let enriched = property(event, tenancy.enrichment.as_deref());
    match (listed, enriched) {
        (Some(listed), None) => assert_eq!(listed, index),
        (Some(listed), Some(text)) => {
            assert_eq!((listed, text), (index, tenant.as_str()));
        }
        (None, text) => assert_eq!(text, Some(tenant.as_str()), "a tenant out of nothing"),
    }
    let claim = property(event, tenancy.claim_property.as_deref());
    assert!(
        claim.is_none_or(|claim| claim == tenant.as_str()),
        "{claim:?} was believed"
    );
}

/// The tenant whose entry fits best: the whole id, else the longest prefix.
fn lookup(tenants: &[(TenantId, Vec<String>)], event: &Event) -> Option<usize> {
    let device = event.hub.device_id.as_deref()?;
    let entries = || {
        tenants
            .iter()
            .enumerate()
            .flat_map(|(index, (_, entries))| entries.iter().map(move |entry| (index, entry)))
    };
    let exact = entries().find(|(_, entry)| entry.as_str() == device && !entry.ends_with('*'));
    let prefix = || {
        entries()
            .filter_map(|(index, entry)| Some((index, entry.strip_suffix('*')?)))
            .filter(|(_, prefix)| device.starts_with(prefix))
            .max_by_key(|(_, prefix)| prefix.len())
            .map(|(index, _)| index)
    };
    exact.map(|(index, _)| index).or_else(prefix)
}

fn property<'a>(event: &'a Event, name: Option<&str>) -> Option<&'a str> {
    let name = name?;
    let mut properties = event.properties.iter();
    let found = properties.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| &**value)
}

/// A tenant's tables lie in its own folder and nowhere else.
fn check_root(lake: &Lake, tenant: &TenantId) {
    let root = lake.tenant(tenant);
    for (name, table) in [
        ("readings", root.readings(&Shape::default())),
        ("rollups", root.rollups()),
        ("rejected", root.rejected()),
    ] {
        assert_eq!(table.url().as_str(), format!("{ROOT}{tenant}/{name}/"));
    }
}
