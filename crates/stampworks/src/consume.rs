//! `stampworks consume`: the service of one stamp.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use stamp_consumer::{Consumer, ConsumerConfig, LogFormat, Parts, plan_tenants};
use stamp_eventhubs::AmqpHub;
use stamp_lake::Lake;
use stamp_telemetry::{
    Condition, Health, Metrics, Registry, RetryMetrics, StatusPage, TraceConfig, TracedHub, Traces,
    logs, serve,
};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::output;
use crate::signals::StopSignals;

/// Arguments of `stampworks consume`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stampworks consume --config stamp.toml --check-config\n  stampworks consume --config stamp.toml"
)]
pub(crate) struct ConsumeArgs {
    /// The stamp's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration, schemas and device files, and end. Reaches no hub and no store.
    #[arg(long, conflicts_with = "print_config")]
    check_config: bool,
    /// Print the configuration in force, defaults filled in, and end. Secrets are never part of it.
    #[arg(long)]
    print_config: bool,
}

pub(crate) fn run(args: ConsumeArgs) -> Result<(), Failure> {
    let config = ConsumerConfig::load(&args.config)?;
    if args.print_config {
        let text = toml::to_string(&config)
            .map_err(|cause| Failure::failed("cannot print the configuration", cause))?;
        output::line(text.trim_end());
        return Ok(());
    }
    let base = args.config.parent().unwrap_or(Path::new(".")).to_owned();
    let runtime = crate::runtime()?;
    runtime.block_on(async move {
        if args.check_config {
            check(&config, &base)
        } else {
            serve_stamp(&config, &base).await
        }
    })
}

fn check(config: &ConsumerConfig, base: &Path) -> Result<(), Failure> {
    let handle = tokio::runtime::Handle::current();
    let lake = open_lake(config)?;
    let plans = plan_tenants(config, base, &lake, |store| {
        Lake::open(store, handle.clone())
    })?;
    let devices: usize = plans.iter().map(|plan| plan.devices.len()).sum();
    stamp_consumer::check_directory(&plans, &config.tenancy)?;
    output::line(&format!(
        "stamp {}: {} tenants, {devices} device entries, all good",
        config.stamp,
        plans.len()
    ));
    Ok(())
}

pub(crate) fn open_lake(config: &ConsumerConfig) -> Result<Lake, Failure> {
    Lake::open(&config.store, tokio::runtime::Handle::current()).map_err(|cause| {
        stamp_consumer::ConfigError::value("store", stamp_consumer::chain(&cause).to_string())
            .into()
    })
}

async fn serve_stamp(config: &ConsumerConfig, base: &Path) -> Result<(), Failure> {
    // First of all: a stop in the middle of the start is a clean stop too.
    let signals = StopSignals::watch()?;
    let telemetry = &config.telemetry;
    let format = match telemetry.log_format {
        LogFormat::Json => logs::Format::Json,
        LogFormat::Text => logs::Format::Text,
    };
    logs::init(format, &telemetry.log_filter).map_err(|cause| {
        stamp_consumer::ConfigError::value("telemetry.log-filter", cause.to_string())
    })?;
    let registry = Registry::new();
    let refused = |cause| Failure::failed("cannot set up telemetry", cause);
    let metrics = Metrics::new(&registry, &config.stamp).map_err(refused)?;
    let observer = RetryMetrics::new(&registry, &config.stamp).map_err(refused)?;
    let health = Health::new();
    let handle = tokio::runtime::Handle::current();
    let lake = open_lake(config)?;
    config.store.check_token_file().map_err(|cause| {
        stamp_consumer::ConfigError::value("store", stamp_consumer::chain(&cause).to_string())
    })?;
    let tenants = plan_tenants(config, base, &lake, |store| {
        store.check_token_file()?;
        Lake::open(store, handle.clone())
    })?;
    let hub = AmqpHub::new(&config.hub).map_err(|cause| {
        stamp_consumer::ConfigError::value("hub", stamp_consumer::chain(&cause).to_string())
    })?;
    let traces = traces(config, &registry)?;
    health.met(Condition::ConfigLoaded);

    let closed = CancellationToken::new();
    let (listen, page) = (telemetry.listen, StatusPage::consumer(&config.stamp));
    let serving = serve(
        listen,
        health.clone(),
        registry,
        page.clone(),
        closed.clone(),
    );
    let mut served = serving.await.map_err(refused)?;
    tracing::info!(stamp = %config.stamp, endpoints = %served.address, version = env!("CARGO_PKG_VERSION"), "starting");

    let stop = CancellationToken::new();
    let signalled = tokio::spawn({
        let (stop, health) = (stop.clone(), health.clone());
        async move {
            signals.received().await;
            tracing::info!("asked to stop, draining");
            health.draining();
            stop.cancel();
        }
    });
    let seed = config.resilience.seed.unwrap_or_else(rand::random);
    let parts = Parts {
        hub,
        lake,
        tenants,
        metrics,
        traces: traces.clone(),
        observer: Arc::new(observer),
        seed,
        clock: stamp_consumer::wall_clock(),
    };
    let outcome = run_consumer(config, parts, (&health, &page), &stop).await;
    signalled.abort();
    traces.shut_down().await;
    closed.cancel();
    served.stopped().await;
    if outcome.is_ok() {
        tracing::info!("stopped, everything that was read is committed or will be read again");
    }
    outcome
}

fn traces(config: &ConsumerConfig, registry: &Registry) -> Result<Traces, Failure> {
    const KEY: &str = "telemetry.traces";
    let Some(asked) = &config.telemetry.traces else {
        return Ok(Traces::off());
    };
    let headers = match &asked.headers_env {
        None => Vec::new(),
        Some(name) => {
            let key = || format!("{KEY}.headers-env");
            let text = std::env::var(name).map_err(|_| {
                stamp_consumer::ConfigError::value(key(), format!("{name} is not set"))
            })?;
            headers(&text).ok_or_else(|| {
                let why = format!("{name} is not of the form name=value,name=value");
                stamp_consumer::ConfigError::value(key(), why)
            })?
        }
    };
    let to = TraceConfig {
        endpoint: asked.endpoint.clone(),
        headers,
        ratio: asked.sample_ratio,
    };
    let hub = TracedHub {
        hub: config.hub.hub.clone().unwrap_or_default(),
        group: config.hub.consumer_group.clone(),
    };
    Traces::to_collector(&to, registry, &config.stamp, hub).map_err(|cause| {
        stamp_consumer::ConfigError::value(KEY, stamp_consumer::chain(&cause).to_string()).into()
    })
}

/// `name=value,name=value`; a value is never part of an error.
fn headers(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let named = !name.trim().is_empty();
        named.then(|| (name.trim().to_owned(), value.trim().to_owned()))
    };
    text.split(',').map(pair).collect()
}

async fn run_consumer(
    config: &ConsumerConfig,
    parts: Parts<AmqpHub>,
    (health, page): (&Health, &StatusPage),
    stop: &CancellationToken,
) -> Result<(), Failure> {
    match Consumer::open(config, parts, stop).await {
        Ok(consumer) => {
            health.met(Condition::HubReached);
            health.met(Condition::StoreReached);
            page.shows(consumer.facts());
            consumer.run(stop.clone()).await.map_err(Failure::from)
        }
        Err(_) if stop.is_cancelled() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
