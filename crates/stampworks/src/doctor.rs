//! `stampworks doctor`: everything a stamp's service needs, tried once, with what to do where it fails.
//!
//! It reads the configuration, asks the hub, opens a reader beside whoever reads, writes one small
//! object in each store, reads the newest version of every table, and looks at this machine. It moves
//! no checkpoint, displaces no reader and writes no row, so it may run beside the service. Each thing
//! is tried once, without retries: what fails now and then shows as that.

mod finding;
mod host;
mod hub;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use stamp_consumer::ConsumerConfig;

use crate::doctor::finding::{Finding, Report};
use crate::exit::Failure;
use crate::opened::{Opened, OutputFormat, print_json};

/// Longest wait for one answer. Slower is as good as away for a service that flushes by the minute.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Arguments of `stampworks doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stampworks doctor --config stamp.toml\n  stampworks doctor --config stamp.toml --output json"
)]
pub(crate) struct DoctorArgs {
    /// The stamp's configuration file, as for `consume`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(crate) fn run(args: DoctorArgs) -> Result<(), Failure> {
    let report = crate::runtime()?.block_on(examine(&args));
    match args.output {
        OutputFormat::Text => report.print(),
        OutputFormat::Json => print_json(&report)?,
    }
    report.outcome()
}

async fn examine(args: &DoctorArgs) -> Report {
    let mut report = Report::default();
    let config = match ConsumerConfig::load(&args.config) {
        Ok(config) => config,
        Err(cause) => {
            report.add(finding::config(&cause));
            return report;
        }
    };
    let opened = match Opened::read(&args.config) {
        Ok(opened) => opened,
        Err(failure) => {
            report.add(finding::config(&failure));
            report.extend(host::look(&config).await);
            return report;
        }
    };
    report.add(configured(&opened));
    report.extend(host::look(&opened.config).await);
    let (findings, seen) = hub::look(&opened.config).await;
    report.extend(findings);
    report.extend(store::look(&opened, seen.as_ref()).await);
    report
}

fn configured(opened: &Opened) -> Finding {
    let devices: usize = opened.plans.iter().map(|plan| plan.devices.len()).sum();
    let tenancy = &opened.config.tenancy;
    match stamp_consumer::check_directory(&opened.plans, tenancy) {
        Ok(()) => Finding::good(
            "configuration",
            format!(
                "stamp {}: {} tenants, {devices} device entries, every schema can be used",
                opened.config.stamp,
                opened.plans.len()
            ),
        ),
        Err(cause) => finding::config(&cause),
    }
}
