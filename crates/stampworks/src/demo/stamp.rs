//! One stamp of the demo: its hub in the emulator, its devices, its consumer and its ledger.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use stamp_consumer::{Consumer, ConsumerConfig, ConsumerError, Parts, Progress, plan_tenants};
use stamp_emulator::{EventHubsEmulator, Hub, HubConfig};
use stamp_eventhubs::AmqpHub;
use stamp_lake::Lake;
use stamp_model::{PartitionId, TenantId};
use stamp_telemetry::{
    Condition, Health, Metrics, Registry, RetryMetrics, Served, StatusPage, Traces, serve,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::demo::fleet::{Customer, Fleet};
use crate::demo::ledger::Ledger;
use crate::demo::verify::{StampReport, verify};
use crate::exit::Failure;
use crate::output;

const PARTITIONS: u32 = 4;

/// What a demo stamp is made from.
pub(crate) struct StampPlan {
    pub(crate) id: &'static str,
    pub(crate) customers: &'static [Customer],
    /// Of each customer.
    pub(crate) devices: usize,
    pub(crate) seed: u64,
    pub(crate) folder: PathBuf,
    /// Where its endpoints are, if anywhere.
    pub(crate) listen: Option<SocketAddr>,
}

/// A running stamp with its senders.
pub(crate) struct DemoStamp {
    plan: StampPlan,
    hub: Hub,
    fleet: Fleet,
    ledger: Ledger,
    lake: Lake,
    progress: Progress,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ConsumerError>>,
    endpoints: Option<Endpoints>,
}

/// The endpoints of a stamp, as `stampworks consume` has them.
struct Endpoints {
    served: Served,
    closed: CancellationToken,
    health: Health,
    page: StatusPage,
}

impl Endpoints {
    /// Serves them, and says where.
    async fn open(
        listen: SocketAddr,
        config: &ConsumerConfig,
        registry: Registry,
    ) -> Result<Self, Failure> {
        let (health, page) = (Health::new(), StatusPage::consumer(&config.stamp));
        health.met(Condition::ConfigLoaded);
        let closed = CancellationToken::new();
        let serving = serve(
            listen,
            health.clone(),
            registry,
            page.clone(),
            closed.clone(),
        );
        let served = serving
            .await
            .map_err(|cause| Failure::failed("cannot serve the status page", cause))?;
        output::note(&format!(
            "{}: status page http://{}/",
            config.stamp, served.address
        ));
        Ok(Self {
            served,
            closed,
            health,
            page,
        })
    }

    fn opened(&self, consumer: &Consumer<AmqpHub>) {
        self.health.met(Condition::HubReached);
        self.health.met(Condition::StoreReached);
        self.page.shows(consumer.facts());
    }

    async fn close(mut self) {
        self.closed.cancel();
        self.served.stopped().await;
    }
}

pub(crate) fn hub_config(stamp: &str) -> HubConfig {
    HubConfig {
        name: hub_name(stamp),
        partitions: PARTITIONS,
        ..HubConfig::default()
    }
}

fn hub_name(stamp: &str) -> String {
    format!("{stamp}-telemetry")
}

impl DemoStamp {
    /// Writes the stamp's configuration beside its tables, as a user would, and starts it.
    pub(crate) async fn start(
        plan: StampPlan,
        emulator: &EventHubsEmulator,
    ) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |cause| Failure::failed(what, cause);
        let name = hub_name(plan.id);
        let hub = emulator
            .hub(&name)
            .ok_or_else(|| Failure::because(format!("the emulator has no hub {name}")))?;
        let config_file = write_config(&plan, emulator)
            .map_err(failed("cannot write the stamp's configuration"))?;
        let config = ConsumerConfig::load(&config_file)?;
        let handle = Handle::current();
        let in_store = |cause| Failure::failed("cannot open the tables' folder", cause);
        let lake = Lake::open(&config.store, handle.clone()).map_err(in_store)?;
        let base = config_file.parent().unwrap_or(&plan.folder);
        let tenants = plan_tenants(&config, base, &lake, |store| {
            Lake::open(store, handle.clone())
        })?;
        let registry = Registry::new();
        let in_telemetry = |cause| Failure::failed("cannot set up metrics", cause);
        let metrics = Metrics::new(&registry, &config.stamp).map_err(in_telemetry)?;
        let observer = RetryMetrics::new(&registry, &config.stamp).map_err(in_telemetry)?;
        let amqp = AmqpHub::new(&config.hub)
            .map_err(|cause| Failure::failed("cannot use the hub", cause))?;
        let endpoints = match plan.listen {
            Some(listen) => Some(Endpoints::open(listen, &config, registry).await?),
            None => None,
        };
        let stop = CancellationToken::new();
        let parts = Parts {
            hub: amqp,
            lake: lake.clone(),
            tenants,
            metrics,
            traces: Traces::off(),
            observer: Arc::new(observer),
            seed: plan.seed,
            clock: stamp_consumer::wall_clock(),
        };
        let consumer = Consumer::open(&config, parts, &stop).await?;
        if let Some(endpoints) = &endpoints {
            endpoints.opened(&consumer);
        }
        let progress = consumer.progress();
        let running = tokio::spawn(consumer.run(stop.clone()));
        let fleet = Fleet::new(plan.customers, plan.devices, plan.seed);
        Ok(Self {
            plan,
            hub,
            fleet,
            ledger: Ledger::default(),
            lake,
            progress,
            stop,
            running,
            endpoints,
        })
    }

    pub(crate) fn devices(&self) -> usize {
        self.fleet.len()
    }

    /// Lets the next device send one message and notes what should become of it.
    pub(crate) fn send_one(&mut self) -> Result<(), Failure> {
        let sent = self.fleet.send(Timestamp::now());
        self.hub
            .publish_keyed(&sent.key, sent.event)
            .map_err(|cause| Failure::failed("the emulator refuses a message", cause))?;
        self.ledger.note(sent.customer.name(), &sent.fate);
        Ok(())
    }

    /// Events in the hub that were not read yet.
    pub(crate) fn waiting(&self) -> i64 {
        self.behind(|progress| progress.read)
    }

    /// Events in the hub that are not known to be in the tables.
    pub(crate) fn unsettled(&self) -> i64 {
        self.behind(|progress| progress.settled)
    }

    fn behind(&self, at: impl Fn(&stamp_consumer::PartitionProgress) -> i64) -> i64 {
        let progress = self.progress.snapshot();
        (0..PARTITIONS)
            .map(|number| {
                let reached = PartitionId::new(number)
                    .and_then(|p| progress.get(&p))
                    .map_or(-1, &at);
                self.hub.last_sequence(number) - reached
            })
            .sum()
    }

    /// Fails when the consumer ended although nobody asked it to.
    pub(crate) fn check_running(&self) -> Result<(), Failure> {
        if self.running.is_finished() {
            return Err(Failure::because(format!(
                "the consumer of {} ended too early; see its log above",
                self.plan.id
            )));
        }
        Ok(())
    }

    /// Stops the consumer and compares the tables with the ledger.
    pub(crate) async fn stop_and_verify(self) -> Result<StampReport, Failure> {
        self.stop.cancel();
        self.running
            .await
            .map_err(|cause| Failure::failed("the consumer panicked", cause))??;
        if let Some(endpoints) = self.endpoints {
            endpoints.close().await;
        }
        let tenants: Vec<(TenantId, Customer)> = self
            .plan
            .customers
            .iter()
            .filter_map(|&customer| Some((TenantId::parse(customer.name()).ok()?, customer)))
            .collect();
        verify(self.plan.id, &self.ledger, &self.lake, &tenants)
            .await
            .map_err(|cause| Failure::failed("cannot read the tables back", cause))
    }
}

/// `{folder}/stamp.toml` with a schema file for each tenant: a working example of a configuration.
fn write_config(plan: &StampPlan, emulator: &EventHubsEmulator) -> std::io::Result<PathBuf> {
    let config_folder = plan.folder.join("config");
    std::fs::create_dir_all(&config_folder)?;
    let tables = plan.folder.join("tables");
    std::fs::create_dir_all(&tables)?;
    // Devices may claim a tenant in the property `tenant`; it is never believed.
    let mut text = format!(
        r#"# A stamp as the demo runs it. On Azure, hub and store name the real ones.
stamp = "{stamp}"

[hub]
endpoint = "amqp://{address}"
hub = "{hub}"

[store]
url = "file://{tables}"

[consumer]
flush-age = "5s"
batch-wait-max = "200ms"

[tenancy]
claim-property = "tenant"

[resilience]
start-spread = "100ms"
"#,
        stamp = plan.id,
        address = emulator.address(),
        hub = hub_name(plan.id),
        tables = tables.display(),
    );
    for customer in plan.customers {
        let name = customer.name();
        std::fs::write(
            config_folder.join(format!("{name}.toml")),
            customer.schema(),
        )?;
        text.push_str(&format!(
            "\n[[tenants]]\nid = \"{name}\"\nschema = \"{name}.toml\"\ndevices = [\"{}*\"]\n",
            customer.prefix()
        ));
    }
    let file = config_folder.join("stamp.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}
