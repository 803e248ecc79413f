//! A stamp as commands beside the service see it: its configuration, stores, and which hub it reads.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use stamp_consumer::{ConfigError, ConsumerConfig, TenantPlan, plan_tenants};
use stamp_eventhubs::{AmqpHub, EventHub, HubError, PartitionProperties};
use stamp_lake::{Lake, LakeError, Table};
use stamp_model::{AppId, HubIdentity, PartitionId};

use crate::exit::Failure;
use crate::output;

/// Which stamp, and whether its hub is asked.
#[derive(Debug, Args)]
pub(crate) struct StampArgs {
    /// The stamp's configuration file, as for `consume`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Do not ask the hub: tables and checkpoints only. Needs --namespace.
    #[arg(long, requires = "namespace")]
    pub(crate) offline: bool,
    /// With --offline: the namespace of the checkpoints, such as contoso.servicebus.windows.net.
    #[arg(long, requires = "offline")]
    pub(crate) namespace: Option<String>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Text,
    Json,
}

/// A stamp whose files were read and whose stores were opened.
pub(crate) struct Opened {
    pub(crate) config: ConsumerConfig,
    pub(crate) lake: Lake,
    pub(crate) plans: Vec<TenantPlan>,
}

impl Opened {
    /// Reads the configuration and what it names. Makes no request. Inside a runtime only.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let config = ConsumerConfig::load(file)?;
        let base = file.parent().unwrap_or(Path::new(".")).to_owned();
        let handle = tokio::runtime::Handle::current();
        let lake = crate::consume::open_lake(&config)?;
        let plans = plan_tenants(&config, &base, &lake, |store| {
            Lake::open(store, handle.clone())
        })?;
        Ok(Self {
            config,
            lake,
            plans,
        })
    }

    /// Every table of the stamp with the name that people call it.
    pub(crate) fn tables(&self) -> Vec<(String, Table)> {
        let mut tables = Vec::new();
        for plan in &self.plans {
            let root = plan.lake.tenant(&plan.id);
            for (name, table) in [
                ("readings", root.readings(plan.schema.shape())),
                ("rollups", root.rollups()),
                ("rejected", root.rejected()),
                ("replays", root.replays()),
            ] {
                tables.push((format!("{}/{name}", plan.id), table));
            }
        }
        let own = self.lake.stamp();
        tables.push(("_stamp/quarantine".to_owned(), own.quarantine()));
        tables.push(("_stamp/gaps".to_owned(), own.gaps()));
        tables
    }
}

/// What is known of the hub.
pub(crate) struct HubView {
    pub(crate) identity: HubIdentity,
    /// Its partitions; what it says of each, unless it was not asked.
    pub(crate) partitions: Vec<(PartitionId, Option<PartitionProperties>)>,
}

/// Asks the hub, or, offline, finds in the marks of the tables which one was read last.
pub(crate) async fn find_hub(opened: &Opened, args: &StampArgs) -> Result<HubView, Failure> {
    match &args.namespace {
        Some(namespace) => from_marks(opened, namespace).await,
        None => ask(opened).await,
    }
}

async fn ask(opened: &Opened) -> Result<HubView, Failure> {
    let failed = |cause: HubError| match cause {
        cause @ HubError::Unauthorized { .. } => Failure::Auth {
            what: "the hub refused access".into(),
            cause: Box::new(cause),
        },
        cause => Failure::failed("cannot ask the hub; --offline leaves it out", cause),
    };
    let hub = AmqpHub::new(&opened.config.hub).map_err(failed)?;
    let properties = hub.properties().await.map_err(failed)?;
    let mut partitions = Vec::new();
    for partition in properties.partitions {
        let reach = hub.partition_properties(partition).await.map_err(failed)?;
        partitions.push((partition, Some(reach)));
    }
    Ok(HubView {
        identity: properties.identity,
        partitions,
    })
}

async fn from_marks(opened: &Opened, namespace: &str) -> Result<HubView, Failure> {
    let Some(hub) = opened.config.hub.hub.clone() else {
        let why = "must be given for --offline: the connection string is not read then";
        return Err(ConfigError::value("hub.hub", why).into());
    };
    let wanted = format!("{}/{namespace}/{hub}", opened.config.stamp);
    let mut newest = 0;
    let mut partitions = std::collections::BTreeSet::new();
    for (_, table) in opened.tables() {
        let Some(snapshot) = table.newest().await.map_err(unreadable)? else {
            continue;
        };
        for app in snapshot.marks().filter_map(|(app, _)| AppId::parse(app)) {
            if app.hub.eq_ignore_ascii_case(&wanted) {
                newest = newest.max(app.created_at_ms);
                partitions.insert(app.partition);
            }
        }
    }
    Ok(HubView {
        identity: HubIdentity {
            namespace: namespace.into(),
            hub: hub.into(),
            created_at_ms: newest,
        },
        partitions: partitions
            .into_iter()
            .map(|partition| (partition, None))
            .collect(),
    })
}

/// A store that cannot be read, with the exit code of what it said.
pub(crate) fn unreadable(cause: LakeError) -> Failure {
    match cause {
        cause @ LakeError::Denied { .. } => Failure::Auth {
            what: "the store refused access".into(),
            cause: Box::new(cause),
        },
        cause => Failure::failed("cannot read the tables", cause),
    }
}

/// Prints an answer as one JSON object.
pub(crate) fn print_json(answer: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(answer)
        .map_err(|cause| Failure::failed("cannot print the answer", cause))?;
    output::line(&text);
    Ok(())
}

/// Microseconds since 1970 as people write a time.
pub(crate) fn time(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |time| time.to_string())
}

/// The inverse, for arguments: RFC 3339.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|cause| format!("{text:?} is no time such as 2026-11-24T12:00:00Z: {cause}"))?;
    Ok(time.as_microsecond())
}

/// A partition's number in an argument.
pub(crate) fn parse_partition(text: &str) -> Result<PartitionId, String> {
    let number = text.parse().ok().and_then(PartitionId::new);
    number.ok_or_else(|| format!("{text:?} is no partition of a hub"))
}
