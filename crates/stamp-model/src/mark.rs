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

    /// The id under which a tenant's tables follow its `replays`: its marks are numbers of that
    /// table, not sequence numbers, and no partition's mark is touched by a replay.
    #[must_use]
    pub fn replay() -> Self {
        Self("replay/v1".to_owned())
    }

    /// The id in a text that came out of a table.
    #[must_use]
    pub fn parse(text: &str) -> Option<HubApp<'_>> {
        let mut parts = text.rsplitn(3, '/');
        let partition = parts.next()?.parse().ok().and_then(PartitionId::new)?;
        let created_at_ms = parts.next()?.parse().ok()?;
        let hub = parts.next()?.strip_prefix("v1/")?;
        Some(HubApp {
            hub,
            created_at_ms,
            partition,
        })
    }

    /// When the hub was created, microseconds since 1970 UTC: no event of it is older.
    #[must_use]
    pub fn hub_created_at_us(&self) -> i64 {
        let created = self
            .0
            .rsplit('/')
            .nth(1)
            .and_then(|text| text.parse::<i64>().ok());
        created.map_or(i64::MIN, |ms| ms.saturating_mul(1_000))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an [`AppId`] of a hub's partition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubApp<'a> {
    /// `{stamp}/{namespace}/{hub}`
    pub hub: &'a str,
    /// When that hub was created, milliseconds since 1970 UTC.
    pub created_at_ms: i64,
    /// Which of its partitions.
    pub partition: PartitionId,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_id_tells_when_its_hub_was_created() {
        let hub = HubIdentity {
            namespace: "n".into(),
            hub: "h".into(),
            created_at_ms: 1_795_521_600_123,
        };
        let stamp = StampId::parse("s").unwrap();
        let app = AppId::new(&stamp, &hub, PartitionId::new(7).unwrap());

        assert_eq!(app.as_str(), "v1/s/n/h/1795521600123/7");
        assert_eq!(app.hub_created_at_us(), 1_795_521_600_123_000);
        let parsed = AppId::parse(app.as_str()).unwrap();
        assert_eq!(
            (parsed.hub, parsed.created_at_ms),
            ("s/n/h", 1_795_521_600_123)
        );
        assert_eq!(parsed.partition, PartitionId::new(7).unwrap());
        assert_eq!(AppId::parse(AppId::replay().as_str()), None);
    }
}
