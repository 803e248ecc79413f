//! x
use anyhow::Result;
use std::path::Path;
pub(crate) fn check(_root: &Path) -> Result<Vec<String>> {
    Ok(vec![])
}
pub(crate) fn write(_root: &Path) -> Result<()> {
    Ok(())
}
