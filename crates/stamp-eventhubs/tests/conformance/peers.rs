//! The peers that the promises run on, each with a clock that the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use stamp_emulator::{EmulatorConfig, EventHubsEmulator, Hub, HubConfig, OutgoingEvent};
use stamp_eventhubs::memory::MemoryHub;
use stamp_eventhubs::{AmqpConfig, AmqpHub, EngineHub, EventHub};
use stamp_model::{Event, HubIdentity, PartitionId};

/// Name of the hub on every peer. The capital is part of the test: identities are in lower case.
pub(crate) const HUB: &str = "Telemetry";

/// When every peer's hub was created, microseconds since 1970 UTC.
pub(crate) const CREATED_AT_US: i64 = 1_700_000_000_000_000;

/// A hub with four partitions, from its own side.
pub(crate) trait Peer: Send + Sync {
    type Hub: EventHub;
    fn hub(&self) -> Self::Hub;
    /// Stores an event at a time, in milliseconds after the hub's creation; returns its number.
    fn publish(&self, partition: PartitionId, after_ms: i64, event: Event) -> i64;
    fn expire_before(&self, partition: PartitionId, sequence: i64);
    fn recreate(&self);
}

pub(crate) struct Memory(MemoryHub);

impl Memory {
    pub(crate) async fn start() -> Self {
        let identity = HubIdentity {
            namespace: "127.0.0.1".into(),
            hub: HUB.to_lowercase().into(),
            created_at_ms: CREATED_AT_US / 1_000,
        };
        Self(MemoryHub::new(identity, 4))
    }
}

impl Peer for Memory {
    type Hub = MemoryHub;

    fn hub(&self) -> MemoryHub {
        self.0.clone()
    }

    fn publish(&self, partition: PartitionId, after_ms: i64, mut event: Event) -> i64 {
        event.enqueued_at_us = CREATED_AT_US + after_ms * 1_000;
        self.0.append(partition, event)
    }

    fn expire_before(&self, partition: PartitionId, sequence: i64) {
        self.0.expire_before(partition, sequence);
    }

    fn recreate(&self) {
        self.0.recreate(CREATED_AT_US / 1_000 + 1);
    }
}

pub(crate) struct Amqp {
    emulator: EventHubsEmulator,
    hub: Hub,
    now_us: Arc<AtomicI64>,
}

impl Amqp {
    pub(crate) async fn start() -> Self {
        let now_us = Arc::new(AtomicI64::new(CREATED_AT_US));
        let clock = Arc::clone(&now_us);
        let emulator = EventHubsEmulator::start(EmulatorConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            hubs: vec![HubConfig {
                name: HUB.to_owned(),
                partitions: 4,
                ..HubConfig::default()
            }],
            clock: Arc::new(move || clock.load(Ordering::SeqCst)),
            ..EmulatorConfig::default()
        })
        .await
        .unwrap();
        let hub = emulator.hub(HUB).unwrap();
        Self {
            emulator,
            hub,
            now_us,
        }
    }
}

impl Peer for Amqp {
    type Hub = AmqpHub;

    fn hub(&self) -> AmqpHub {
        // A small credit, so that every promise is kept across many refills of it.
        let config = AmqpConfig {
            hub: Some(HUB.to_owned()),
            credit: 8,
            ..AmqpConfig::default()
        };
        let connection_string = self.emulator.connection_string(HUB);
        AmqpHub::with_connection_string(&config, &connection_string).unwrap()
    }

    fn publish(&self, partition: PartitionId, after_ms: i64, event: Event) -> i64 {
        self.now_us
            .store(CREATED_AT_US + after_ms * 1_000, Ordering::SeqCst);
        let outgoing = OutgoingEvent {
            body: event.body,
            hub: event.hub,
            properties: event.properties,
            content_type: event.content_type,
            content_encoding: event.content_encoding,
            message_id: event.message_id,
            partition_key: Some("key".into()),
        };
        self.hub
            .publish(partition.number(), outgoing)
            .unwrap()
            .sequence
    }

    fn expire_before(&self, partition: PartitionId, sequence: i64) {
        self.hub.expire_before(partition.number(), sequence);
    }

    fn recreate(&self) {
        self.hub.recreate();
    }
}

/// As [`Amqp`], received by the engine.
pub(crate) struct AmqpEngine(Amqp);

impl AmqpEngine {
    pub(crate) async fn start() -> Self {
        Self(Amqp::start().await)
    }
}

impl Peer for AmqpEngine {
    type Hub = EngineHub;

    fn hub(&self) -> EngineHub {
        EngineHub(self.0.hub())
    }

    fn publish(&self, partition: PartitionId, after_ms: i64, event: Event) -> i64 {
        self.0.publish(partition, after_ms, event)
    }

    fn expire_before(&self, partition: PartitionId, sequence: i64) {
        self.0.expire_before(partition, sequence);
    }

    fn recreate(&self) {
        self.0.recreate();
    }
}
