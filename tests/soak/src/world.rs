//! Everything there is: hub, blobs, the proxies before them, the replicas, and the clock of the run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use stamp_emulator::{EmulatorConfig, EventHubsEmulator, Hub, HubConfig};
use stamp_interop::{ACCOUNT_KEY, Azurite, FaultProxy};
use stamp_lake::{Checkpoints, Lake, StoreConfig};
use stamp_model::PartitionId;
use tokio::time::Instant;

use crate::Plan;
use crate::chaos::Chaos;
use crate::producer::{Producer, SCHEMA, TENANTS};
use crate::recount::{recount, verify};
use crate::replica::Replica;
use crate::report::{Outage, Report};

pub(crate) const CONTAINER: &str = "soak";
const NAMESPACE: &str = "127.0.0.1";
const KEY_FILE: &str = "account-key";

pub(crate) struct World {
    pub(crate) azurite: Azurite,
    emulator: EventHubsEmulator,
    pub(crate) hub: Hub,
    /// Between the replicas and the blobs.
    pub(crate) store: FaultProxy,
    /// Between the replicas and the hub.
    pub(crate) network: FaultProxy,
    /// Between the soak itself and the blobs.
    _calm: FaultProxy,
    checkpoints: Checkpoints,
    pub(crate) replicas: Vec<Replica>,
    producer: Producer,
    events_per_s: u64,
    began: Instant,
    folder: PathBuf,
    /// The highest checkpoint seen of each partition.
    settled: Vec<i64>,
    pub(crate) lag_max: u64,
}

impl World {
    pub(crate) async fn start(plan: &Plan, folder: &Path) -> Result<Self> {
        let azurite = Azurite::start();
        azurite.create_container(CONTAINER);
        let emulator = EventHubsEmulator::start(EmulatorConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            hubs: vec![HubConfig {
                name: "telemetry".into(),
                partitions: plan.partitions,
                ..HubConfig::default()
            }],
            ..EmulatorConfig::default()
        })
        .await?;
        let hub = emulator.hub("telemetry").context("the hub is configured")?;
        let store = FaultProxy::http(azurite.address())?;
        let calm = FaultProxy::http(azurite.address())?;
        let network = FaultProxy::bytes(emulator.address())?;
        std::fs::write(folder.join(KEY_FILE), ACCOUNT_KEY)?;
        let lake_config = StoreConfig {
            endpoint: Some(azurite.endpoint_behind(&calm)),
            account_key_file: Some(folder.join(KEY_FILE)),
            ..StoreConfig::new(format!("az://{}/{CONTAINER}", azurite.account_name()))
        };
        let lake = Lake::open(&lake_config, tokio::runtime::Handle::current())?;
        let mut world = Self {
            checkpoints: lake.checkpoints(NAMESPACE, "telemetry", "$default"),
            producer: Producer::new(hub.clone(), plan.seed),
            events_per_s: plan.events_per_s.into(),
            settled: vec![-1; plan.partitions as usize],
            began: Instant::now(),
            replicas: Vec::new(),
            folder: folder.to_owned(),
            lag_max: 0,
            azurite,
            emulator,
            hub,
            store,
            network,
            _calm: calm,
        };
        for number in 0..plan.replicas {
            let name = format!("replica-{number}");
            let config = world.write_config(&name, "60s")?;
            let home = folder.join(&name);
            let mut replica = Replica::new(&plan.program, config, home);
            replica.start()?;
            world.replicas.push(replica);
        }
        Ok(world)
    }

    /// The service's own defaults wherever they are not in the way of a run of minutes.
    fn write_config(&self, name: &str, request_timeout: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("schema.toml"), SCHEMA)?;
        let tenants: String = TENANTS
            .map(|tenant| {
                format!(
                    "[[tenants]]\nid = \"{tenant}\"\nschema = \"schema.toml\"\ndevices = [\"{tenant}-*\"]\n"
                )
            })
            .concat();
        let text = format!(
            r#"
stamp = "soak-1"
[hub]
endpoint = "amqp://{hub}"
hub = "telemetry"
[store]
url = "az://{account}/{CONTAINER}"
endpoint = "{store}"
account-key-file = "{key}"
request-timeout = "{request_timeout}"
[consumer]
buffer-max = "16MiB"
flush-age = "3s"
batch-wait-max = "200ms"
[consumer.ownership]
renew-every = "1s"
expire-after = "5s"
owner-id = "{name}"
[resilience]
start-spread = "500ms"
[telemetry]
listen = "127.0.0.1:0"
log-format = "text"
log-filter = "warn,stampworks=info"
{tenants}"#,
            hub = self.network.address(),
            account = self.azurite.account_name(),
            store = self.azurite.endpoint_behind(&self.store),
            key = self.folder.join(KEY_FILE).display(),
        );
        let file = folder.join("stamp.toml");
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// Sends what is due by now.
    pub(crate) fn produce(&mut self) -> Result<()> {
        let due = self.began.elapsed().as_millis() as u64 * self.events_per_s / 1_000;
        self.producer.send_up_to(due)
    }

    pub(crate) fn restart_ended(&mut self) -> Result<()> {
        self.replicas
            .iter_mut()
            .try_for_each(Replica::restart_if_ended)
    }

    /// Looks at every replica and at the checkpoints; the lag in events.
    pub(crate) async fn sample(&mut self) -> Result<u64> {
        for replica in &mut self.replicas {
            replica.sample().await?;
        }
        for (number, settled) in (0..).zip(&mut self.settled) {
            let partition = PartitionId::new(number).context("a partition's number")?;
            // What cannot be read now is read the next time; until then it counts as not settled.
            if let Ok(Some(checkpoint)) = self.checkpoints.read(partition).await {
                *settled = checkpoint.sequence;
            }
        }
        let lag = self.lag();
        self.lag_max = self.lag_max.max(lag);
        Ok(lag)
    }

    /// Events that no checkpoint covered when it was last looked.
    pub(crate) fn lag(&self) -> u64 {
        let behind = (0..).zip(&self.settled);
        let events: i64 = behind
            .map(|(number, settled)| self.hub.last_sequence(number) - settled)
            .sum();
        u64::try_from(events).unwrap_or(0)
    }

    /// Ends the replicas and counts everything again.
    pub(crate) async fn finish(
        mut self,
        plan: &Plan,
        chaos: Chaos,
        settled_in: Duration,
        outage: Option<Outage>,
    ) -> Result<Report> {
        let mut differences = Vec::new();
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let code = replica.terminate()?;
            if code != Some(0) {
                differences.push(format!(
                    "replica {number} ended with {code:?} when asked to stop"
                ));
            }
        }
        let sum = |name: &str| -> u64 { self.replicas.iter().map(|r| r.counted(name)).sum() };
        let violations = sum("stamp_invariant_violations_total");
        if violations > 0 {
            differences.push(format!(
                "{violations} violations of invariants were counted"
            ));
        }
        let ledger = self.folder.join("ledger.csv");
        self.producer.write_ledger(&ledger)?;
        // It reads a log of thousands of commits at once, and Azurite answers one after the other.
        let config = self.write_config("verify", "5min")?;
        differences.extend(verify(&plan.program, &config).await?);
        let recounted = recount(&self.azurite, &self.folder.join("tables"), &ledger).await?;
        differences.extend(recounted.differences);
        let report = Report {
            seed: plan.seed,
            time: plan.time,
            events: self.producer.sent(),
            readings: recounted.readings,
            rejected: recounted.rejected,
            quarantined: recounted.quarantined,
            backlog: recounted.backlog,
            returned: recounted.returned,
            windows: recounted.windows,
            kills: chaos.kills,
            pauses: chaos.pauses,
            faults: chaos.faults,
            broken_requests: self.store.broken(),
            requests: self.store.requests(),
            own_ends: self
                .replicas
                .iter()
                .flat_map(|r| r.own_ends.clone())
                .collect(),
            conflicts: sum("stamp_commit_conflicts_total"),
            dropped_by_marks: sum("stamp_duplicate_rows_dropped_total"),
            redelivered: sum("stamp_redelivered_events_total"),
            resident_bytes_max: self.replicas.iter().map(|r| r.resident_bytes_max).collect(),
            lag_max: self.lag_max,
            settled_in,
            outage,
            differences,
        };
        self.emulator.stop().await;
        Ok(report)
    }
}
