//! What stamps and tenants of the made-up fleet look like: sizes, tiers and limits.

use stamp_model::{StampId, TenantId};
use stamp_placement::sku::{EventHubTier, IotHubTier};
use stamp_placement::{
    Axis, Capacity, Environment, EventHub, IotHub, Kind, Limit, Load, Placing, Quota, Ring,
    Service, Stamp, StampState, Tenant, TenantState,
};

/// Messages of a device a day: one an hour.
pub(super) const MESSAGES_A_DAY: u64 = 24;
/// Tier of every hub.
pub(super) const TIER: IotHubTier = IotHubTier::S2;
/// What a tenant with so many devices needs.
pub(super) fn load_of(devices: u64) -> Load {
    Load::ZERO
        .with(Axis::Devices, devices)
        .with(Axis::MessagesPerDay, devices * MESSAGES_A_DAY)
        .with(Axis::Tenants, 1)
}

/// Units of a hub for so many devices.
pub(super) fn units(devices_max: u64) -> u64 {
    let messages = devices_max * MESSAGES_A_DAY;
    messages.div_ceil(TIER.messages_per_day()).max(1)
}

/// A stamp for so many devices.
pub(super) fn stamp(
    name: &str,
    region: &str,
    geography: &str,
    state: StampState,
    devices_max: u64,
) -> Stamp {
    let units = units(devices_max);
    let hard = move |axis: Axis| match axis {
        Axis::Devices => devices_max,
        Axis::MessagesPerDay => devices_max * MESSAGES_A_DAY,
        Axis::Tenants => 10_000,
        Axis::EventsPerSecond | Axis::BytesPerSecond => TIER.limit(units, axis).unwrap_or(u64::MAX),
    };
    Stamp {
        id: StampId::parse(name).expect("region names and numbers are lower case"),
        region: region.into(),
        geography: geography.into(),
        kind: Kind::Shared,
        dedicated_to: None,
        environment: Environment::Production,
        ring: Ring::General,
        version: "1".into(),
        state,
        iot_hub: IotHub {
            name: format!("{name}.azure-devices.net"),
            tier: TIER,
            units,
        },
        event_hub: EventHub {
            namespace: format!("{name}.servicebus.windows.net"),
            hub: "telemetry".into(),
            tier: EventHubTier::BuiltIn,
            units: 0,
            partitions: 32,
            consumer_group: "$Default".into(),
        },
        storage_root: format!("az://{name}/telemetry"),
        tenant_containers: false,
        metrics: Vec::new(),
        capacity: Capacity::new(|axis| Limit {
            soft: hard(axis) / 5 * 4,
            hard: hard(axis),
        }),
        service: Service {
            replicas_min: 1,
            replicas_max: 1,
            cpu_millicores: 1_000,
            memory_bytes: 1 << 30,
            identity: None,
        },
    }
}

/// A tenant that shares a stamp with others.
pub(super) fn tenant(id: TenantId, geographies: Vec<String>, expected: Load) -> Tenant {
    Tenant {
        id,
        geographies,
        tier: "standard".into(),
        state: TenantState::Active,
        placing: Placing::Rule {
            kind: Kind::Shared,
            environment: Environment::Production,
            rings: vec![Ring::General],
        },
        schema: "schema.toml".into(),
        devices: Vec::new(),
        quota: Quota::default(),
        expected,
    }
}
