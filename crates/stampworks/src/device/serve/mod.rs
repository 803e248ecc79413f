//! `stampworks device serve`: moves as a service.

mod config;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use stamp_http::{Access, AccessError, Tls};
use stamp_iothub::{DpsClient, IotHubClient};
use stamp_model::StampId;
use stamp_mover::service::{
    Estate, EstateError, MoverService, OpenOf, STATES, ServiceError, ServiceParts, Survey,
};
use stamp_mover::{PeerPolicy, Plan, TableSightings};
use stamp_placement::{Environment, Fleet};
use stamp_provisioner::{LogFormat, ProvisionError};
use stamp_reservations::ReservationsConfig;
use stamp_telemetry::{
    Condition, Health, MoverMetrics, Registry, RetryMetrics, StatusPage, logs, serve,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::config::ServeConfig;
use super::now_us;
use super::services::Services;
use crate::exit::Failure;
use crate::fleet::files::load;
use crate::fleet::usage::UsageFile;
use crate::output;
use crate::signals::ServiceSignals;

/// Arguments of `stampworks device serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration, the catalogue, the services file, keys and certificates, and end.
    /// Reaches nobody.
    #[arg(long, conflicts_with = "print_config")]
    check_config: bool,
    /// Print the configuration in force, defaults filled in, and end. Secrets are never part of it.
    #[arg(long)]
    print_config: bool,
}

pub(super) fn run(args: ServeArgs) -> Result<(), Failure> {
    let config = ServeConfig::load(&args.config)?;
    if args.print_config {
        let text = toml::to_string(&config)
            .map_err(|cause| Failure::failed("cannot print the configuration", cause))?;
        output::line(text.trim_end());
        return Ok(());
    }
    let (fleet, _) = FleetFiles::of(&config)?.read()?;
    let access = Access::load(config.access.clone()).map_err(denied)?;
    let tls = config.tls.clone().map(Tls::load).transpose();
    let tls = tls.map_err(|cause| Failure::failed("the certificates cannot be used", cause))?;
    if args.check_config {
        let (stamps, tenants) = (fleet.stamps().len(), fleet.tenants().len());
        output::line(&format!(
            "{}: {stamps} stamps, {tenants} tenants, all good",
            config.name
        ));
        return Ok(());
    }
    crate::runtime()?.block_on(serve_moves(config, access, tls))
}

/// Keys that cannot be used are a configuration that cannot be.
fn denied(error: AccessError) -> Failure {
    ProvisionError::from(stamp_provisioner::ConfigError::from(error)).into()
}

async fn serve_moves(config: ServeConfig, access: Access, tls: Option<Tls>) -> Result<(), Failure> {
    // First of all: a stop in the middle of the start is a clean stop too.
    let signals = ServiceSignals::watch()?;
    let format = match config.telemetry.log_format {
        LogFormat::Json => logs::Format::Json,
        LogFormat::Text => logs::Format::Text,
    };
    logs::init(format, &config.telemetry.log_filter).map_err(|cause| {
        stamp_consumer::ConfigError::value("telemetry.log-filter", cause.to_string())
    })?;
    let registry = Registry::new();
    let refused = |cause| Failure::failed("cannot set up telemetry", cause);
    let metrics = MoverMetrics::new(&registry, &config.name, &STATES).map_err(refused)?;
    let observer = RetryMetrics::new(&registry, &config.name).map_err(refused)?;
    let health = Health::of_a_mover();
    let closed = CancellationToken::new();
    let listen = config.telemetry.listen;
    let page = StatusPage::mover(&config.name);
    let mut endpoints = serve(listen, health.clone(), registry, page, closed.clone())
        .await
        .map_err(refused)?;
    tracing::info!(name = %config.name, endpoints = %endpoints.address, version = env!("CARGO_PKG_VERSION"), "starting");
    let asked = signals.taken(&health, "asked to stop, what was begun is finished");
    let parts = ServiceParts {
        estate: Arc::new(FleetFiles::of(&config)?),
        state: config.state.clone(),
        listen: config.listen,
        tls,
        access,
        watched: config.secrets(),
        http: config.limits(),
        limits: config.move_limits(),
        metrics,
        observer: Arc::new(observer),
        clock: Arc::new(now_us),
    };
    let outcome = match MoverService::start(parts, &asked.stop).await {
        Ok(service) => {
            health.met(Condition::ConfigLoaded);
            tracing::info!(address = %service.address(), "serving");
            service.run(&asked.reload, &asked.stop).await;
            tracing::info!("stopped, every act that was begun is in its journal");
            Ok(())
        }
        Err(ServiceError::Access(error)) => Err(denied(error)),
        Err(error) => Err(Failure::failed("the service of moves cannot start", error)),
    };
    drop(asked);
    closed.cancel();
    endpoints.stopped().await;
    outcome
}

/// The files of a fleet and of its services.
struct FleetFiles {
    fleet: PathBuf,
    services: PathBuf,
    usage: Option<PathBuf>,
    reservations: Option<ReservationsConfig>,
    policy: PeerPolicy,
}

impl FleetFiles {
    /// Reads how services are called, which holds until the end.
    fn of(config: &ServeConfig) -> Result<Self, Failure> {
        let services = Services::read(&config.services)?;
        let policy = services.policy(config.moves.share_of_limits);
        Ok(Self {
            fleet: config.fleet.clone(),
            services: config.services.clone(),
            usage: config.usage.clone(),
            reservations: config.reservations.clone(),
            policy,
        })
    }

    fn read(&self) -> Result<(Fleet, UsageFile), Failure> {
        let fleet = load(&self.fleet)?.catalogue.fleet;
        let usage = UsageFile::load(self.usage.as_deref(), &fleet)?;
        Ok((fleet, usage))
    }

    /// With what is booked. On a thread that may block.
    fn read_all(&self) -> Result<(Fleet, UsageFile), Failure> {
        let (fleet, usage) = self.read()?;
        let Some(database) = &self.reservations else {
            return Ok((fleet, usage));
        };
        let with_bookings = usage.with_bookings(&fleet, database);
        let (usage, _) = tokio::runtime::Handle::current().block_on(with_bookings)?;
        Ok((fleet, usage))
    }
}

fn told(failure: &Failure) -> EstateError {
    EstateError(stamp_consumer::chain(failure).to_string())
}

impl Estate for FleetFiles {
    type Hub = IotHubClient;
    type Dps = DpsClient;
    type Tables = TableSightings;

    fn survey(&self) -> Result<Survey, EstateError> {
        let (fleet, file) = self.read_all().map_err(|failure| told(&failure))?;
        let all = fleet.tenants().iter().flat_map(|tenant| {
            [Environment::Test, Environment::Production].map(|environment| (tenant, environment))
        });
        let home = |(tenant, environment): (&stamp_placement::Tenant, Environment)| {
            let home = file.home(&fleet, &tenant.id, environment)?;
            Some(((tenant.id.clone(), environment), home))
        };
        let homes = all.filter_map(home).collect();
        Ok(Survey {
            usage: file.usage(&fleet),
            homes,
            fleet,
        })
    }

    fn hub(&self, stamp: &StampId) -> Result<IotHubClient, EstateError> {
        let services = Services::read(&self.services);
        let hub = services.and_then(|services| services.hub(stamp));
        hub.map_err(|failure| told(&failure))
    }

    fn open(&self, plan: &Plan) -> Result<OpenOf<Self>, EstateError> {
        let opened = Services::read(&self.services).and_then(|services| {
            let fleet = load(&self.fleet)?.catalogue.fleet;
            services.open(&fleet, plan)
        });
        opened.map_err(|failure| told(&failure))
    }

    fn policy(&self) -> PeerPolicy {
        self.policy.clone()
    }
}
