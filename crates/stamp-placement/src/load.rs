//! Capacity and load on the axes a stamp can be full on.

use std::fmt;
use std::ops::{Index, IndexMut};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// What a stamp can be full of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Device identities in the IoT Hub.
    Devices,
    /// Device-to-cloud messages a UTC day, as the IoT Hub meters them: 4 KB each, 0.5 KB on F1.
    MessagesPerDay,
    /// Events a second, at the peak.
    EventsPerSecond,
    /// Bytes a second, at the peak.
    BytesPerSecond,
    /// Tenants.
    Tenants,
}

impl Axis {
    /// Every axis, in the order of the columns of reports.
    pub const ALL: [Self; 5] = [
        Self::Devices,
        Self::MessagesPerDay,
        Self::EventsPerSecond,
        Self::BytesPerSecond,
        Self::Tenants,
    ];

    /// The key of the catalogue.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::MessagesPerDay => "messages-per-day",
            Self::EventsPerSecond => "events-per-second",
            Self::BytesPerSecond => "bytes-per-second",
            Self::Tenants => "tenants",
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount on every axis: what is used, or what a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load([u64; 5]);

impl Load {
    /// Nothing on any axis.
    pub const ZERO: Self = Self([0; 5]);

    /// This load with `amount` on `axis`.
    #[must_use]
    pub fn with(mut self, axis: Axis, amount: u64) -> Self {
        self[axis] = amount;
        self
    }

    /// Both together; an amount that does not fit 64 bits stays at the highest one.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut sum = self;
        for axis in Axis::ALL {
            sum[axis] = self[axis].saturating_add(other[axis]);
        }
        sum
    }

    /// This load without the other one, never below 0.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let mut rest = self;
        for axis in Axis::ALL {
            rest[axis] = self[axis].saturating_sub(other[axis]);
        }
        rest
    }
}

impl Index<Axis> for Load {
    type Output = u64;
    fn index(&self, axis: Axis) -> &u64 {
        &self.0[axis as usize]
    }
}

impl IndexMut<Axis> for Load {
    fn index_mut(&mut self, axis: Axis) -> &mut u64 {
        &mut self.0[axis as usize]
    }
}

impl Serialize for Load {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Axis::ALL.len()))?;
        for axis in Axis::ALL {
            map.serialize_entry(axis.as_str(), &self[axis])?;
        }
        map.end()
    }
}

/// Two thresholds of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Above it the stamp is avoided while another one is below, and a warning is due.
    pub soft: u64,
    /// Nothing is placed above it.
    pub hard: u64,
}

/// The limits of a stamp on every axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity([Limit; 5]);

impl Capacity {
    /// Takes a limit for each axis.
    #[must_use]
    pub fn new(limit: impl Fn(Axis) -> Limit) -> Self {
        Self(Axis::ALL.map(limit))
    }

    /// How full the fullest axis is with this load, 1.0 at a hard limit. A stamp for one tenant is
    /// not called full because it has one.
    #[must_use]
    pub fn fill(&self, load: Load) -> f64 {
        let part = |axis: Axis| fraction(load[axis], self[axis].hard);
        self.telling().map(part).fold(0.0, f64::max)
    }

    /// The axes that tell how full the stamp is.
    pub(crate) fn telling(&self) -> impl Iterator<Item = Axis> + use<> {
        let one = self[Axis::Tenants].hard == 1;
        Axis::ALL
            .into_iter()
            .filter(move |axis| !(one && *axis == Axis::Tenants))
    }

    /// The first axis on which this load is over the hard limit.
    #[must_use]
    pub fn over_hard(&self, load: Load) -> Option<Axis> {
        Axis::ALL
            .into_iter()
            .find(|&axis| load[axis] > self[axis].hard)
    }

    /// The axes on which this load is over the soft limit.
    pub fn over_soft(&self, load: Load) -> impl Iterator<Item = Axis> + use<> {
        let limits = *self;
        Axis::ALL
            .into_iter()
            .filter(move |&axis| load[axis] > limits[axis].soft)
    }
}

/// `part` of `whole`; of nothing, anything is infinitely much.
#[expect(
    clippy::cast_precision_loss,
    reason = "a fraction of amounts below 2^53 is exact enough, above it is only less fine"
)]
pub(crate) fn fraction(part: u64, whole: u64) -> f64 {
    match (part, whole) {
        (0, _) => 0.0,
        (_, 0) => f64::INFINITY,
        (part, whole) => part as f64 / whole as f64,
    }
}

impl Index<Axis> for Capacity {
    type Output = Limit;
    fn index(&self, axis: Axis) -> &Limit {
        &self.0[axis as usize]
    }
}

impl Serialize for Capacity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Axis::ALL.len()))?;
        for axis in Axis::ALL {
            map.serialize_entry(axis.as_str(), &self[axis])?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_for_one_tenant_is_as_full_as_its_devices() {
        let capacity = |tenants| {
            Capacity::new(move |axis| {
                let hard = if axis == Axis::Tenants { tenants } else { 100 };
                Limit { soft: hard, hard }
            })
        };
        let load = Load::ZERO.with(Axis::Devices, 25).with(Axis::Tenants, 1);
        assert!((capacity(1).fill(load) - 0.25).abs() < 1e-9);
        assert!((capacity(2).fill(load) - 0.5).abs() < 1e-9);
        assert_eq!(capacity(1).over_hard(load.plus(load)), Some(Axis::Tenants));
    }
}
