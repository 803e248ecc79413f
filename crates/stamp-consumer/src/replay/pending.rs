//! From numbers of `replays` to files: the events are fetched, decoded and encoded as a flush does.

use std::collections::BTreeMap;
use std::sync::Arc;

use stamp_lake::{
    Columns, EncodeOptions, RawKind, Value, encode_raw, encode_readings, encode_rollups,
};
use stamp_model::{Event, PartitionId, RawRow, Readings, Values};
use stamp_rollup::{mark_late, partials, sorted_rows};
use stamp_schema::{Decoder, Schema};
use tokio_util::sync::CancellationToken;

use super::kept::{KEPT_COLUMNS, Kept, Key};
use super::target::{Files, Target, each_range, key_in};
use super::{ReplayError, ReplaySource, at, pull};
use crate::CommitError;
use crate::parts::{Encode, Known};
use crate::raw::rejected;

/// A row of `replays`.
#[derive(Debug, Clone)]
pub(super) struct Decided {
    pub(super) number: i64,
    pub(super) source: ReplaySource,
    pub(super) key: Key,
}

/// An event that is to be brought in.
#[derive(Debug)]
pub(super) struct Bringing {
    pub(super) number: i64,
    pub(super) source: ReplaySource,
    partition: PartitionId,
    event: Event,
}

impl Bringing {
    /// Whether it ends in one of the tenant's tables: always, but for one from `rejected` that the
    /// rules have come to refuse again since it was decided.
    pub(super) fn can_be_brought_in(&self, target: &Target) -> bool {
        self.source == ReplaySource::Quarantine || {
            let mut scratch = Readings::new(target.schema.shape(), self.partition);
            let mut decoder = Decoder::general(target.schema.clone());
            decoder.decode(&self.event, &mut scratch).is_ok()
        }
    }
}

/// Rows of `readings` of one partition, with the number that brought each in.
pub(super) struct ReadBack {
    readings: Readings,
    numbers: Vec<i64>,
}

impl Target {
    /// The events of these numbers, from memory or from where they are kept. One whose row is gone
    /// is left out.
    pub(super) async fn events(
        &self,
        rows: &[Decided],
        page: &BTreeMap<Key, Kept>,
        cancel: &CancellationToken,
    ) -> Result<Vec<Bringing>, ReplayError> {
        let mut found = BTreeMap::new();
        for source in [ReplaySource::Rejected, ReplaySource::Quarantine] {
            let missing = rows.iter().filter(|row| row.source == source);
            let missing: Vec<&Key> = missing
                .map(|row| &row.key)
                .filter(|key| !page.contains_key(key))
                .collect();
            self.fetch(source, &missing, &mut found, cancel).await?;
        }
        let events = rows.iter().filter_map(|row| {
            let kept = page.get(&row.key).or_else(|| found.get(&row.key))?;
            Some(Bringing {
                number: row.number,
                source: row.source,
                partition: kept.partition,
                event: kept.event.clone(),
            })
        });
        Ok(events.collect())
    }

    async fn fetch(
        &self,
        source: ReplaySource,
        keys: &[&Key],
        found: &mut BTreeMap<Key, Kept>,
        cancel: &CancellationToken,
    ) -> Result<(), ReplayError> {
        let table = match source {
            ReplaySource::Rejected => &self.rejected,
            ReplaySource::Quarantine => &self.quarantine,
        };
        each_range(keys.iter().copied(), async |filter| {
            let mut reader = table.reader(&KEPT_COLUMNS, filter.clone());
            let whose = self.id.as_str();
            while let Some(rows) = pull(&mut reader, table, &self.peer, whose, cancel).await? {
                let kept = (0..rows.rows()).filter_map(|row| Kept::read(source, &rows, row));
                let kept = kept.map(|kept| (kept.key(), kept));
                found.extend(kept.filter(|(key, _)| keys.contains(&key)));
            }
            Ok(())
        })
        .await
    }

    /// Events from quarantine that the tenant refuses.
    pub(super) fn encode_rejected(&self, events: &Arc<Vec<Bringing>>) -> Encode {
        let (schema, events) = (self.schema.clone(), events.clone());
        Arc::new(move |known| {
            let mut refused: BTreeMap<PartitionId, Vec<RawRow>> = BTreeMap::new();
            let open = above(&events, known);
            for event in open.filter(|event| event.source == ReplaySource::Quarantine) {
                let mut scratch = Readings::new(schema.shape(), event.partition);
                let mut decoder = Decoder::general(schema.clone());
                if let Err(rejection) = decoder.decode(&event.event, &mut scratch) {
                    let row = rejected(&event.event, event.partition, rejection);
                    refused.entry(event.partition).or_default().push(row);
                }
            }
            let options = EncodeOptions::default();
            files(refused.into_values(), |mut rows| {
                rows.sort_unstable_by_key(|row| row.sequence);
                encode_raw(&rows, RawKind::Rejected, &options)
            })
        })
    }

    pub(super) fn encode_readings(&self, events: &Arc<Vec<Bringing>>) -> Encode {
        let (schema, events, windows) = (self.schema.clone(), events.clone(), self.windows);
        Arc::new(move |known| {
            let mut decoder = Decoder::new(schema.clone());
            let decoded = decode(above(&events, known), &schema, &mut decoder);
            files(decoded.into_values(), |mut readings| {
                mark_late(&mut readings, 0, &windows);
                let order = sorted_rows(&readings, i64::MIN);
                encode_readings(schema.shape(), &readings, &order, &EncodeOptions::default())
            })
        })
    }

    pub(super) fn encode_rollups(&self, read: Vec<ReadBack>) -> Encode {
        let (metrics, windows, read) = (self.metrics.clone(), self.windows, Arc::new(read));
        Arc::new(move |known| {
            let mark = mark(known);
            files(read.iter(), |ReadBack { readings, numbers }| {
                let mut order = sorted_rows(readings, i64::MIN);
                order.retain(|&row| numbers[row as usize] > mark);
                let rows = partials(readings, &metrics, &order, &windows);
                encode_rollups(&rows, &EncodeOptions::default())
            })
        })
    }

    /// The rows that these events have in `readings`, with the metrics only.
    pub(super) async fn read_back(&self, rows: &[Decided]) -> Result<Vec<ReadBack>, CommitError> {
        let numbers: BTreeMap<Key, i64> = rows.iter().map(|row| (row.key, row.number)).collect();
        let table = &self.readings;
        let Some(snapshot) = table.newest().await.map_err(at(table))? else {
            return Ok(Vec::new());
        };
        let fixed = [
            "partition",
            "sequence",
            "enqueued_at",
            "device_id",
            "ts",
            "late",
            "clock_suspect",
        ];
        let fields = self.metrics.fields.iter().map(|field| field.name.as_str());
        // A field that no row has yet is no column of the table.
        let places: Vec<Option<usize>> = fields
            .clone()
            .scan(fixed.len(), |next, name| {
                let has = snapshot.has_column(name);
                let place = has.then_some(*next);
                *next += usize::from(has);
                Some(place)
            })
            .collect();
        let columns: Vec<&str> = fixed
            .into_iter()
            .chain(fields.filter(|name| snapshot.has_column(name)))
            .collect();
        let mut read: BTreeMap<PartitionId, ReadBack> = BTreeMap::new();
        each_range(numbers.keys(), async |filter| {
            let scanned = table.scan_where(&columns, filter, |found| {
                for row in 0..found.rows() {
                    let Some(key) = key_in(found, row) else {
                        continue;
                    };
                    let Some(&number) = numbers.get(&key) else {
                        continue;
                    };
                    let back = read.entry(key.partition).or_insert_with(|| ReadBack {
                        readings: Readings::new(&self.metrics, key.partition),
                        numbers: Vec::new(),
                    });
                    back.numbers.push(number);
                    push(&mut back.readings, key, found, row, &places);
                }
            });
            scanned.await.map_err(at(table))
        })
        .await?;
        Ok(read.into_values().collect())
    }
}

/// Appends a row of [`Target::read_back`].
fn push(into: &mut Readings, key: Key, rows: &Columns, row: usize, places: &[Option<usize>]) {
    let device = into.devices.intern(rows.text(3, row).unwrap_or(""));
    into.device.push(device);
    into.sequence.push(key.sequence);
    into.enqueued_at_us.push(key.enqueued_at_us);
    into.ts_us
        .push(rows.timestamp_us(4, row).unwrap_or(key.enqueued_at_us));
    into.late.push(rows.value(5, row) == Value::Bool(true));
    into.clock_suspect
        .push(rows.value(6, row) == Value::Bool(true));
    for (column, place) in into.columns.iter_mut().zip(places) {
        let value = place.map_or(Value::Null, |place| rows.value(place, row));
        match (&mut column.values, value) {
            (Values::F64(values), Value::F64(value)) => values.push(value),
            (Values::I64(values), Value::I64(value)) => values.push(value),
            _ => {
                column.push_null();
                continue;
            }
        }
        column.pushed();
    }
}

fn mark(known: &Known) -> i64 {
    match known {
        Known::UpTo(mark) => *mark,
        Known::Rows(_) | Known::Ranges(_) => i64::MAX,
    }
}

/// The events that the table does not have.
fn above<'e>(events: &'e [Bringing], known: &Known) -> impl Iterator<Item = &'e Bringing> {
    let mark = mark(known);
    events.iter().filter(move |event| event.number > mark)
}

/// The readings of the events that are valid, by partition.
fn decode<'e>(
    events: impl Iterator<Item = &'e Bringing>,
    schema: &Schema,
    decoder: &mut Decoder,
) -> BTreeMap<PartitionId, Readings> {
    let mut decoded = BTreeMap::new();
    for event in events {
        let readings = decoded
            .entry(event.partition)
            .or_insert_with(|| Readings::new(schema.shape(), event.partition));
        // Refused: a row of `rejected`, from the step before or all along.
        let _refused = decoder.decode(&event.event, readings);
    }
    decoded.retain(|_, readings| !readings.is_empty());
    decoded
}

fn files<T>(parts: impl Iterator<Item = T>, mut encode: impl FnMut(T) -> Files) -> Files {
    let mut files = Vec::new();
    for part in parts {
        files.extend(encode(part)?);
    }
    Ok(files)
}
