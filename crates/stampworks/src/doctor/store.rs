//! The stores: reached, writable, create-only; their clock; and what is in them already.

use std::future::Future;
use std::time::{Duration, SystemTime};

use stamp_consumer::ConsumerConfig;
use stamp_lake::{Lake, LakeError};
use stamp_model::PartitionId;

use super::ANSWER_MAX;
use super::finding::{Finding, Kind, chain};
use super::hub::Seen;
use crate::opened::Opened;

/// A clock that is further away is told: the devices' late readings are judged by the hub's clock, but
/// logs, tokens and the times of commits are by this one.
const SKEW_WARNED: Duration = Duration::from_secs(30);
/// Azure Storage and Event Hubs refuse tokens whose times are some minutes off; 5 is what Entra allows
/// (`azure-iot` documentation of SAS: "account for clock skew").
const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

pub(super) async fn look(opened: &Opened, hub: Option<&Seen>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, lake) in stores(opened) {
        findings.extend(usable(&name, &lake).await);
    }
    findings.push(tables(opened).await);
    if let Some(seen) = hub {
        findings.extend(checkpoints(&opened.lake, &opened.config, seen).await);
        findings.extend(owners(&opened.lake, &opened.config, seen).await);
    }
    findings
}

/// The stamp's, and each that a tenant has for itself.
fn stores(opened: &Opened) -> Vec<(String, Lake)> {
    let own = opened
        .plans
        .iter()
        .filter(|plan| plan.lake.root() != opened.lake.root());
    let own = own.map(|plan| (format!("store of {}", plan.id), plan.lake.clone()));
    std::iter::once(("store".to_owned(), opened.lake.clone()))
        .chain(own)
        .collect()
}

async fn answer<T>(
    asked: impl Future<Output = Result<T, LakeError>>,
) -> Result<T, Option<LakeError>> {
    match tokio::time::timeout(ANSWER_MAX, asked).await {
        Ok(answered) => answered.map_err(Some),
        Err(_) => Err(None),
    }
}

async fn usable(name: &str, lake: &Lake) -> Vec<Finding> {
    let before = SystemTime::now();
    if let Err(cause) = answer(lake.probe()).await {
        return vec![failed(name, cause.as_ref())];
    }
    let good = Finding::good(
        name,
        format!(
            "{} can be written to and creates only what is absent",
            lake.root()
        ),
    );
    let clock = match answer(lake.probed_at()).await {
        Ok(at) => clock(name, before, SystemTime::now(), at),
        Err(cause) => failed(&format!("clock of {name}"), cause.as_ref()),
    };
    vec![good, clock]
}

/// `at` is when the store says that it wrote what was written between `before` and `after`. Stores
/// tell whole seconds.
fn clock(name: &str, before: SystemTime, after: SystemTime, at: SystemTime) -> Finding {
    let what = format!("clock against {name}");
    let ahead = before
        .duration_since(at)
        .unwrap_or_default()
        .saturating_sub(Duration::from_secs(1));
    let behind = at.duration_since(after).unwrap_or_default();
    let (skew, way) = if ahead >= behind {
        (ahead, "ahead")
    } else {
        (behind, "behind")
    };
    let found = format!("this machine is {} s {way}", skew.as_secs());
    let advice = "set this machine's clock by NTP";
    match skew {
        skew if skew > SKEW_MAX => Finding::problem(
            Kind::Auth,
            what,
            format!("{found}: tokens that it makes are refused"),
            advice,
        ),
        skew if skew > SKEW_WARNED => Finding::warning(what, found, advice),
        _ => Finding::good(what, "the same within seconds"),
    }
}

async fn tables(opened: &Opened) -> Finding {
    const WHAT: &str = "tables";
    let (mut there, mut all) = (0, 0);
    for (name, table) in opened.tables() {
        all += 1;
        match answer(table.newest()).await {
            Ok(snapshot) => there += usize::from(snapshot.is_some()),
            Err(cause) => return failed(&format!("table {name}"), cause.as_ref()),
        }
    }
    let found = match there {
        0 => "none yet; the first flush makes them".to_owned(),
        there => format!("{there} of {all} are there, and each can be read"),
    };
    Finding::good(WHAT, found)
}

async fn checkpoints(lake: &Lake, config: &ConsumerConfig, seen: &Seen) -> Vec<Finding> {
    const WHAT: &str = "checkpoints";
    let of = lake.checkpoints(
        &seen.identity.namespace,
        &seen.identity.hub,
        &config.hub.consumer_group,
    );
    let mut findings = Vec::new();
    let (mut none, mut behind) = (0_usize, 0_u64);
    for (partition, reach) in &seen.partitions {
        let checkpoint = match answer(of.read(*partition)).await {
            Ok(Some(checkpoint)) => checkpoint,
            Ok(None) => {
                none += 1;
                continue;
            }
            Err(cause) => {
                findings.push(failed(&checkpoint_of(*partition), cause.as_ref()));
                continue;
            }
        };
        let other = checkpoint
            .hub_created_at_ms
            .filter(|&at| at != seen.identity.created_at_ms);
        if other.is_some() {
            findings.push(Finding::warning(
                checkpoint_of(*partition),
                "it is of an earlier hub of the same name",
                "nothing, if the hub was made again on purpose: the service sets it aside and reads the new hub from its start",
            ));
        } else if checkpoint.sequence + 1 < reach.begin_sequence {
            findings.push(Finding::warning(
                checkpoint_of(*partition),
                format!(
                    "events {} to {} are gone from the hub and may not be in the tables",
                    checkpoint.sequence + 1,
                    reach.begin_sequence - 1
                ),
                "the service records what is lost in the table of gaps; raise the hub's retention, and see docs/operations/gap.md",
            ));
        } else {
            behind += u64::try_from(reach.last_sequence - checkpoint.sequence).unwrap_or(0);
        }
    }
    if findings.is_empty() {
        let many = seen.partitions.len();
        findings.push(Finding::good(
            WHAT,
            format!(
                "{} of {many} partitions have one, {behind} events are after them",
                many - none
            ),
        ));
    }
    findings
}

fn checkpoint_of(partition: PartitionId) -> String {
    format!("checkpoint of partition {partition}")
}

async fn owners(lake: &Lake, config: &ConsumerConfig, seen: &Seen) -> Option<Finding> {
    const WHAT: &str = "partition ownership";
    config.consumer.ownership.as_ref()?;
    let group = &config.hub.consumer_group;
    let ownerships = lake.ownerships(&seen.identity.namespace, &seen.identity.hub, group);
    let listed = match ownerships {
        Ok(ownerships) => answer(ownerships.list()).await,
        Err(cause) => Err(Some(cause)),
    };
    Some(match listed {
        Ok(listed) => {
            let mut owners: Vec<_> = listed
                .iter()
                .map(|held| held.owner_id.as_str())
                .filter(|owner| !owner.is_empty())
                .collect();
            let held = owners.len();
            owners.sort_unstable();
            owners.dedup();
            let many = owners.len();
            Finding::good(
                WHAT,
                format!("{held} partitions are named by {many} owners"),
            )
        }
        Err(cause) => failed(WHAT, cause.as_ref()),
    })
}

/// `None` is no answer in time.
fn failed(what: &str, cause: Option<&LakeError>) -> Finding {
    let Some(cause) = cause else {
        return Finding::problem(
            Kind::Failed,
            what,
            format!("no answer within {} s", ANSWER_MAX.as_secs()),
            "check the network between this machine and the store, and the store's health",
        );
    };
    let (kind, advice) = match cause {
        LakeError::Config { .. } => (Kind::Config, "fix the key under the store"),
        LakeError::Missing { .. } => (
            Kind::Failed,
            "create the container or folder, or correct the store's url",
        ),
        LakeError::Denied { .. } => (
            Kind::Auth,
            "give the identity Storage Blob Data Contributor on the container, or renew the key or SAS; check this machine's clock",
        ),
        LakeError::Transient { .. } | LakeError::Unknown { .. } => (
            Kind::Failed,
            "check the store's address and the network; ask again",
        ),
        LakeError::Throttled { .. } => (Kind::Failed, "ask again later; the store is busy"),
        LakeError::CorruptCheckpoint { .. } => (
            Kind::Failed,
            "nothing: the service sets it aside and goes on from the marks of the tables; find out who wrote it",
        ),
        LakeError::Broken { .. } => (
            Kind::Failed,
            "look at the table's _delta_log: somebody else wrote a version or a feature that this program does not read",
        ),
        LakeError::Refused { .. } => (
            Kind::Failed,
            "use a store that creates conditionally: Azure Blob Storage, Data Lake Storage Gen2 or a local folder",
        ),
        LakeError::Conflict { .. }
        | LakeError::MarkNotForward { .. }
        | LakeError::ColumnType { .. }
        | LakeError::Column { .. }
        | LakeError::Encode { .. } => (Kind::Failed, "fix what is named"),
    };
    Finding::problem(kind, what, chain(cause), advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock_off(seconds: i64) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let off = Duration::from_secs(seconds.unsigned_abs());
        let at = if seconds < 0 { now - off } else { now + off };
        serde_json::to_string(&clock("store", now, now + Duration::from_millis(20), at)).unwrap()
    }

    #[test]
    fn whole_seconds_are_no_skew_half_a_minute_is_told_and_five_minutes_are_a_problem() {
        for (seconds, verdict, way) in [
            (-1, "good", "same"),
            (20, "good", "same"),
            (-32, "warning", "ahead"),
            (32, "warning", "behind"),
            (-302, "problem", "ahead"),
            (302, "problem", "behind"),
        ] {
            let said = clock_off(seconds);
            assert!(
                said.contains(verdict) && said.contains(way),
                "{seconds}: {said}"
            );
        }
    }
}
