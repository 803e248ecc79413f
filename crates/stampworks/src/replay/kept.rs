//! `stampworks replay rejected` and `replay quarantine`.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use stamp_consumer::{
    Replay, ReplayOptions, ReplayParts, ReplayProgress, ReplayReport, ReplaySource, wall_clock,
};
use stamp_model::{PartitionId, TenantId};
use stamp_telemetry::{Metrics, Registry, RetryMetrics};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::opened::{
    Opened, OutputFormat, StampArgs, find_hub, parse_partition, parse_time, print_json,
};
use crate::output;
use crate::signals::StopSignals;

/// Which events are run again.
#[derive(Debug, Args)]
pub(crate) struct KeptArgs {
    #[command(flatten)]
    stamp: StampArgs,
    /// Only events that belong to this tenant today.
    #[arg(long, value_name = "ID", value_parser = |text: &str| TenantId::parse(text))]
    tenant: Option<TenantId>,
    /// Only events kept for this reason. May be given several times.
    #[arg(long, value_name = "CODE")]
    reason: Vec<String>,
    /// Only this partition.
    #[arg(long, value_name = "NUMBER", value_parser = parse_partition)]
    partition: Option<PartitionId>,
    /// From this sequence number on.
    #[arg(long, value_name = "NUMBER", requires = "partition")]
    from_sequence: Option<i64>,
    /// Up to this sequence number.
    #[arg(long, value_name = "NUMBER", requires = "partition")]
    to_sequence: Option<i64>,
    /// Enqueued at this time or later, such as 2026-11-24T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Enqueued before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
    /// Write nothing; say what would become of the events.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: KeptArgs, source: ReplaySource) -> Result<(), Failure> {
    let opened = Opened::read(&args.stamp.config)?;
    if let Some(tenant) = &args.tenant
        && !opened.plans.iter().any(|plan| plan.id == *tenant)
    {
        let why = format!("the stamp has no tenant {tenant}");
        return Err(stamp_consumer::ConfigError::value("tenants.id", why).into());
    }
    let identity = find_hub(&opened, &args.stamp).await?.identity;
    let options = ReplayOptions {
        source,
        tenant: args.tenant,
        reasons: args.reason.into_iter().collect(),
        partition: args.partition,
        from_sequence: args.from_sequence,
        to_sequence: args.to_sequence,
        since_us: args.since,
        until_us: args.until,
        dry_run: args.dry_run,
    };
    let registry = Registry::new();
    let refused = |cause| Failure::failed("cannot set up telemetry", cause);
    let Opened {
        config,
        lake,
        plans,
    } = opened;
    let parts = ReplayParts {
        lake,
        tenants: plans,
        identity,
        metrics: Metrics::new(&registry, &config.stamp).map_err(refused)?,
        observer: Arc::new(RetryMetrics::new(&registry, &config.stamp).map_err(refused)?),
        seed: config.resilience.seed.unwrap_or_else(rand::random),
        clock: wall_clock(),
    };
    let replay = Replay::open(&config, parts)?;
    let report = watched(&replay, &options).await?;
    match args.stamp.output {
        OutputFormat::Text => print(&report),
        OutputFormat::Json => print_json(&report)?,
    }
    match report.failures.len() {
        0 => Ok(()),
        failures => Err(Failure::because(format!(
            "{failures} parts of the replay could not be done; run it again"
        ))),
    }
}

/// Runs it until its end or a signal, with a bar on a terminal.
async fn watched(replay: &Replay, options: &ReplayOptions) -> Result<ReplayReport, Failure> {
    let cancel = CancellationToken::new();
    let signals = StopSignals::watch()?;
    let progress = ReplayProgress::default();
    let bar = bar();
    let mut redraw = tokio::time::interval(Duration::from_millis(200));
    let mut run = std::pin::pin!(replay.run(options, &progress, &cancel));
    let mut stopped = std::pin::pin!(signals.received());
    let outcome = loop {
        tokio::select! {
            outcome = &mut run => break outcome,
            () = &mut stopped, if !cancel.is_cancelled() => cancel.cancel(),
            _ = redraw.tick() => {
                let (done, total) = progress.now();
                bar.set_length(total);
                bar.set_position(done);
            }
        }
    };
    bar.finish_and_clear();
    outcome.map_err(|error| {
        if error.is_cancelled() {
            Failure::because("stopped; what was begun is finished by the next replay")
        } else {
            Failure::failed("the replay ended", error)
        }
    })
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} kept events, {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn print(report: &ReplayReport) {
    let would = if report.dry_run { " would be" } else { "" };
    let line = |what: &str, events: u64| output::line(&format!("{what:<44} {events:>10}"));
    line(&format!("read from {}", report.source), report.read);
    line(&format!("returned as readings{would}"), report.returned);
    if report.source == "quarantine" {
        line("moved to the tenant's rejected", report.moved_to_rejected);
    }
    line("already there", report.already_there);
    line("waiting for the service", report.waiting);
    for (reason, events) in &report.still_rejected {
        line(&format!("still rejected: {reason}"), *events);
    }
    for (reason, events) in &report.without_tenant {
        line(&format!("still without a tenant: {reason}"), *events);
    }
    if report.other_tenant > 0 {
        line("not this tenant's any more", report.other_tenant);
    }
    if report.finished > 0 {
        line("finished for an earlier replay", report.finished);
    }
    if report.not_brought_in > 0 {
        line(
            "of these, gone or not valid any more",
            report.not_brought_in,
        );
    }
    if report.unreadable > 0 {
        line("rows without a position", report.unreadable);
    }
    if report.not_done > 0 {
        line("not done", report.not_done);
    }
    for failure in &report.failures {
        output::line(&format!("failed: {failure}"));
    }
}
