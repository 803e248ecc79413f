//! Starts what is put to the test in a host: the consumer as it is, or a model of its protocol.

use std::path::Path;
use std::sync::{Arc, Mutex};

use stamp_consumer::{
    Consumer, ConsumerConfig, ConsumerError, Parts, Progress, TenantPlan, WorkerError,
};
use stamp_eventhubs::memory::MemoryHub;
use stamp_lake::Lake;
use stamp_lake::faults::Lie;
use stamp_model::TenantId;
use stamp_resilience::NoObserver;
use stamp_schema::Schema;
use stamp_telemetry::{Metrics, Registry, Traces};
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Handle};
use crate::chance::Chance;
use crate::host::Process;
use crate::hub::SimHub;
use crate::model::{self, Variant};
use crate::setup::{Setup, Sharing};
use crate::workload::{SCHEMA, TENANTS};
use crate::world::STAMP;

/// What is put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The consumer as it is.
    Consumer,
    /// The consumer as it is, over a lake that does something wrong.
    Deceived(Lie),
    /// A small model of its protocol, right or wrong on purpose.
    Model(Variant),
}

impl Program {
    pub(crate) fn is_consumer(self) -> bool {
        !matches!(self, Self::Model(_))
    }

    /// What is wrong with the lake.
    pub(crate) fn lie(self) -> Option<Lie> {
        match self {
            Self::Deceived(lie) => Some(lie),
            Self::Model(Variant::GuardRemoved) => Some(Lie::MarksMayGoBack),
            _ => None,
        }
    }
}

/// Starts the program. Inside the runtime of its host.
pub(crate) fn spawn(
    program: Program,
    setup: &Setup,
    hub: MemoryHub,
    lake: &Lake,
    actor: &Arc<Actor>,
    seed: u64,
) -> Process {
    let stop = CancellationToken::new();
    let lake = lake.with_schedule(Arc::new(Handle(actor.clone())));
    let hub = SimHub {
        inner: hub,
        actor: actor.clone(),
    };
    let (progress, registry) = (Arc::default(), Registry::new());
    let task = match program {
        Program::Model(variant) => tokio::spawn(model::run(
            hub,
            lake,
            variant,
            setup.partitions,
            stop.clone(),
        )),
        Program::Consumer | Program::Deceived(_) => {
            let config = config(setup, seed, actor.id);
            let parts = parts(hub, lake, &registry, &config, seed);
            let (progress, stop) = (Arc::clone(&progress), stop.clone());
            tokio::spawn(async move {
                let ended = consume(config, parts, &progress, stop).await;
                ended.map_err(|error| {
                    format!("{}{}", panicked(&error), stamp_consumer::chain(&error))
                })
            })
        }
    };
    Process {
        actor: actor.clone(),
        stop,
        task,
        progress,
        registry,
    }
}

fn panicked(error: &ConsumerError) -> &'static str {
    match error {
        ConsumerError::Panicked(_) | ConsumerError::Worker(WorkerError::Panicked { .. }) => {
            "panic: "
        }
        _ => "",
    }
}

fn config(setup: &Setup, seed: u64, id: u64) -> ConsumerConfig {
    let mut chance = Chance::new(seed, "config");
    let (ownership, start) = match setup.sharing {
        Sharing::Replicas {
            renew_ms,
            expire_ms,
        } => (
            format!(
                "[consumer.ownership]\nowner-id = \"r{id}\"\n\
                 renew-every = \"{renew_ms}ms\"\nexpire-after = \"{expire_ms}ms\"\n"
            ),
            "resilience = { start-spread = \"1s\" }\n",
        ),
        Sharing::Overlap | Sharing::OneByOne => (String::new(), ""),
    };
    let room = if setup.heavy.is_some() {
        format!(
            "tenant-buffer-max = \"256KiB\"\ntenant-stall-max = \"{}s\"\n",
            chance.within(1, 8)
        )
    } else {
        String::new()
    };
    let tenants = TENANTS.iter().enumerate().map(|(tenant, id)| {
        let quota = if setup.limited == Some(tenant) {
            ", quota = { devices-max = 2 }"
        } else {
            ""
        };
        format!("{{ id = \"{id}\", schema = \"any\"{quota} }},")
    });
    let tenants: String = tenants.collect();
    let text = format!(
        r#"
stamp = "{STAMP}"
hub = {{ endpoint = "amqp://127.0.0.1", hub = "telemetry" }}
store = {{ url = "memory:" }}
tenants = [{tenants}]
{start}
[tenancy]
claim-property = "tenant"
[consumer]
owner-level = {}
flush-age = "{}s"
flush-rows = {}
batch-events-max = {}
{room}{ownership}"#,
        setup.owner_level,
        chance.within(1, 12),
        chance.within(4, 60),
        chance.within(3, 40),
    );
    ConsumerConfig::parse(&text, Path::new("stamp.toml")).unwrap()
}

fn parts(
    hub: SimHub,
    lake: Lake,
    registry: &Registry,
    config: &ConsumerConfig,
    seed: u64,
) -> Parts<SimHub> {
    let schema = Arc::new(Schema::parse(SCHEMA).unwrap());
    let tenants = TENANTS.iter().map(|id| TenantPlan {
        id: TenantId::parse(id).unwrap(),
        schema: schema.clone(),
        devices: vec![format!("{}-*", &id[..1])],
        lake: lake.clone(),
    });
    Parts {
        hub,
        tenants: tenants.collect(),
        lake,
        metrics: Metrics::new(registry, &config.stamp).unwrap(),
        traces: Traces::off(),
        observer: Arc::new(NoObserver),
        seed,
        clock: Arc::new(|| 1_795_564_680_000_000),
    }
}

async fn consume(
    config: ConsumerConfig,
    parts: Parts<SimHub>,
    progress: &Mutex<Option<Progress>>,
    stop: CancellationToken,
) -> Result<(), ConsumerError> {
    let consumer = Consumer::open(&config, parts, &stop).await?;
    *progress.lock().unwrap() = Some(consumer.progress());
    consumer.run(stop).await
}
