//! `stampworks provision`: the webhook of DPS for a fleet.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use stamp_provisioner::{
    CatalogueError, LogFormat, ProvisionConfig, ProvisionError, ProvisionParts, Provisioner, check,
};
use stamp_telemetry::{
    Condition, Health, ProvisionMetrics, Registry, RetryMetrics, StatusPage, logs, serve,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::output;
use crate::signals::ServiceSignals;

/// Arguments of `stampworks provision`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stampworks provision --config provision.toml --check-config\n  \
    stampworks provision --config provision.toml\n\n\
    SIGHUP has the catalogue, keys and certificates read again at once."
)]
pub(crate) struct ProvisionArgs {
    /// The provisioner's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration, the catalogue, keys and certificates, and end. Reaches no database.
    #[arg(long, conflicts_with = "print_config")]
    check_config: bool,
    /// Print the configuration in force, defaults filled in, and end. Secrets are never part of it.
    #[arg(long)]
    print_config: bool,
}

pub(crate) fn run(args: ProvisionArgs) -> Result<(), Failure> {
    let config = ProvisionConfig::load(&args.config).map_err(ProvisionError::from)?;
    if args.print_config {
        let text = toml::to_string(&config)
            .map_err(|cause| Failure::failed("cannot print the configuration", cause))?;
        output::line(text.trim_end());
        return Ok(());
    }
    if args.check_config {
        let found = check(&config).inspect_err(tell)?;
        let (stamps, tenants) = (found.stamps, found.tenants);
        output::line(&format!(
            "{}: {stamps} stamps, {tenants} tenants, all good",
            config.name
        ));
        return Ok(());
    }
    crate::runtime()?.block_on(provision(config))
}

/// A catalogue with errors is told error by error, as `fleet validate` does.
fn tell(error: &ProvisionError) {
    if let ProvisionError::Catalogue(CatalogueError::Wrong(findings)) = error {
        findings
            .iter()
            .for_each(|finding| output::note(&finding.to_string()));
    }
}

async fn provision(config: ProvisionConfig) -> Result<(), Failure> {
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
    let parts = ProvisionParts {
        metrics: ProvisionMetrics::new(&registry, &config.name).map_err(refused)?,
        observer: Arc::new(RetryMetrics::new(&registry, &config.name).map_err(refused)?),
        seed: config.resilience.seed.unwrap_or_else(rand::random),
        clock: stamp_provisioner::wall_clock(),
    };
    let health = Health::of_a_provisioner();
    health.met(Condition::ConfigLoaded);
    let closed = CancellationToken::new();
    let listen = config.telemetry.listen;
    let page = StatusPage::provisioner(&config.name);
    let serving = serve(
        listen,
        health.clone(),
        registry,
        page.clone(),
        closed.clone(),
    );
    let mut served = serving.await.map_err(refused)?;
    tracing::info!(name = %config.name, endpoints = %served.address, version = env!("CARGO_PKG_VERSION"), "starting");
    let asked = signals.taken(&health, "asked to stop, draining");
    let about = (&health, &page);
    let outcome = run_provisioner(config, parts, about, &asked.reload, &asked.stop).await;
    drop(asked);
    closed.cancel();
    served.stopped().await;
    outcome
}

async fn run_provisioner(
    config: ProvisionConfig,
    parts: ProvisionParts,
    (health, page): (&Health, &StatusPage),
    reload: &Notify,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let provisioner = match Provisioner::start(config, parts, stop).await {
        Ok(provisioner) => provisioner,
        Err(ProvisionError::Stopped) => return Ok(()),
        Err(error) => {
            tell(&error);
            return Err(error.into());
        }
    };
    health.met(Condition::DatabaseReached);
    page.shows(provisioner.facts());
    tracing::info!(address = %provisioner.address(), "serving");
    provisioner.run(reload, stop).await;
    tracing::info!("stopped, requests under way were answered");
    Ok(())
}
