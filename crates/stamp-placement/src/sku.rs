//! What the tiers of IoT Hub and Event Hubs take, so that no stamp is declared larger than it is.
//!
//! Sources: Azure's pages "IoT Hub quotas and throttling" (messages, sends), "Azure subscription
//! and service limits, IoT Hub limits" (units and devices of a hub), "Azure IoT Hub Device Provisioning
//! Service limits" (registrations and service operations) and "Event Hubs quotas and limits",
//! "Scaling with Event Hubs" (units, partitions, ingress of a throughput unit).

use serde::Serialize;

use crate::load::Axis;

/// Most device identities in a hub of a paid tier.
pub const DEVICES_MAX: u64 = 1_000_000;
/// Most device identities in a hub of the free tier.
pub const DEVICES_FREE_MAX: u64 = 500;
/// Largest message a device may send, in bytes: 256 KB.
pub const MESSAGE_BYTES_MAX: u64 = 256 << 10;
/// Registrations a minute of one Device Provisioning Service, and, separately, its service
/// operations.
pub const DPS_PER_MINUTE: u64 = 1_000;
/// Ingress of one throughput unit of Event Hubs, events a second.
pub const THROUGHPUT_UNIT_EVENTS: u64 = 1_000;
/// Ingress of one throughput unit of Event Hubs, bytes a second. The source says "1 MB"; the
/// smaller reading is taken.
pub const THROUGHPUT_UNIT_BYTES: u64 = 1_000_000;

/// A tier of IoT Hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum IotHubTier {
    /// Free: one unit.
    F1,
    /// Basic 1.
    B1,
    /// Basic 2.
    B2,
    /// Basic 3.
    B3,
    /// Standard 1.
    S1,
    /// Standard 2.
    S2,
    /// Standard 3.
    S3,
}

impl IotHubTier {
    pub(crate) const NAMES: [(&str, Self); 7] = [
        ("F1", Self::F1),
        ("B1", Self::B1),
        ("B2", Self::B2),
        ("B3", Self::B3),
        ("S1", Self::S1),
        ("S2", Self::S2),
        ("S3", Self::S3),
    ];

    /// The name of the tier, as Azure writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        name_of(&Self::NAMES, self)
    }

    /// Most units of this tier in one hub.
    #[must_use]
    pub fn units_max(self) -> u64 {
        match self {
            Self::F1 => 1,
            Self::B1 | Self::B2 | Self::S1 | Self::S2 => 200,
            Self::B3 | Self::S3 => 10,
        }
    }

    /// Most devices in one hub, whatever its units.
    #[must_use]
    pub fn devices_max(self) -> u64 {
        match self {
            Self::F1 => DEVICES_FREE_MAX,
            _ => DEVICES_MAX,
        }
    }

    /// Metered messages a UTC day of one unit.
    #[must_use]
    pub fn messages_per_day(self) -> u64 {
        match self {
            Self::F1 => 8_000,
            Self::B1 | Self::S1 => 400_000,
            Self::B2 | Self::S2 => 6_000_000,
            Self::B3 | Self::S3 => 300_000_000,
        }
    }

    /// Device-to-cloud sends a second of a hub with this many units. The small tiers share a floor
    /// of 100 a hub.
    #[must_use]
    pub fn sends_per_second(self, units: u64) -> u64 {
        match self {
            Self::F1 | Self::B1 | Self::S1 => units.saturating_mul(12).max(100),
            Self::B2 | Self::S2 => units.saturating_mul(120),
            Self::B3 | Self::S3 => units.saturating_mul(6_000),
        }
    }

    /// New device connections a second of a hub with this many units: the source gives the same
    /// figures as for sends.
    #[must_use]
    pub fn connections_per_second(self, units: u64) -> u64 {
        self.sends_per_second(units)
    }

    /// Operations on the device registry a minute of a hub with this many units.
    #[must_use]
    pub fn registry_per_minute(self, units: u64) -> u64 {
        let a_unit = match self {
            Self::B3 | Self::S3 => 5_000,
            Self::F1 | Self::B1 | Self::B2 | Self::S1 | Self::S2 => 100,
        };
        units.saturating_mul(a_unit)
    }

    /// Twins read a minute of a hub with this many units. The source counts by the second.
    #[must_use]
    pub fn twin_reads_per_minute(self, units: u64) -> u64 {
        let per_second = match self {
            Self::F1 | Self::B1 | Self::S1 => 100,
            Self::B2 | Self::S2 => units.saturating_mul(10).max(100),
            Self::B3 | Self::S3 => units.saturating_mul(500),
        };
        per_second.saturating_mul(60)
    }

    /// Twins changed a minute of a hub with this many units. The source counts by the second.
    #[must_use]
    pub fn twin_updates_per_minute(self, units: u64) -> u64 {
        let per_second = match self {
            Self::F1 | Self::B1 | Self::S1 => 50,
            Self::B2 | Self::S2 => units.saturating_mul(5).max(50),
            Self::B3 | Self::S3 => units.saturating_mul(250),
        };
        per_second.saturating_mul(60)
    }

    /// Queries a minute of a hub with this many units.
    #[must_use]
    pub fn queries_per_minute(self, units: u64) -> u64 {
        let a_unit = match self {
            Self::B3 | Self::S3 => 1_000,
            Self::F1 | Self::B1 | Self::B2 | Self::S1 | Self::S2 => 20,
        };
        units.saturating_mul(a_unit)
    }

    /// What a hub with this many units takes on an axis; `None` where the tier sets no limit.
    #[must_use]
    pub fn limit(self, units: u64, axis: Axis) -> Option<u64> {
        match axis {
            Axis::Devices => Some(self.devices_max()),
            Axis::MessagesPerDay => Some(self.messages_per_day().saturating_mul(units)),
            Axis::EventsPerSecond => Some(self.sends_per_second(units)),
            Axis::BytesPerSecond => Some(
                self.sends_per_second(units)
                    .saturating_mul(MESSAGE_BYTES_MAX),
            ),
            Axis::Tenants => None,
        }
    }
}

/// A tier of Event Hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventHubTier {
    /// The IoT Hub's own Event Hubs-compatible endpoint: as much as the IoT Hub takes.
    BuiltIn,
    /// Throughput units.
    Basic,
    /// Throughput units.
    Standard,
    /// Processing units.
    Premium,
    /// Capacity units of a cluster.
    Dedicated,
}

impl EventHubTier {
    pub(crate) const NAMES: [(&str, Self); 5] = [
        ("built-in", Self::BuiltIn),
        ("basic", Self::Basic),
        ("standard", Self::Standard),
        ("premium", Self::Premium),
        ("dedicated", Self::Dedicated),
    ];

    /// The key of the catalogue.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        name_of(&Self::NAMES, self)
    }

    /// What a unit of this tier is called; `None` for the built-in endpoint, which has none.
    #[must_use]
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::BuiltIn => None,
            Self::Basic | Self::Standard => Some("throughput-units"),
            Self::Premium => Some("processing-units"),
            Self::Dedicated => Some("capacity-units"),
        }
    }

    /// Most units of a namespace, or of a cluster.
    #[must_use]
    pub fn units_max(self) -> u64 {
        match self {
            Self::BuiltIn => 0,
            Self::Basic | Self::Standard => 40,
            Self::Premium => 16,
            Self::Dedicated => 20,
        }
    }

    /// Most partitions of one hub.
    #[must_use]
    pub fn partitions_max(self) -> u64 {
        match self {
            Self::BuiltIn | Self::Basic | Self::Standard => 32,
            Self::Premium => 100,
            Self::Dedicated => 1_024,
        }
    }

    /// What a namespace with this many units takes on an axis. `None` where the tier has no
    /// published limit: processing and capacity units are measured, not counted.
    #[must_use]
    pub fn limit(self, units: u64, axis: Axis) -> Option<u64> {
        let a_unit = match (self, axis) {
            (Self::Basic | Self::Standard, Axis::EventsPerSecond) => THROUGHPUT_UNIT_EVENTS,
            (Self::Basic | Self::Standard, Axis::BytesPerSecond) => THROUGHPUT_UNIT_BYTES,
            _ => return None,
        };
        Some(a_unit.saturating_mul(units))
    }
}

fn name_of<T: Copy + PartialEq>(names: &[(&'static str, T)], wanted: T) -> &'static str {
    let found = names.iter().find(|(_, value)| *value == wanted);
    found.map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_takes_what_its_tier_and_units_say() {
        let s1 = |units, axis| IotHubTier::S1.limit(units, axis).unwrap();
        assert_eq!(s1(2, Axis::MessagesPerDay), 800_000);
        assert_eq!(s1(2, Axis::EventsPerSecond), 100, "the floor of a hub");
        assert_eq!(s1(9, Axis::EventsPerSecond), 108);
        assert_eq!(
            IotHubTier::S2.limit(3, Axis::MessagesPerDay),
            Some(18_000_000)
        );
        assert_eq!(
            IotHubTier::S3.limit(10, Axis::EventsPerSecond),
            Some(60_000)
        );
        assert_eq!(IotHubTier::F1.limit(1, Axis::Devices), Some(500));
        assert_eq!(IotHubTier::S3.limit(10, Axis::Tenants), None);
    }

    #[test]
    fn a_hub_takes_as_many_registry_calls_as_its_units_say() {
        assert_eq!(IotHubTier::S1.registry_per_minute(3), 300);
        assert_eq!(IotHubTier::S3.registry_per_minute(2), 10_000);
        assert_eq!(IotHubTier::S2.twin_reads_per_minute(20), 200 * 60);
        assert_eq!(IotHubTier::S2.twin_updates_per_minute(2), 50 * 60);
        assert_eq!(IotHubTier::B3.queries_per_minute(1), 1_000);
    }

    #[test]
    fn a_throughput_unit_is_a_thousand_events_or_a_megabyte_a_second() {
        let standard = |axis| EventHubTier::Standard.limit(4, axis);
        assert_eq!(standard(Axis::EventsPerSecond), Some(4_000));
        assert_eq!(standard(Axis::BytesPerSecond), Some(4_000_000));
        assert_eq!(standard(Axis::Devices), None);
        assert_eq!(EventHubTier::Premium.limit(4, Axis::EventsPerSecond), None);
    }

    #[test]
    fn every_tier_has_a_name() {
        for (name, tier) in IotHubTier::NAMES {
            assert_eq!(tier.as_str(), name);
        }
        for (name, tier) in EventHubTier::NAMES {
            assert_eq!(tier.as_str(), name);
        }
    }
}
