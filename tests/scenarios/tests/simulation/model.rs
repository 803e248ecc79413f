//! A small model of the commit protocol over the real tables, to show that the checker sees.
//!
//! The consumer has no switch for being wrong, and none shall come in for a test. So the wrong
//! protocols live here: the same hub, tables, encoders, faults and checker, and some lines of
//! protocol with one fault each. It writes batch by batch, one table after the other, and has no
//! overflow and no ownership.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use stamp_eventhubs::{EventHub, PartitionSource, StartPosition};
use stamp_lake::{
    Checkpoint, EncodeOptions, EncodedFile, Lake, LakeError, RawKind, Table, encode_gaps,
    encode_raw, encode_readings, encode_rollups,
};
use stamp_model::{
    AppId, BatchLimits, Event, GapRow, Mark, PartitionId, QuarantineReason, RawRow, Readings,
    START, StampId, TenantId,
};
use stamp_rollup::{Windows, partials, sorted_rows};
use stamp_schema::{Decoder, Schema};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::actor::HUB;
use crate::hub::SimHub;
use crate::workload::{SCHEMA, TENANTS};
use crate::world::{STAMP, identity};

/// What is wrong with the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Nothing.
    Right,
    /// Rows that the mark covers are written all the same.
    NoMarkFilter,
    /// The mark is read once, and not again after a conflict.
    MarkReadOnce,
    /// The checkpoint is written before the rows are.
    CheckpointFirst,
    /// A table that failed twice is left out.
    SkipTable,
    /// Sequence numbers that never came are passed over.
    GapNotRecorded,
    /// Nothing, but it asks for marks that lie behind and takes the refusal for an answer.
    ReliesOnGuard,
    /// The same over a lake that does not refuse.
    GuardRemoved,
}

/// Encodes the rows above a mark.
type Encode = Box<dyn Fn(i64) -> Result<Vec<EncodedFile>, LakeError> + Send + Sync>;

pub(crate) async fn run(
    hub: SimHub,
    lake: Lake,
    variant: Variant,
    partitions: u32,
    stop: CancellationToken,
) -> Result<(), String> {
    let mut workers = JoinSet::new();
    for number in 0..partitions {
        let worker = Worker {
            hub: hub.clone(),
            lake: lake.clone(),
            variant,
            partition: PartitionId::new(number).unwrap(),
            schema: Arc::new(Schema::parse(SCHEMA).unwrap()),
        };
        workers.spawn(worker.run());
    }
    stop.cancelled().await;
    workers.shutdown().await;
    Ok(())
}

struct Worker {
    hub: SimHub,
    lake: Lake,
    variant: Variant,
    partition: PartitionId,
    schema: Arc<Schema>,
}

impl Worker {
    async fn rest(&self) {
        self.hub.actor.pass(HUB, 500).await;
    }

    async fn run(self) {
        let limits = BatchLimits {
            events_max: 20,
            bytes_max: 1 << 20,
            wait_max: std::time::Duration::from_secs(1),
        };
        let mut position = self.checkpoint().await;
        loop {
            let Ok(mut source) = self.hub.open(self.partition, after(position), None).await else {
                self.rest().await;
                continue;
            };
            while let Ok(batch) = source.next_batch(limits).await {
                let events = batch.events.into_iter();
                let events: Vec<Event> = events.filter(|event| event.sequence > position).collect();
                if let Some(last) = events.last().map(|event| event.sequence) {
                    self.write(position, &events, last).await;
                    position = last;
                }
            }
            self.rest().await;
        }
    }

    async fn write(&self, position: i64, events: &[Event], last: i64) {
        if self.variant == Variant::CheckpointFirst {
            self.move_checkpoint(last).await;
        }
        let gaps = self.gaps(position, events);
        if !gaps.is_empty() && self.variant != Variant::GapNotRecorded {
            self.commit(&self.lake.stamp().gaps(), last, &gaps_of(gaps))
                .await;
        }
        for (table, encode) in self.tables(events) {
            self.commit(&table, last, &encode).await;
        }
        self.move_checkpoint(last).await;
    }

    async fn commit(&self, table: &Table, last: i64, encode: &Encode) {
        let app = AppId::new(&StampId::parse(STAMP).unwrap(), &identity(), self.partition);
        let mut first_mark = None;
        let mut failures = 0;
        loop {
            match self
                .attempt(table, &app, last, encode, &mut first_mark)
                .await
            {
                Ok(()) | Err(LakeError::MarkNotForward { .. }) => return,
                Err(_) => failures += 1,
            }
            if self.variant == Variant::SkipTable && failures == 2 {
                return;
            }
            self.rest().await;
        }
    }

    async fn attempt(
        &self,
        table: &Table,
        app: &AppId,
        last: i64,
        encode: &Encode,
        first_mark: &mut Option<i64>,
    ) -> Result<(), LakeError> {
        let snapshot = table.load().await?;
        let mark = snapshot.mark(app).unwrap_or(START);
        let above = match self.variant {
            Variant::NoMarkFilter => START,
            Variant::MarkReadOnce => *first_mark.get_or_insert(mark),
            _ => mark,
        };
        let asks_anyway = matches!(self.variant, Variant::ReliesOnGuard | Variant::GuardRemoved);
        if above >= last && !asks_anyway {
            return Ok(());
        }
        let mut files = Vec::new();
        for file in encode(above)? {
            files.push(table.put(&file).await?);
        }
        let marks = [Mark {
            app: app.clone(),
            sequence: last,
        }];
        table.append(&snapshot, files, &marks).await.map(drop)
    }

    async fn checkpoint(&self) -> i64 {
        let hub = identity();
        let checkpoints = self.lake.checkpoints(&hub.namespace, &hub.hub, "$Default");
        loop {
            match checkpoints.read(self.partition).await {
                Ok(at) => return at.map_or(START, |at| at.sequence),
                Err(_) => self.rest().await,
            }
        }
    }

    async fn move_checkpoint(&self, sequence: i64) {
        let hub = identity();
        let checkpoints = self.lake.checkpoints(&hub.namespace, &hub.hub, "$Default");
        let to = Checkpoint {
            sequence,
            offset: String::new(),
            hub_created_at_ms: Some(hub.created_at_ms),
        };
        while checkpoints.advance(self.partition, &to).await.is_err() {
            self.rest().await;
        }
    }

    /// What never came before and between these events.
    fn gaps(&self, position: i64, events: &[Event]) -> Vec<GapRow> {
        let mut before = position;
        let mut gaps = Vec::new();
        for event in events {
            if before != START && event.sequence > before + 1 {
                gaps.push(GapRow {
                    partition: self.partition,
                    sequence_first: before + 1,
                    sequence_last: event.sequence - 1,
                    next_enqueued_at_us: event.enqueued_at_us,
                    reason: "retention",
                });
            }
            before = event.sequence;
        }
        gaps
    }

    /// Every table that gets rows of these events, in the order of the consumer.
    fn tables(&self, events: &[Event]) -> Vec<(Table, Encode)> {
        let mut rows: BTreeMap<usize, (Readings, Vec<RawRow>)> = BTreeMap::new();
        let mut quarantine = Vec::new();
        for event in events {
            match tenant_of(event) {
                Err(reason) => quarantine.push(self.raw(event, reason.code())),
                Ok(tenant) => {
                    let fresh = || {
                        (
                            Readings::new(self.schema.shape(), self.partition),
                            Vec::new(),
                        )
                    };
                    let (readings, rejected) = rows.entry(tenant).or_insert_with(fresh);
                    if let Err(why) = Decoder::new(self.schema.clone()).decode(event, readings) {
                        rejected.push(self.raw(event, why.code.code()));
                    }
                }
            }
        }
        let mut tables = Vec::new();
        if !quarantine.is_empty() {
            tables.push((
                self.lake.stamp().quarantine(),
                raw_of(quarantine, RawKind::Quarantine),
            ));
        }
        for (tenant, (readings, rejected)) in rows {
            let root = self.lake.tenant(&TenantId::parse(TENANTS[tenant]).unwrap());
            if !rejected.is_empty() {
                tables.push((root.rejected(), raw_of(rejected, RawKind::Rejected)));
            }
            if !readings.is_empty() {
                let readings = Arc::new(readings);
                tables.push((
                    root.readings(self.schema.shape()),
                    self.readings_of(&readings),
                ));
                tables.push((root.rollups(), self.rollups_of(&readings)));
            }
        }
        tables
    }

    fn readings_of(&self, readings: &Arc<Readings>) -> Encode {
        let (readings, schema) = (readings.clone(), self.schema.clone());
        Box::new(move |above| {
            let rows = sorted_rows(&readings, above);
            encode_readings(schema.shape(), &readings, &rows, &EncodeOptions::default())
        })
    }

    fn rollups_of(&self, readings: &Arc<Readings>) -> Encode {
        let (readings, schema) = (readings.clone(), self.schema.clone());
        let windows = Windows {
            window_s: 60,
            lateness: std::time::Duration::from_secs(300),
        };
        Box::new(move |above| {
            let rows = sorted_rows(&readings, above);
            let rollups = partials(&readings, schema.shape(), &rows, &windows);
            encode_rollups(&rollups, &EncodeOptions::default())
        })
    }

    fn raw(&self, event: &Event, reason: &'static str) -> RawRow {
        RawRow {
            reason,
            detail: String::new(),
            rule: String::new(),
            tenant: None,
            device_id: event.hub.device_id.clone(),
            partition: self.partition,
            sequence: event.sequence,
            offset: event.offset.clone(),
            enqueued_at_us: event.enqueued_at_us,
            content_type: None,
            properties: event.properties.clone(),
            body: Bytes::copy_from_slice(&event.body),
        }
    }
}

fn after(position: i64) -> StartPosition {
    if position == START {
        StartPosition::Earliest
    } else {
        StartPosition::AfterSequence(position)
    }
}

fn raw_of(rows: Vec<RawRow>, kind: RawKind) -> Encode {
    Box::new(move |above| {
        let from = rows.partition_point(|row| row.sequence <= above);
        encode_raw(&rows[from..], kind, &EncodeOptions::default())
    })
}

fn gaps_of(rows: Vec<GapRow>) -> Encode {
    Box::new(move |above| {
        let from = rows.partition_point(|row| row.sequence_last <= above);
        encode_gaps(&rows[from..], &EncodeOptions::default())
    })
}

fn tenant_of(event: &Event) -> Result<usize, QuarantineReason> {
    let device = event
        .hub
        .device_id
        .as_ref()
        .ok_or(QuarantineReason::NoDevice)?;
    let tenant = TENANTS
        .iter()
        .position(|t| device.starts_with(&format!("{}-", &t[..1])));
    let tenant = tenant.ok_or(QuarantineReason::UnknownTenant)?;
    if event.properties.is_empty() {
        Ok(tenant)
    } else {
        Err(QuarantineReason::TenantMismatch)
    }
}
