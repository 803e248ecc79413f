//! The tables compared with what the devices know they sent.

use std::collections::BTreeMap;

use serde::Serialize;
use stamp_lake::{Lake, StoreConfig};
use stamp_model::{Shape, TenantId};
use tokio::runtime::Handle;

use super::devices::Ledger;
use super::folder::{Folder, STAMPS, TENANTS};
use crate::exit::Failure;
use crate::fleet::table;
use crate::output;

/// Rows of one device in one stamp: how often each of its numbers is there.
type Numbers = BTreeMap<i64, u64>;

/// Numbers of a device in one stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Part {
    stamp: String,
    first: i64,
    last: i64,
    rows: u64,
}

/// One device, from its first reading to its last.
#[derive(Debug, Serialize)]
pub(super) struct DeviceLine {
    device: String,
    tenant: String,
    /// Readings that a hub has confirmed.
    sent: u64,
    /// Where they are, in the order of their numbers.
    parts: Vec<Part>,
    /// What the test hub said when it sent the device away.
    rejected: Option<String>,
    differences: Vec<String>,
}

/// The whole story.
#[derive(Debug, Serialize)]
pub(super) struct Story {
    devices: Vec<DeviceLine>,
    readings: u64,
    differences: u64,
}

impl Story {
    pub(super) fn differences(&self) -> u64 {
        self.differences
    }
}

/// How many rows of readings all stamps have.
pub(super) async fn count(folder: &Folder) -> Result<u64, Failure> {
    let found = read(folder).await?;
    let devices = found.values().flat_map(BTreeMap::values);
    Ok(devices.flat_map(BTreeMap::values).sum())
}

/// Reads every stamp's tables and compares them with the ledger.
pub(super) async fn compare(folder: &Folder, ledger: &Ledger) -> Result<Story, Failure> {
    let found = read(folder).await?;
    let mut devices = Vec::with_capacity(ledger.devices.len());
    for (id, known) in &ledger.devices {
        let tenant = TENANTS.iter().find(|tenant| id.starts_with(tenant.id));
        let Some(tenant) = tenant else {
            return Err(Failure::because(format!("{id} is no device of the demo")));
        };
        let mut parts = Vec::new();
        let mut all = Numbers::new();
        for stamp in &STAMPS {
            if let Some(numbers) = found.get(stamp.id).and_then(|devices| devices.get(id)) {
                parts.extend(part(stamp.id, numbers));
                for (number, rows) in numbers {
                    *all.entry(*number).or_default() += rows;
                }
            }
        }
        let is_test = |refusal: &&String| refusal.contains(&folder.hub(0));
        let rejected = known.refusals.iter().rfind(is_test).cloned();
        let mut differences = gaps_and_doubles(known.sent, &all);
        let route: Vec<&str> = parts.iter().map(|part| part.stamp.as_str()).collect();
        if route != [STAMPS[0].id, tenant.production] {
            differences.push(format!("is on {route:?}"));
        }
        if parts.windows(2).any(|pair| pair[0].last >= pair[1].first) {
            differences.push("is on two stamps at once".to_owned());
        }
        if rejected.is_none() {
            differences.push("was not rejected by the test hub".to_owned());
        }
        devices.push(DeviceLine {
            device: id.clone(),
            tenant: tenant.id.to_owned(),
            sent: known.sent,
            parts,
            rejected,
            differences,
        });
    }
    let sum = |of: fn(&DeviceLine) -> u64| devices.iter().map(of).sum();
    Ok(Story {
        readings: sum(|device| device.parts.iter().map(|part| part.rows).sum()),
        differences: sum(|device| device.differences.len() as u64),
        devices,
    })
}

/// Every confirmed number once, and no other.
fn gaps_and_doubles(sent: u64, all: &Numbers) -> Vec<String> {
    let missing = (0..sent)
        .filter(|n| !all.contains_key(&n.cast_signed()))
        .count();
    let twice = all.values().filter(|&&rows| rows > 1).count();
    let unsent = all.keys().filter(|&&n| n.cast_unsigned() >= sent).count();
    let told = [
        (missing, "readings are in no table"),
        (twice, "readings are there more than once"),
        (unsent, "readings are there that no hub has confirmed"),
    ];
    let told = told.into_iter().filter(|&(count, _)| count > 0);
    told.map(|(count, what)| format!("{count} {what}"))
        .collect()
}

fn part(stamp: &str, numbers: &Numbers) -> Option<Part> {
    Some(Part {
        stamp: stamp.to_owned(),
        first: *numbers.first_key_value()?.0,
        last: *numbers.last_key_value()?.0,
        rows: numbers.values().sum(),
    })
}

/// By stamp and device.
async fn read(
    folder: &Folder,
) -> Result<BTreeMap<&'static str, BTreeMap<String, Numbers>>, Failure> {
    let mut found = BTreeMap::new();
    for stamp in &STAMPS {
        let unreadable =
            |cause| Failure::failed(format!("the tables of {} cannot be read", stamp.id), cause);
        let store = StoreConfig::new(folder.tables(stamp.id));
        let lake = Lake::open(&store, Handle::current()).map_err(unreadable)?;
        let devices: &mut BTreeMap<String, Numbers> = found.entry(stamp.id).or_default();
        for tenant in stamp.tenants {
            let tenant = TenantId::parse(tenant)
                .map_err(|cause| Failure::failed("a tenant of the demo", cause))?;
            // The fields are read by their names.
            let readings = lake.tenant(&tenant).readings(&Shape::default());
            let scanned = readings.scan(&["device_id", "n"], |rows| {
                for row in 0..rows.rows() {
                    if let (Some(device), Some(number)) = (rows.text(0, row), rows.i64(1, row)) {
                        let numbers = devices.entry(device.to_owned()).or_default();
                        *numbers.entry(number).or_default() += 1;
                    }
                }
            });
            scanned.await.map_err(unreadable)?;
        }
    }
    Ok(found)
}

/// The story as a person reads it.
pub(super) fn print(story: &Story) {
    let mut rows = vec![
        [
            "device",
            "sent",
            "test",
            "production",
            "rejected by the test hub",
            "differences",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let shown = |part: Option<&Part>| {
        part.map_or("-".to_owned(), |part| {
            format!("{}: {} to {}", part.stamp, part.first, part.last)
        })
    };
    for device in &story.devices {
        let differences = match device.differences.as_slice() {
            [] => "none".to_owned(),
            some => some.join(", "),
        };
        rows.push(vec![
            device.device.clone(),
            device.sent.to_string(),
            shown(device.parts.first()),
            shown(device.parts.get(1)),
            device.rejected.as_ref().map_or("no", |_| "yes").to_owned(),
            differences,
        ]);
    }
    table(&rows).iter().for_each(|line| output::line(line));
    output::line(&format!(
        "{} readings of {} devices: {} differences",
        story.readings,
        story.devices.len(),
        story.differences
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_confirmed_reading_must_be_there_once_and_no_other() {
        let numbers = |all: &[(i64, u64)]| all.iter().copied().collect::<Numbers>();
        assert_eq!(
            gaps_and_doubles(3, &numbers(&[(0, 1), (1, 1), (2, 1)])),
            Vec::<String>::new()
        );
        for (all, word) in [
            (vec![(0, 1), (2, 1)], "no table"),
            (vec![(0, 1), (1, 2), (2, 1)], "more than once"),
            (vec![(0, 1), (1, 1), (2, 1), (3, 1)], "no hub has confirmed"),
        ] {
            let told = gaps_and_doubles(3, &numbers(&all));
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].contains(word), "{told:?}");
        }
    }
}
