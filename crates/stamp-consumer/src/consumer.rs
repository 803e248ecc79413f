//! The service of one stamp: opens hub and tables, runs a worker a partition, stops cleanly.

use std::path::Path;
use std::sync::{Arc, Mutex};

use stamp_eventhubs::{EventHub, HubError, HubProperties};
use stamp_lake::{Lake, LakeError, Table};
use stamp_model::{PartitionId, TenantId};
use stamp_resilience::{GaveUp, Observer, Peer, idempotent};
use stamp_rollup::Windows;
use stamp_schema::{Decoder, Schema};
use stamp_status::Facts;
use stamp_telemetry::{Metrics, Traces};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::commit::Committer;
use crate::config::{ConsumerConfig, TenancyConfig, read};
use crate::directory::Directory;
use crate::error::ConfigError;
use crate::flush::Sink;
use crate::memory::MemoryAccount;
use crate::muster::Muster;
use crate::owners::Owners;
use crate::ownership::Holding;
use crate::progress::Progress;
use crate::quota::SharedMeter;
use crate::replica::Replica;
use crate::shared::{Owned, Shared, Tenant};
use crate::turns::{Party, STAMP, Turns};
use crate::worker::{PartitionWorker, WorkerError};

/// A tenant with everything that its configuration names read and checked.
pub struct TenantPlan {
    /// Who.
    pub id: TenantId,
    /// Its compiled schema.
    pub schema: Arc<Schema>,
    /// Device ids and prefixes.
    pub devices: Vec<String>,
    /// Its store: the stamp's, or one of its own.
    pub lake: Lake,
}

/// What a consumer needs besides its configuration. Tests bring their own hub, store and seed.
pub struct Parts<H> {
    /// The hub to read.
    pub hub: H,
    /// The stamp's store: quarantine, gaps and checkpoints.
    pub lake: Lake,
    /// The tenants, in the order of the configuration.
    pub tenants: Vec<TenantPlan>,
    /// Where counts go.
    pub metrics: Metrics,
    /// Where spans of flushes go.
    pub traces: Traces,
    /// Where the retry layer reports.
    pub observer: Arc<dyn Observer>,
    /// Seed of every pause.
    pub seed: u64,
    /// The wall clock, for how old the oldest unread event is. Nothing in the tables depends on it.
    pub clock: Clock,
}

/// Microseconds since 1970 UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's own time as a [`Clock`].
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
    })
}

/// Why a consumer could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// See the cause.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// The hub did not say which partitions it has.
    #[error("asking the hub for its partitions")]
    Hub(#[source] GaveUp<HubError>),
    /// A store cannot be used.
    #[error("the store of {whose}")]
    Store {
        /// A tenant, or `the stamp`.
        whose: String,
        /// Why.
        #[source]
        cause: GaveUp<LakeError>,
    },
    /// A partition's worker ended; the others were stopped.
    #[error("reading")]
    Worker(#[source] WorkerError),
    /// A worker's task is gone. A fault of ours.
    #[error("a worker panicked: {0}")]
    Panicked(String),
}

/// Reads the schema and device files of every tenant and opens their stores.
///
/// `base` is the folder of the configuration file; relative paths start there. Opening a store
/// makes no request.
///
/// # Errors
/// [`ConfigError`] naming file, tenant and key.
pub fn plan_tenants(
    config: &ConsumerConfig,
    base: &Path,
    stamp_lake: &Lake,
    open: impl Fn(&stamp_lake::StoreConfig) -> Result<Lake, LakeError>,
) -> Result<Vec<TenantPlan>, ConfigError> {
    let mut plans = Vec::with_capacity(config.tenants.len());
    for tenant in &config.tenants {
        let path = base.join(&tenant.schema);
        let schema = Schema::parse(&read(&path)?).map_err(|cause| ConfigError::Schema {
            path,
            tenant: tenant.id.to_string(),
            cause: Box::new(cause),
        })?;
        let mut devices = tenant.devices.clone();
        if let Some(file) = &tenant.devices_file {
            let text = read(&base.join(file))?;
            let lines = text
                .lines()
                .map(str::trim)
                .filter(|l| !l.is_empty() && !l.starts_with("//"));
            devices.extend(lines.map(str::to_owned));
        }
        let lake = match &tenant.store {
            Some(store) => open(store).map_err(|cause| {
                ConfigError::value(
                    format!("tenants.store of {}", tenant.id),
                    crate::chain(&cause).to_string(),
                )
            })?,
            None => stamp_lake.clone(),
        };
        plans.push(TenantPlan {
            id: tenant.id.clone(),
            schema: Arc::new(schema),
            devices,
            lake,
        });
    }
    Ok(plans)
}

/// Checks that the tenants' device entries do not contradict each other.
///
/// # Errors
/// [`ConfigError::Value`] naming the entry and both tenants.
pub fn check_directory(plans: &[TenantPlan], tenancy: &TenancyConfig) -> Result<(), ConfigError> {
    directory(plans, tenancy).map(drop)
}

pub(crate) fn directory(
    plans: &[TenantPlan],
    tenancy: &TenancyConfig,
) -> Result<Directory, ConfigError> {
    let entries: Vec<(TenantId, Vec<String>)> = plans
        .iter()
        .map(|plan| (plan.id.clone(), plan.devices.clone()))
        .collect();
    Directory::new(&entries, tenancy)
}

/// The consumer of one stamp, ready to run.
pub struct Consumer<H: EventHub> {
    shared: Arc<Shared<H>>,
    /// When replicas share the partitions: what this one has of them.
    holding: Option<Holding>,
}

impl<H: EventHub> Consumer<H> {
    /// Asks the hub for its partitions, reaches every store once and builds the tables' writers.
    ///
    /// # Errors
    /// [`ConsumerError::Config`], [`ConsumerError::Hub`] or [`ConsumerError::Store`], naming what
    /// could not be used.
    pub async fn open(
        config: &ConsumerConfig,
        parts: Parts<H>,
        stop: &CancellationToken,
    ) -> Result<Self, ConsumerError> {
        config.check()?;
        let peer = |name: String, policy: &stamp_resilience::RetryPolicy, salt: u64| {
            Peer::new(
                name.clone(),
                policy.clone(),
                parts.seed.wrapping_add(salt),
                parts.observer.clone(),
            )
            .map_err(|cause| ConfigError::value(format!("resilience.{name}"), cause.to_string()))
        };
        let hub_peer = peer("eventhubs".into(), &config.resilience.eventhubs, 1)?;
        let store_peer = peer("store".into(), &config.resilience.store, 2)?;
        let hub = &parts.hub;
        let properties = hub_peer
            .run(idempotent("hub.properties"), stop, |_| hub.properties())
            .await
            .map_err(ConsumerError::Hub)?;
        probe(&store_peer, "the stamp", &parts.lake, stop).await?;
        let partitions = share(config, &properties)?;
        let cpu = Turns::new(encoders(config));
        let committer = |name: &'static str, table: &Table, peer: &Peer, party: Party| {
            Committer::new(
                name,
                table.clone(),
                peer.clone(),
                (cpu.clone(), party),
                parts.metrics.clone(),
            )
        };
        let windows = config.windows()?;
        // Every partition looks at its buffers once in `batch-wait-max`.
        let patience = (config.consumer.batch_wait_max * 2).min(config.consumer.flush_age / 2);
        let muster = || Muster::new(patience);
        let one_decoder = parts.tenants.len() * partitions.len() > DECODERS_MAX;
        let directory = directory(&parts.tenants, &config.tenancy)?;
        let mut tenants = Vec::with_capacity(parts.tenants.len());
        for (index, plan) in parts.tenants.iter().enumerate() {
            // A breaker and a budget of its own: one tenant's broken store opens nobody else's.
            let name = format!("store.{}", plan.id);
            let peer = peer(name, &config.resilience.store, 100 + index as u64)?;
            let commit_to = |name, table: &Table, peer: &Peer| committer(name, table, peer, index);
            let tenant = tenant(plan, &peer, windows, muster(), one_decoder, &commit_to);
            tenants.push(tenant);
        }
        let own = parts.lake.stamp();
        let (quarantine, gaps) = (own.quarantine(), own.gaps());
        let stamp_sink = Arc::new(Sink::Stamp {
            quarantine: committer("quarantine", &quarantine, &store_peer, STAMP),
            gaps: committer("gaps", &gaps, &store_peer, STAMP),
        });
        let partitions_all = properties.partitions.len();
        let owners = Owners::default();
        let owned = Owned::new(partitions.len(), partitions_all);
        let HubProperties { identity, .. } = properties;
        let buffer_max = usize::try_from(config.consumer.buffer_max.as_u64()).unwrap_or(usize::MAX);
        parts.metrics.buffer_limit(buffer_max as u64);
        let checkpoints = parts.lake.checkpoints(
            &identity.namespace,
            &identity.hub,
            &config.hub.consumer_group,
        );
        let holding = config.consumer.ownership.as_ref().map(|ownership| {
            let group = &config.hub.consumer_group;
            let blobs = parts
                .lake
                .ownerships(&identity.namespace, &identity.hub, group);
            let blobs = blobs.map_err(|cause| {
                ConfigError::value("consumer.ownership", crate::chain(&cause).to_string())
            })?;
            let (peer, metrics) = (store_peer.clone(), parts.metrics.clone());
            let all = partitions.clone();
            let holding = Holding::new(blobs, peer, metrics, ownership, all, parts.seed);
            Ok::<_, ConfigError>(holding.told_to(owners.clone()))
        });
        Ok(Self {
            holding: holding.transpose()?,
            shared: Arc::new(Shared {
                stamp: config.stamp.clone(),
                tenant_buffer_max: config.consumer.tenant_buffer_bytes(partitions.len()),
                checkpoints,
                identity,
                hub: parts.hub,
                config: config.consumer.clone(),
                partitions,
                owned,
                partitions_all,
                owners,
                meters: meters(config, &parts.tenants),
                start_spread: config.resilience.start_spread,
                windows,
                directory,
                tenants,
                stamp_sink,
                stamp_muster: muster(),
                quarantine,
                gaps,
                hub_peer,
                store_peer,
                account: MemoryAccount::new(buffer_max),
                metrics: parts.metrics,
                traces: parts.traces,
                progress: Progress::default(),
                marks: OnceCell::new(),
                clock: parts.clock,
            }),
        })
    }

    /// How far the partitions are, while it runs and after.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.progress.clone()
    }

    /// What the status page shows of it beside metrics, each time it is asked; `None` once the consumer is
    /// gone. Asking takes no lock that an event waits for.
    pub fn facts(&self) -> impl Fn() -> Option<Facts> + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || Some(Facts::Consumer(shared.upgrade()?.facts()))
    }

    /// The partitions that this process reads, or has its share of.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionId] {
        &self.shared.partitions
    }

    /// Runs until `stop`, or until a worker cannot go on; then the others are stopped too. A worker
    /// whose partition goes to another replica of the stamp ends alone.
    ///
    /// Everything that was taken is flushed, committed and checkpointed within `drain-max`; what
    /// is not is read again at the next start.
    ///
    /// # Errors
    /// [`ConsumerError::Worker`] with the first worker's reason; [`ConsumerError::Panicked`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), ConsumerError> {
        let stop = stop.child_token();
        if let Some((config, holding)) = self.shared.config.ownership.clone().zip(self.holding) {
            return Replica::new(self.shared, config, holding).run(stop).await;
        }
        let partitions = self.shared.partitions.len();
        self.shared.metrics.partitions_owned(partitions);
        self.shared.owners.read_here(&self.shared.partitions);
        let mut workers = JoinSet::new();
        for &partition in &self.shared.partitions {
            let worker = PartitionWorker::new(self.shared.clone(), partition);
            workers.spawn(worker.run(stop.clone(), CancellationToken::new()));
        }
        let mut first = Ok(());
        while let Some(ended) = workers.join_next().await {
            let outcome = match ended {
                Ok(outcome) => outcome.map_err(ConsumerError::Worker),
                Err(error) => Err(ConsumerError::Panicked(error.to_string())),
            };
            if let Err(error) = outcome {
                tracing::error!(error = %crate::chain(&error), "a worker ended, stopping the others");
                stop.cancel();
                if first.is_ok() {
                    first = Err(error);
                }
            }
        }
        first
    }
}

/// Most decoders of a process, of which one for each tenant and partition learns from nobody else's
/// messages and waits for nobody: some 7 KiB each. Above it a tenant has one.
const DECODERS_MAX: usize = 1_024;

/// How many flushes are encoded at a time: one a core, and no more than `buffer-max` pays for, so
/// that a machine with many cores needs no more memory than was asked for (docs/performance.md).
fn encoders(config: &ConsumerConfig) -> usize {
    const BUFFER_PER_ENCODER: u64 = 32 << 20;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let paid = config.consumer.buffer_max.as_u64() / BUFFER_PER_ENCODER;
    cores
        .min(usize::try_from(paid).unwrap_or(usize::MAX))
        .max(1)
}

/// The meters of the tenants that have a quota, in the order of the plans.
fn meters(config: &ConsumerConfig, plans: &[TenantPlan]) -> Vec<Option<SharedMeter>> {
    let meter = |plan: &TenantPlan| {
        let tenant = config.tenants.iter().find(|tenant| tenant.id == plan.id)?;
        tenant.quota.clone().map(SharedMeter::new)
    };
    plans.iter().map(meter).collect()
}

fn tenant(
    plan: &TenantPlan,
    peer: &Peer,
    windows: Windows,
    muster: Arc<Muster>,
    one_decoder: bool,
    committer: &impl Fn(&'static str, &Table, &Peer) -> Committer,
) -> Tenant {
    let root = plan.lake.tenant(&plan.id);
    let shape = Arc::new(plan.schema.shape().clone());
    let (readings, rollups, rejected) = (root.readings(&shape), root.rollups(), root.rejected());
    let sink = Sink::Tenant {
        shape,
        windows,
        readings: committer("readings", &readings, peer),
        rollups: committer("rollups", &rollups, peer),
        rejected: committer("rejected", &rejected, peer),
    };
    Tenant {
        id: plan.id.clone(),
        schema: plan.schema.clone(),
        sink: Arc::new(sink),
        peer: peer.clone(),
        tables: [readings, rollups, rejected],
        replays: root.replays(),
        rolling_forward: Semaphore::new(1),
        muster,
        decoder: one_decoder.then(|| Mutex::new(Decoder::new(plan.schema.clone()))),
    }
}

async fn probe(
    peer: &Peer,
    whose: &str,
    lake: &Lake,
    stop: &CancellationToken,
) -> Result<(), ConsumerError> {
    peer.run(idempotent("store.probe"), stop, |_| lake.probe())
        .await
        .map_err(|cause| ConsumerError::Store {
            whose: whose.to_owned(),
            cause,
        })
}

/// The partitions this process reads: all, or the configured ones, which must exist.
fn share(config: &ConsumerConfig, hub: &HubProperties) -> Result<Vec<PartitionId>, ConfigError> {
    let Some(wanted) = &config.consumer.partitions else {
        return Ok(hub.partitions.clone());
    };
    let chosen: Vec<PartitionId> = hub
        .partitions
        .iter()
        .copied()
        .filter(|p| wanted.contains(&p.number()))
        .collect();
    if chosen.len() == wanted.len() {
        return Ok(chosen);
    }
    let missing: Vec<u32> = wanted
        .iter()
        .copied()
        .filter(|&w| !hub.partitions.iter().any(|p| p.number() == w))
        .collect();
    Err(ConfigError::value(
        "consumer.partitions",
        format!(
            "names {missing:?}, but the hub has {} partitions",
            hub.partitions.len()
        ),
    ))
}
