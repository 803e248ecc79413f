//! x
use anyhow::Result;
use std::path::Path;
pub(crate) fn run(_root: &Path) -> Result<Vec<String>> {
    Ok(vec![])
}
