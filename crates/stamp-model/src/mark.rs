//! How far a table is: the position that travels inside a table's own commit.

use std::fmt;

use crate::{HubIdentity, PartitionId, StampId};

/// The position before the first event of a partition: Event Hubs counts from 0.
pub const START: i64 = -1;

/// Names one partition of one hub of one stamp inside a table's transaction log.
///
/// `v1/{stamp}/{namespace}/{hub}/{created-at-ms}/{partition}`. The version is the generation: a
/// wanted re-processing writes under another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(String);

impl AppId {
    /// The id for this partition.
    #[must_use]
    pub fn new(stamp: &StampId, hub: &HubIdentity, partition: PartitionId) -> Self {
        let HubIdentity {
            namespace,
            hub,
            created_at_ms,
        } = hub;
        Self(format!(
            "v1/{stamp}/{namespace}/{hub}/{created_at_ms}/{partition}"
        ))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every row of `app` up to and including `sequence` is in the table that holds this mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Whose position.
    pub app: AppId,
    /// The highest sequence number that is settled.
    pub sequence: i64,
}
