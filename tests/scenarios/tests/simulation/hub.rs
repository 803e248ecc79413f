//! The hub as one consumer sees it: with delays, lost links, refused and throttled requests.

use std::sync::Arc;
use std::time::Duration;

use stamp_eventhubs::memory::{MemoryHub, MemorySource};
use stamp_eventhubs::{
    EventHub, HubError, HubProperties, PartitionProperties, PartitionSource, StartPosition,
};
use stamp_model::{BatchLimits, EventBatch, PartitionId};

use crate::actor::Actor;

#[derive(Clone)]
pub(crate) struct SimHub {
    pub(crate) inner: MemoryHub,
    pub(crate) actor: Arc<Actor>,
}

pub(crate) struct SimSource {
    inner: MemorySource,
    open: Open,
}

/// Counts a receiver as open for as long as it lives.
struct Open {
    partition: PartitionId,
    actor: Arc<Actor>,
}

impl Open {
    fn new(partition: PartitionId, actor: &Arc<Actor>) -> Self {
        *actor.reading.lock().unwrap().entry(partition).or_default() += 1;
        Self {
            partition,
            actor: actor.clone(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut reading = self.actor.reading.lock().unwrap();
        if let Some(count) = reading.get_mut(&self.partition) {
            *count -= 1;
        }
    }
}

impl SimHub {
    async fn answer(&self, what: String) -> Result<(), HubError> {
        let nth = self.actor.nth(&what);
        self.actor.ask_hub(&what, nth).await;
        let fails = self.actor.is_dead() || self.actor.hub_fails(&what, nth);
        self.actor
            .note(format!("{what} {}", if fails { "fails" } else { "ok" }));
        if fails {
            Err(failure(self.actor.draw(&what, nth, 3)))
        } else {
            Ok(())
        }
    }
}

fn failure(kind: u64) -> HubError {
    match kind {
        0 => HubError::Throttled {
            retry_after: Some(Duration::from_secs(4)),
            detail: "busy on purpose".into(),
        },
        1 => HubError::Unreachable {
            peer: "hub:5671".into(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        },
        _ => HubError::ConnectionLost {
            detail: "cut on purpose".into(),
        },
    }
}

impl EventHub for SimHub {
    type Source = SimSource;

    async fn properties(&self) -> Result<HubProperties, HubError> {
        self.answer("hub properties".into()).await?;
        self.inner.properties().await
    }

    async fn partition_properties(
        &self,
        partition: PartitionId,
    ) -> Result<PartitionProperties, HubError> {
        self.answer(format!("hub properties of {partition}"))
            .await?;
        self.inner.partition_properties(partition).await
    }

    async fn open(
        &self,
        partition: PartitionId,
        start: StartPosition,
        owner_level: Option<i64>,
    ) -> Result<SimSource, HubError> {
        self.answer(format!("hub open {partition} {start:?}"))
            .await?;
        Ok(SimSource {
            inner: self.inner.open(partition, start, owner_level).await?,
            open: Open::new(partition, &self.actor),
        })
    }
}

impl PartitionSource for SimSource {
    async fn next_batch(&mut self, mut limits: BatchLimits) -> Result<EventBatch, HubError> {
        limits.events_max = limits.events_max.min(25);
        let batch = self.inner.next_batch(limits).await?;
        let (Some(first), Some(last)) = (batch.events.first(), batch.events.last()) else {
            return Ok(batch);
        };
        let actor = &self.open.actor;
        // By position, as a pull may be dropped and made again.
        let what = format!(
            "hub take {}: {} to {}",
            self.open.partition, first.sequence, last.sequence
        );
        // Nothing may be waited for from here on: a dropped pull must not lose its events.
        actor.moment(&what);
        let nth = actor.nth(&what);
        if actor.hub_fails(&what, nth) {
            actor.note(format!("{what} lost"));
            return Err(failure(2));
        }
        actor.note(what);
        Ok(batch)
    }

    async fn close(self) {
        self.inner.close().await;
    }
}
