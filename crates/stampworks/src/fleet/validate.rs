//! `stampworks fleet validate`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use stamp_placement::catalogue::{Finding, Severity, read};

use super::files::{check_schemas, read_files, sources};
use super::{OutputFormat, print_json};
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks fleet validate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stampworks fleet validate deploy/examples/fleet\n\n\
    Exits with 0 when the catalogue can be used, warnings or not, and with 3 when it cannot."
)]
pub(super) struct ValidateArgs {
    /// The catalogue: a file, or a folder whose `.toml` files are read together.
    #[arg(value_name = "PATH", default_value = "fleet.toml")]
    path: PathBuf,
    /// How the findings are printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

#[derive(Debug, Serialize)]
struct Report {
    stamps: usize,
    tenants: usize,
    findings: Vec<Finding>,
}

pub(super) fn run(args: &ValidateArgs) -> Result<(), Failure> {
    let files = read_files(&args.path)?;
    let (stamps, tenants, findings) = match read(&sources(&files)) {
        Ok(catalogue) => {
            let mut findings = catalogue.warnings.clone();
            findings.extend(check_schemas(&files, &catalogue));
            let fleet = &catalogue.fleet;
            (fleet.stamps().len(), fleet.tenants().len(), findings)
        }
        Err(findings) => (0, 0, findings),
    };
    let errors = findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .count();
    match args.output {
        OutputFormat::Json => print_json(&Report {
            stamps,
            tenants,
            findings,
        })?,
        OutputFormat::Text => {
            findings
                .iter()
                .for_each(|finding| output::line(&finding.to_string()));
            if errors == 0 {
                let warnings = findings.len();
                let line = format!("{stamps} stamps, {tenants} tenants, {warnings} warnings");
                output::line(&line);
            }
        }
    }
    match errors {
        0 => Ok(()),
        errors => Err(Failure::Catalogue(errors)),
    }
}
