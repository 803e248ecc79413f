//! Where DPS, the hubs and the tables of a move are, and what opens them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stamp_consumer::ConfigError;
use stamp_iothub::{DpsClient, IotHubClient, ServiceConfig, ServiceError};
use stamp_lake::{Lake, StoreConfig};
use stamp_model::{StampId, TenantId};
use stamp_mover::{Doors, Lanes, Open, PeerPolicy, Plan, StampTables, TableSightings};
use stamp_placement::{Fleet, Stamp};
use stamp_resilience::{Observer, RetryPolicy};

use crate::exit::Failure;
use crate::fleet::usage::read_toml;

/// The doors of a move as this program opens them.
pub(super) type OpenDoors = Doors<IotHubClient, DpsClient, TableSightings>;
/// Its clients.
pub(super) type OpenClients = Open<IotHubClient, DpsClient, TableSightings>;

/// What `stampworks device` reads as `--services`: what opens DPS, the hubs and the tables. Holds no
/// secret, only where each is found. Files are relative to it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Services {
    /// The provisioning service, DPS.
    dps: ServiceConfig,
    /// What opens a stamp, by the stamp's id.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, StampServices>")]
    stamps: BTreeMap<StampId, StampServices>,
    /// Retry policies by peer; see docs/resilience.md.
    #[serde(default)]
    resilience: Resilience,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StampServices {
    /// Its IoT Hub.
    iot_hub: ServiceConfig,
    /// Its tables. The catalogue's `storage-root` with the workload identity when not given.
    store: Option<StoreConfig>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Resilience {
    /// For DPS and the IoT Hubs.
    #[serde(
        default = "RetryPolicy::iot_hub",
        deserialize_with = "RetryPolicy::over_iot_hub"
    )]
    iot_hub: RetryPolicy,
    /// For the tables.
    #[serde(
        default = "RetryPolicy::store",
        deserialize_with = "RetryPolicy::over_store"
    )]
    store: RetryPolicy,
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            iot_hub: RetryPolicy::iot_hub(),
            store: RetryPolicy::store(),
        }
    }
}

impl Services {
    /// Reads a services file. Makes no request.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let mut services: Self = read_toml(path)?;
        services.check()?;
        let base = path.parent().unwrap_or(Path::new(".")).to_owned();
        let stamps = services.stamps.values_mut().map(|stamp| &mut stamp.iot_hub);
        for service in stamps.chain(std::iter::once(&mut services.dps)) {
            for file in [
                &mut service.connection_string_file,
                &mut service.extra_ca_file,
            ] {
                *file = file.take().map(|file: PathBuf| base.join(file));
            }
        }
        Ok(services)
    }

    /// Checks everything that needs no secret and no network.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let service = |key: String, config: &ServiceConfig| {
            let checked = config.validate();
            checked
                .map_err(|cause| ConfigError::value(key, stamp_consumer::chain(&cause).to_string()))
        };
        service("dps".to_owned(), &self.dps)?;
        for (stamp, services) in &self.stamps {
            service(format!("stamps.{stamp}.iot-hub"), &services.iot_hub)?;
            let checked = services
                .store
                .as_ref()
                .map(StoreConfig::validate)
                .transpose();
            checked.map_err(|cause| {
                let key = format!("stamps.{stamp}.store");
                ConfigError::value(key, stamp_consumer::chain(&cause).to_string())
            })?;
        }
        let Resilience { iot_hub, store } = &self.resilience;
        for (key, policy) in [("iot-hub", iot_hub), ("store", store)] {
            let key = format!("resilience.{key}");
            let checked = policy.validate(&key);
            checked.map_err(|cause| ConfigError::value(&key, cause.to_string()))?;
        }
        Ok(())
    }

    /// How peers are called.
    pub(super) fn policy(&self, share_of_limits: f64) -> PeerPolicy {
        PeerPolicy {
            services: self.resilience.iot_hub.clone(),
            tables: self.resilience.store.clone(),
            share_of_limits,
            ..PeerPolicy::new(rand::random())
        }
    }

    /// A client of a stamp's hub.
    pub(super) fn hub(&self, stamp: &StampId) -> Result<IotHubClient, Failure> {
        let key = format!("stamps.{stamp}.iot-hub");
        let missing = || ConfigError::value(&key, "is not in the services file");
        let services = self.stamps.get(stamp).ok_or_else(missing)?;
        IotHubClient::new(&services.iot_hub).map_err(|cause| refused(&key, &cause))
    }

    /// Every door of a plan. Inside a runtime only.
    pub(super) fn doors(
        &self,
        fleet: &Fleet,
        plan: &Plan,
        policy: &PeerPolicy,
        observer: &Arc<dyn Observer>,
    ) -> Result<OpenDoors, Failure> {
        let open = self.open(fleet, plan)?;
        let doors = Doors::within(plan, open, policy, observer, &Lanes::default());
        doors.map_err(|cause| Failure::failed("the services do not fit the move", cause))
    }

    /// The clients of a plan. Inside a runtime only.
    pub(super) fn open(&self, fleet: &Fleet, plan: &Plan) -> Result<OpenClients, Failure> {
        let dps = DpsClient::new(&self.dps).map_err(|cause| refused("dps", &cause))?;
        let mut hubs = BTreeMap::new();
        let mut tables = BTreeMap::new();
        for stamp in std::iter::once(&plan.source.stamp).chain(plan.targets.keys()) {
            hubs.insert(stamp.clone(), self.hub(stamp)?);
            tables.insert(stamp.clone(), self.tables(fleet, plan, stamp)?);
        }
        Ok(Open {
            dps,
            hubs,
            sightings: TableSightings::new(tables),
        })
    }

    fn tables(&self, fleet: &Fleet, plan: &Plan, stamp: &StampId) -> Result<StampTables, Failure> {
        let key = format!("stamps.{stamp}.store");
        let given = self.stamps.get(stamp).and_then(|stamp| stamp.store.clone());
        let store = match (given, fleet.stamp(stamp)) {
            (Some(store), _) => store,
            (None, Some(stamp)) => of_catalogue(stamp),
            (None, None) => {
                let why = "must be given: the catalogue has no such stamp";
                return Err(ConfigError::value(&key, why).into());
            }
        };
        let handle = tokio::runtime::Handle::current();
        let lake = Lake::open(&store, handle).map_err(|cause| {
            Failure::from(ConfigError::value(
                &key,
                stamp_consumer::chain(&cause).to_string(),
            ))
        })?;
        let all = plan
            .devices
            .iter()
            .filter(|device| device.target == *stamp || plan.source.stamp == *stamp);
        let mut tenants: Vec<TenantId> = all.map(|device| device.tenant.clone()).collect();
        tenants.sort_unstable();
        tenants.dedup();
        Ok(StampTables { lake, tenants })
    }
}

fn of_catalogue(stamp: &Stamp) -> StoreConfig {
    let is_blob = stamp.storage_root.starts_with("az:");
    StoreConfig {
        workload_identity: is_blob,
        ..StoreConfig::new(stamp.storage_root.clone())
    }
}

fn refused(key: &str, cause: &ServiceError) -> Failure {
    ConfigError::value(key, stamp_consumer::chain(cause).to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_beside_the_services_file_and_unknown_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services.toml");
        let text = "[dps]\nconnection-string-file = \"dps.txt\"\nextra-ca-file = \"ca.pem\"\n\
            [stamps.weu-test.iot-hub]\nworkload-identity = true\nhost = \"h.example\"\n\
            [resilience.iot-hub]\nattempts-max = 3\n";
        std::fs::write(&file, text).unwrap();
        let services = Services::read(&file).unwrap();
        let beside = |name: &str| Some(folder.path().join(name));
        assert_eq!(services.dps.connection_string_file, beside("dps.txt"));
        assert_eq!(services.dps.extra_ca_file, beside("ca.pem"));
        assert_eq!(services.policy(0.5).services.attempts_max, 3);
        std::fs::write(&file, text.replace("host =", "hots =")).unwrap();
        let error = Services::read(&file).unwrap_err();
        assert_eq!(error.code(), 3);
        std::fs::write(&file, text.replace("attempts-max = 3", "attempts-max = 0")).unwrap();
        let error = stamp_consumer::chain(&Services::read(&file).unwrap_err()).to_string();
        assert!(error.contains("resilience.iot-hub"), "{error}");
    }
}
