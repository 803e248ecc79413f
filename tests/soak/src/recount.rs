//! Counts the tables again: by `stampworks verify`, and by readers that nobody here wrote.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use stamp_interop::{Azurite, Language, run_script};

use crate::world::CONTAINER;

const RECOUNT_MAX: Duration = Duration::from_secs(1_200);

/// What the independent readers found.
pub(crate) struct Recounted {
    pub(crate) readings: u64,
    pub(crate) rejected: u64,
    pub(crate) quarantined: u64,
    pub(crate) backlog: u64,
    pub(crate) returned: u64,
    pub(crate) windows: u64,
    pub(crate) differences: Vec<String>,
}

/// What `stampworks verify` has to say, if anything.
pub(crate) async fn verify(program: &Path, config: &Path) -> Result<Option<String>> {
    let mut command = Command::new(program);
    command.args(["verify", "--config"]).arg(config);
    let out = tokio::task::spawn_blocking(move || command.output()).await??;
    if out.status.success() {
        return Ok(None);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Some(format!(
        "stampworks verify ended with {}:\n{}{}",
        out.status,
        text(&out.stdout),
        text(&out.stderr)
    )))
}

/// Downloads the container to `folder` and compares it with the ledger.
pub(crate) async fn recount(azurite: &Azurite, folder: &Path, ledger: &Path) -> Result<Recounted> {
    let arguments = [
        azurite.connection_string(),
        CONTAINER.to_owned(),
        folder.display().to_string(),
        ledger.display().to_string(),
    ];
    let answer = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_script(
            Language::Python,
            "scripts/soak_recount.py",
            &arguments,
            RECOUNT_MAX,
        )
    })
    .await?;
    let number = |key: &str| {
        let value = answer[key].as_u64();
        value.with_context(|| format!("no {key} in {answer}"))
    };
    let differences = answer["differences"].as_array();
    let differences = differences.with_context(|| format!("no differences in {answer}"))?;
    Ok(Recounted {
        readings: number("readings")?,
        rejected: number("rejected")?,
        quarantined: number("quarantined")?,
        backlog: number("backlog")?,
        returned: number("returned")?,
        windows: number("windows")?,
        differences: differences
            .iter()
            .map(|text| {
                text.as_str()
                    .map_or_else(|| Value::to_string(text), str::to_owned)
            })
            .collect(),
    })
}
