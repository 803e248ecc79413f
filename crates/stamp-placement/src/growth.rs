//! When which stamp is full, and how many to add by then.
//!
//! Growth is compound, plus a fixed amount, each month. Stamps are ordered against the *soft* limit,
//! so that a new one is there before a hard limit refuses anybody. Shared stamps of one geography
//! and environment are one pool: what one of them cannot take, another one may. A dedicated stamp
//! is alone; a second one does not help its tenant.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stamp_model::StampId;

use crate::fleet::{Environment, Fleet, Kind, Stamp, StampState};
use crate::load::{Axis, fraction};
use crate::placement::Usage;

/// Most months that are looked ahead: ten years.
pub const MONTHS_MAX: u32 = 120;
/// Highest growth a month, in percent.
pub const PERCENT_MAX: f64 = 1_000.0;

/// What `--growth FILE` of `stampworks fleet plan` reads: how a whole fleet grows.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Growth {
    /// Of every stamp that no entry below speaks of, such as `"5%"` a month. None when not given.
    #[serde(default)]
    #[schemars(with = "String")]
    pub rate: Percent,
    /// Growth of some stamps.
    #[serde(default)]
    pub growth: Vec<Entry>,
}

/// Growth of some stamps; the last entry that speaks of a stamp counts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// Stamps of this geography.
    pub geography: Option<String>,
    /// Stamps of this environment.
    pub environment: Option<Environment>,
    /// This stamp.
    #[schemars(with = "Option<String>")]
    pub stamp: Option<StampId>,
    /// A month, of what is used.
    #[serde(default)]
    #[schemars(with = "String")]
    pub rate: Percent,
    /// More devices a month, over all stamps of the entry in proportion to their hard limits.
    #[serde(default)]
    pub devices: u64,
    /// More messages a day, each month, likewise.
    #[serde(default)]
    pub messages_per_day: u64,
    /// More events a second, each month, likewise.
    #[serde(default)]
    pub events_per_second: u64,
    /// More bytes a second, each month, likewise.
    #[serde(default)]
    pub bytes_per_second: u64,
    /// More tenants a month, likewise.
    #[serde(default)]
    pub tenants: u64,
}

/// Growth a month in percent, 0 to [`PERCENT_MAX`], spelled `"2.5%"`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(f64);

impl Percent {
    /// Parses `5%` or `2.5%`.
    ///
    /// # Errors
    /// [`GrowthError::Percent`] for anything else, or above [`PERCENT_MAX`].
    pub fn parse(text: &str) -> Result<Self, GrowthError> {
        let number = text.trim().strip_suffix('%').map(str::trim);
        let value: Option<f64> = number.and_then(|number| number.parse().ok());
        match value.filter(|value| (0.0..=PERCENT_MAX).contains(value)) {
            Some(value) => Ok(Self(value)),
            None => Err(GrowthError::Percent(text.chars().take(100).collect())),
        }
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        format!("{}%", percent.0)
    }
}

impl TryFrom<String> for Percent {
    type Error = GrowthError;
    fn try_from(text: String) -> Result<Self, GrowthError> {
        Self::parse(&text)
    }
}

/// Growth that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrowthError {
    /// No rate.
    #[error("{0:?} is no growth a month: 0% to 1000%, such as \"2.5%\"")]
    Percent(String),
    /// An entry speaks of no stamp of the fleet.
    #[error("growth[{0}] speaks of no stamp of the fleet")]
    Nowhere(usize),
    /// Too far ahead.
    #[error("{0} months; at most {MONTHS_MAX} are looked ahead")]
    Months(u32),
}

/// When a stamp reaches a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reached {
    /// Months from now; 0 when it is over already.
    pub month: u32,
    /// The axis that gets there first.
    pub axis: Axis,
}

/// What becomes of one stamp.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StampForecast {
    /// The stamp.
    pub stamp: StampId,
    /// Shared or dedicated.
    pub kind: Kind,
    /// How full its fullest axis is now, 1.0 at a hard limit.
    pub fill_now: f64,
    /// How full it would be at the end, if it took all of its own growth.
    pub fill_then: f64,
    /// When it is over a soft limit; not within the months looked at when missing.
    pub soft: Option<Reached>,
    /// When it is over a hard limit.
    pub hard: Option<Reached>,
}

/// How many stamps a pool needs from a month on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Addition {
    /// Months from now.
    pub month: u32,
    /// Stamps to have been added by then, since now.
    pub stamps: u64,
    /// The axis that needs them.
    pub axis: Axis,
}

/// What becomes of the shared stamps of one geography and environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PoolForecast {
    /// Geography.
    pub geography: String,
    /// Test or production.
    pub environment: Environment,
    /// Stamps there are, planned ones included.
    pub stamps: usize,
    /// Stamps to add are taken to be as large as this one: the largest of the pool.
    pub as_large_as: StampId,
    /// Each month in which the number changes.
    pub additions: Vec<Addition>,
}

/// What becomes of a fleet.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Forecast {
    /// Months looked at.
    pub months: u32,
    /// Stamps that serve, by id.
    pub stamps: Vec<StampForecast>,
    /// Pools of shared stamps, by geography.
    pub pools: Vec<PoolForecast>,
}

/// What one stamp uses on each axis, growing.
struct Growing<'f> {
    stamp: &'f Stamp,
    used: [f64; 5],
    rate: f64,
    more: [f64; 5],
}

/// Looks ahead.
///
/// # Errors
/// [`GrowthError`] when an entry speaks of no stamp, or `months` is above [`MONTHS_MAX`].
pub fn forecast(
    fleet: &Fleet,
    usage: &Usage,
    growth: &Growth,
    months: u32,
) -> Result<Forecast, GrowthError> {
    if months > MONTHS_MAX {
        return Err(GrowthError::Months(months));
    }
    let mut growing = growing(fleet, usage, growth)?;
    let mut stamps: Vec<StampForecast> = growing.iter().map(Growing::begin).collect();
    let mut pools = pools(fleet);
    for month in 0..=months {
        if month > 0 {
            growing.iter_mut().for_each(Growing::grow);
        }
        for (stamp, growing) in stamps.iter_mut().zip(&growing) {
            stamp.fill_then = growing.fill();
            note(&mut stamp.soft, month, growing.over(|limit| limit.soft));
            note(&mut stamp.hard, month, growing.over(|limit| limit.hard));
        }
        for pool in &mut pools {
            need(pool, fleet, &growing, month);
        }
    }
    Ok(Forecast {
        months,
        stamps,
        pools,
    })
}

fn note(reached: &mut Option<Reached>, month: u32, axis: Option<Axis>) {
    if let (None, Some(axis)) = (&reached, axis) {
        *reached = Some(Reached { month, axis });
    }
}

fn serves(stamp: &Stamp) -> bool {
    matches!(stamp.state, StampState::Active | StampState::Draining)
}

fn growing<'f>(
    fleet: &'f Fleet,
    usage: &Usage,
    growth: &Growth,
) -> Result<Vec<Growing<'f>>, GrowthError> {
    let serving = fleet.stamps().iter().filter(|stamp| serves(stamp));
    let mut growing: Vec<Growing<'f>> = serving
        .map(|stamp| Growing {
            stamp,
            used: Axis::ALL.map(|axis| amount(usage.of(fleet, &stamp.id)[axis])),
            rate: growth.rate.0,
            more: [0.0; 5],
        })
        .collect();
    for (index, entry) in growth.growth.iter().enumerate() {
        let of: BTreeSet<usize> = (0..growing.len())
            .filter(|&at| entry.speaks_of(growing[at].stamp))
            .collect();
        if of.is_empty() {
            return Err(GrowthError::Nowhere(index));
        }
        for axis in Axis::ALL {
            let hard = |at: usize| growing[at].stamp.capacity[axis].hard;
            let whole = of.iter().map(|&at| hard(at)).fold(0, u64::saturating_add);
            let parts: Vec<f64> = of.iter().map(|&at| fraction(hard(at), whole)).collect();
            for (&at, part) in of.iter().zip(parts) {
                growing[at].rate = entry.rate.0;
                growing[at].more[axis as usize] = amount(entry.more(axis)) * part;
            }
        }
    }
    Ok(growing)
}

impl Entry {
    fn speaks_of(&self, stamp: &Stamp) -> bool {
        self.geography
            .as_ref()
            .is_none_or(|geography| *geography == stamp.geography)
            && self
                .environment
                .is_none_or(|environment| environment == stamp.environment)
            && self.stamp.as_ref().is_none_or(|id| *id == stamp.id)
    }

    fn more(&self, axis: Axis) -> u64 {
        match axis {
            Axis::Devices => self.devices,
            Axis::MessagesPerDay => self.messages_per_day,
            Axis::EventsPerSecond => self.events_per_second,
            Axis::BytesPerSecond => self.bytes_per_second,
            Axis::Tenants => self.tenants,
        }
    }
}

impl Growing<'_> {
    fn begin(&self) -> StampForecast {
        StampForecast {
            stamp: self.stamp.id.clone(),
            kind: self.stamp.kind,
            fill_now: self.fill(),
            fill_then: 0.0,
            soft: None,
            hard: None,
        }
    }

    fn grow(&mut self) {
        // The one tenant of a dedicated stamp does not become two.
        let fixed = self.stamp.kind == Kind::Dedicated;
        for axis in Axis::ALL
            .into_iter()
            .filter(|a| !(fixed && *a == Axis::Tenants))
        {
            let used = &mut self.used[axis as usize];
            *used += *used * self.rate / 100.0 + self.more[axis as usize];
        }
    }

    fn fill(&self) -> f64 {
        let part = |axis: Axis| self.used[axis as usize] / amount(self.stamp.capacity[axis].hard);
        let part = |axis| {
            Some(part(axis))
                .filter(|part| !part.is_nan())
                .unwrap_or(0.0)
        };
        self.stamp.capacity.telling().map(part).fold(0.0, f64::max)
    }

    /// The axis that is over a limit, by the largest part of it.
    fn over(&self, limit: impl Fn(crate::load::Limit) -> u64) -> Option<Axis> {
        let over = |axis: Axis| {
            let limit = amount(limit(self.stamp.capacity[axis]));
            let used = self.used[axis as usize];
            (used > limit).then_some((axis, used / limit))
        };
        let most = Axis::ALL
            .into_iter()
            .filter_map(over)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        most.map(|(axis, _)| axis)
    }
}

/// Pools of the shared stamps that serve or will.
fn pools(fleet: &Fleet) -> Vec<PoolForecast> {
    let mut pools: BTreeMap<(&str, Environment), Vec<&Stamp>> = BTreeMap::new();
    let there = |stamp: &&Stamp| stamp.kind == Kind::Shared && stamp.state != StampState::Closed;
    for stamp in fleet.stamps().iter().filter(there) {
        let key = (stamp.geography.as_str(), stamp.environment);
        pools.entry(key).or_default().push(stamp);
    }
    let pool = |((geography, environment), stamps): ((&str, _), Vec<&Stamp>)| {
        let largest = stamps
            .iter()
            .max_by_key(|stamp| stamp.capacity[Axis::Devices].hard)?;
        Some(PoolForecast {
            geography: geography.to_owned(),
            environment,
            stamps: stamps.len(),
            as_large_as: largest.id.clone(),
            additions: Vec::new(),
        })
    };
    pools.into_iter().filter_map(pool).collect()
}

/// Notes how many stamps the pool needs this month, when that changes.
fn need(pool: &mut PoolForecast, fleet: &Fleet, growing: &[Growing<'_>], month: u32) {
    let of = |stamp: &Stamp| {
        stamp.kind == Kind::Shared
            && stamp.geography == pool.geography
            && stamp.environment == pool.environment
    };
    let Some(template) = fleet.stamp(&pool.as_large_as) else {
        return;
    };
    let needs = |axis: Axis| {
        let used = growing
            .iter()
            .filter(|g| of(g.stamp))
            .map(|g| g.used[axis as usize]);
        // A draining stamp takes nothing, but what it has needs a place.
        let takes = |s: &&Stamp| matches!(s.state, StampState::Active | StampState::Planned);
        let there = fleet.stamps().iter().filter(|s| of(s)).filter(takes);
        let soft = there.map(|stamp| amount(stamp.capacity[axis].soft));
        let short = used.sum::<f64>() - soft.sum::<f64>();
        whole(short / amount(template.capacity[axis].soft))
    };
    let most = Axis::ALL.map(|axis| (needs(axis), axis));
    // Of equals the first axis.
    let most = most.into_iter().rev().max_by_key(|(stamps, _)| *stamps);
    let before = pool.additions.last().map_or(0, |addition| addition.stamps);
    if let Some((stamps, axis)) = most.filter(|(stamps, _)| *stamps != before) {
        let addition = Addition {
            month,
            stamps,
            axis,
        };
        pool.additions.push(addition);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a forecast need not tell amounts above 2^53 apart"
)]
fn amount(amount: u64) -> f64 {
    amount as f64
}

/// Rounded up; 0 for nothing or less.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "negative and too large are what the cast saturates"
)]
fn whole(stamps: f64) -> u64 {
    stamps.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Source, read};
    use crate::load::Load;

    const STAMPS: &str = include_str!("../../../deploy/examples/fleet/stamps.toml");
    const TENANTS: &str = include_str!("../../../deploy/examples/fleet/tenants.toml");

    fn fleet() -> Fleet {
        let source = |name, text| Source { name, text };
        let sources = [
            source("stamps.toml", STAMPS),
            source("tenants.toml", TENANTS),
        ];
        read(&sources).unwrap().fleet
    }

    fn with_devices(fleet: &Fleet, devices: &[(&str, u64)]) -> Usage {
        let mut usage = Usage::none(fleet);
        for (name, devices) in devices {
            let load = Load::ZERO.with(Axis::Devices, *devices);
            assert!(usage.set(fleet, &StampId::parse(name).unwrap(), load));
        }
        usage
    }

    fn growth(text: &str) -> Growth {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn compound_growth_reaches_the_soft_limit_before_the_hard_one() {
        let fleet = fleet();
        let usage = with_devices(&fleet, &[("weu-1", 40_000)]);
        let forecast = forecast(&fleet, &usage, &growth("rate = \"10%\""), 12).unwrap();
        let stamp = forecast
            .stamps
            .iter()
            .find(|s| s.stamp.as_str() == "weu-1")
            .unwrap();
        // 40,000 x 1.1^8 = 85,744 and x 1.1^10 = 103,750.
        let reached = |month| {
            Some(Reached {
                month,
                axis: Axis::Devices,
            })
        };
        assert_eq!((stamp.soft, stamp.hard), (reached(8), reached(10)));
        assert!((stamp.fill_now - 0.4).abs() < 1e-9);
        assert!((stamp.fill_then - 0.4 * 1.1_f64.powi(12)).abs() < 1e-9);
    }

    #[test]
    fn a_pool_counts_planned_stamps_and_says_how_many_more_by_when() {
        let fleet = fleet();
        let usage = with_devices(&fleet, &[("eus-1", 60_000)]);
        let growth = growth("[[growth]]\ngeography = \"unitedstates\"\ndevices = 50000\n");
        let forecast = forecast(&fleet, &usage, &growth, 6).unwrap();
        let pool = forecast
            .pools
            .iter()
            .find(|p| p.geography == "unitedstates")
            .unwrap();
        assert_eq!(pool.stamps, 2, "the planned one counts");
        // 110, 160: within 2 x 80,000; 210, 260, 310, 360 thousand after that.
        let needs: Vec<(u32, u64)> = pool.additions.iter().map(|a| (a.month, a.stamps)).collect();
        assert_eq!(needs, [(3, 1), (4, 2), (6, 3)]);
        assert!(pool.additions.iter().all(|a| a.axis == Axis::Devices));
    }

    #[test]
    fn growth_of_an_entry_is_shared_by_size_and_replaces_the_rate() {
        let fleet = fleet();
        let usage = with_devices(&fleet, &[("weu-1", 1_000), ("weu-fabrikam", 1_000)]);
        let growth = growth(
            "rate = \"50%\"\n[[growth]]\ngeography = \"europe\"\nenvironment = \"production\"\ndevices = 500\n",
        );
        let forecast = forecast(&fleet, &usage, &growth, 1).unwrap();
        let fill = |name: &str| {
            let found = forecast.stamps.iter().find(|s| s.stamp.as_str() == name);
            found.unwrap().fill_then
        };
        // 100,000 and 400,000 devices take a fifth and four fifths of the 500.
        assert!((fill("weu-1") - 1_100.0 / 100_000.0).abs() < 1e-9);
        assert!((fill("weu-fabrikam") - 1_400.0 / 400_000.0).abs() < 1e-9);
    }

    #[test]
    fn growth_that_means_nothing_is_refused() {
        let fleet = fleet();
        let usage = Usage::none(&fleet);
        let nowhere = growth("[[growth]]\ngeography = \"mars\"\n");
        assert_eq!(
            forecast(&fleet, &usage, &nowhere, 1),
            Err(GrowthError::Nowhere(0))
        );
        let flat = growth("");
        assert_eq!(
            forecast(&fleet, &usage, &flat, 121),
            Err(GrowthError::Months(121))
        );
        for bad in ["5", "-1%", "1001%", "x%", "NaN%", ""] {
            assert!(Percent::parse(bad).is_err(), "{bad:?}");
        }
        assert!(toml::from_str::<Growth>("raet = \"5%\"").is_err());
    }
}
