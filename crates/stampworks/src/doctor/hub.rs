//! The Event Hub: reached, trusted, allowed, and a reader of the consumer group opens.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use stamp_consumer::ConsumerConfig;
use stamp_eventhubs::{
    AmqpHub, EventHub, HubError, HubProperties, PartitionProperties, PartitionSource, StartPosition,
};
use stamp_model::{BatchLimits, HubIdentity, PartitionId};

use super::ANSWER_MAX;
use super::finding::{Finding, Kind, chain};

/// Asked for by a reader that only wants to know whether it is let in.
const LIMITS: BatchLimits = BatchLimits {
    events_max: 1,
    bytes_max: 1,
    wait_max: Duration::from_millis(500),
};

/// What the hub said, for what is compared with it.
pub(super) struct Seen {
    pub(super) identity: HubIdentity,
    pub(super) partitions: Vec<(PartitionId, PartitionProperties)>,
}

pub(super) async fn look(config: &ConsumerConfig) -> (Vec<Finding>, Option<Seen>) {
    const WHAT: &str = "event hub";
    let hub = match AmqpHub::new(&config.hub) {
        Ok(hub) => hub,
        Err(cause) => return (vec![failed(WHAT, &cause)], None),
    };
    let properties = match answer(hub.properties()).await {
        Ok(properties) => properties,
        Err(cause) => return (vec![failed(WHAT, &cause)], None),
    };
    let mut findings = vec![Finding::good(
        WHAT,
        format!(
            "{}/{} answers, has {} partitions and takes the credential",
            properties.identity.namespace,
            properties.identity.hub,
            properties.partitions.len()
        ),
    )];
    findings.extend(asked_for(config, &properties));
    let partitions = match reach(&hub, &properties).await {
        Ok(partitions) => partitions,
        Err(cause) => {
            findings.push(failed("partitions", &cause));
            Vec::new()
        }
    };
    if let Some(&partition) = properties.partitions.first() {
        findings.push(reader(&hub, partition, &config.hub.consumer_group).await);
    }
    let seen = Seen {
        identity: properties.identity,
        partitions,
    };
    (findings, Some(seen))
}

/// Boxed, since a conversation with a hub is a large future.
fn answer<'a, T: 'a>(
    asked: impl Future<Output = Result<T, HubError>> + 'a,
) -> Pin<Box<dyn Future<Output = Result<T, HubError>> + 'a>> {
    Box::pin(async {
        let late = || HubError::TimedOut {
            doing: format!("waiting {} s for it", ANSWER_MAX.as_secs()),
        };
        let answered = tokio::time::timeout(ANSWER_MAX, asked).await;
        answered.unwrap_or_else(|_| Err(late()))
    })
}

/// A wrong number in `consumer.partitions` would be seen at the start only.
fn asked_for(config: &ConsumerConfig, hub: &HubProperties) -> Option<Finding> {
    let wanted = config.consumer.partitions.as_ref()?;
    let there: BTreeSet<u32> = hub.partitions.iter().map(|&id| id.number()).collect();
    let missing: Vec<_> = wanted.difference(&there).collect();
    let unread: Vec<_> = there.difference(wanted).collect();
    if !missing.is_empty() {
        return Some(Finding::problem(
            Kind::Config,
            "partitions",
            format!("consumer.partitions names {missing:?}, which the hub does not have"),
            "name partitions of the hub, or leave the key out to read all",
        ));
    }
    if !unread.is_empty() {
        return Some(Finding::warning(
            "partitions",
            format!("this process does not read {unread:?}"),
            "see that another process does, or leave consumer.partitions out",
        ));
    }
    None
}

async fn reach(
    hub: &AmqpHub,
    properties: &HubProperties,
) -> Result<Vec<(PartitionId, PartitionProperties)>, HubError> {
    let mut partitions = Vec::with_capacity(properties.partitions.len());
    for &partition in &properties.partitions {
        let reach = answer(hub.partition_properties(partition)).await?;
        partitions.push((partition, reach));
    }
    Ok(partitions)
}

/// Opens without an owner level, so nobody is displaced.
async fn reader(hub: &AmqpHub, partition: PartitionId, group: &str) -> Finding {
    let what = format!("consumer group {group}");
    let opened = answer(async {
        let mut source = hub.open(partition, StartPosition::Latest, None).await?;
        let outcome = source.next_batch(LIMITS).await;
        source.close().await;
        outcome.map(|_| ())
    });
    match opened.await {
        Ok(()) => Finding::good(what, format!("a reader of partition {partition} is let in")),
        Err(HubError::OwnershipLost { .. }) => Finding::good(
            what,
            format!(
                "partition {partition} is held by a reader with an owner level, as by a running service"
            ),
        ),
        Err(cause) => failed(&what, &cause),
    }
}

fn failed(what: &str, cause: &HubError) -> Finding {
    let (kind, advice) = match cause {
        HubError::Unauthorized { .. } => (
            Kind::Auth,
            "check the key, that its policy has Listen, and this machine's clock",
        ),
        HubError::BadConfig { .. } => (Kind::Config, "fix the key under [hub]"),
        HubError::NotFound { .. } => (
            Kind::Failed,
            "create what is missing, or correct hub.hub and hub.consumer-group",
        ),
        HubError::Certificate { .. } => (
            Kind::Failed,
            "something between answers for the hub, such as a proxy: reach the hub itself, or trust it by hub.tls.extra-ca-file",
        ),
        HubError::Unreachable { .. } => (
            Kind::Failed,
            "check hub.endpoint, the name service, and that the firewall and the namespace's network rules let port 5671 through",
        ),
        HubError::TimedOut { .. } | HubError::ConnectionLost { .. } => (
            Kind::Failed,
            "ask again; if it stays, look at the firewall and at the namespace's health in Azure",
        ),
        HubError::Throttled { .. } => (
            Kind::Failed,
            "ask again later; if it stays, the namespace needs more throughput units",
        ),
        HubError::QuotaReaders { .. } => (
            Kind::Failed,
            "stop other readers of this consumer group, or give the stamp a group of its own",
        ),
        HubError::OwnershipLost { .. }
        | HubError::BeyondEnd { .. }
        | HubError::Refused { .. }
        | HubError::Protocol { .. } => (
            Kind::Failed,
            "check that hub.endpoint and hub.hub name an Event Hub that is enabled",
        ),
    };
    Finding::problem(kind, what, chain(cause), advice)
}
